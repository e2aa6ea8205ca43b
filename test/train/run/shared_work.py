# SPDX-License-Identifier: Apache-2.0
"""What test_distributed.py lets one process do, and two: shared_work.py FILE, by python or by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from train import preset as presets
from train.run.distributed import Processes, joined, leave
from train.run.learner import Learner, new_network
from train.run.validation import validate

STEPS, FRAMES, HELD = 4, 8, 5

# In float64, rounding cannot hide a mistake: in float32 training makes much of the last bit within some thirty steps.
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # type: ignore[assignment,method-assign]


def losses_and_gradients(processes: Processes, micro_batch: int | None, **changes: Any) -> dict[str, Any]:
    """Of steps on this process's share of batches; gradients and batch norm's averages after the first."""
    values = {"width": 1 / 16, "batch_size": FRAMES, "autocast": "none", "warmup_epochs": 0.0}
    preset = presets.load("compact", values | changes)
    learner = Learner(preset, new_network(preset), STEPS, processes, micro_batch)
    rng, share = np.random.default_rng(0), FRAMES // processes.count
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    losses: list[float] = []
    for step in range(STEPS):
        images = torch.from_numpy(rng.integers(0, 256, (FRAMES, 3, 64, 96), np.uint8))
        labels = (images[:, 0] > 128).long()
        labels[: FRAMES // 2, :50] = 255  # the shares have not the same number of valid pixels
        losses.append(learner.step(images[own], labels[own], 0, step))
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in learner.network.named_parameters() if p.grad is not None}
            averages = {name: value.clone() for name, value in learner.network.named_buffers()}
    return {"losses": losses, "gradients": gradients, "averages": averages}


def counts(processes: Processes) -> list[list[list[int]]]:
    """Of two data sets, of which the second has a frame for the first process alone."""
    preset = presets.load("compact", {})
    rng = np.random.default_rng(0)
    frames = [(rng.integers(0, 256, (40, 60, 3), np.uint8), rng.integers(0, 2, (40, 60))) for _ in range(HELD)]
    share = slice(processes.rank, None, processes.count)
    sets = {"some": frames[share], "one": frames[:1][share]}
    found = validate(new_network(preset), preset.resize, sets, processes)
    return [[c.road.tolist(), c.other.tolist()] for c in found.values()]


def main() -> None:
    with joined() as processes:
        work = {
            "whole": losses_and_gradients(processes, None),
            "parts": losses_and_gradients(processes, 2, batch_norm=False, dice_weight=0.0),
            "counts": counts(processes),
            "processes": processes.count,
        }
        if processes.first:
            torch.save(work, sys.argv[1])
    leave(0)


if __name__ == "__main__":
    main()
