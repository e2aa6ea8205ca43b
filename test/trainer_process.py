# SPDX-License-Identifier: Apache-2.0
"""The trainer in a process of its own, on a network and frames that take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import fork_server
import numpy as np
import torch
import yaml
from kitti_folder import GROUND_TRUTH_COLOURS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train import preset as presets

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "train" / "train.py"
COMMAND = [sys.executable, str(TRAIN)]
QUICK = [sys.executable, str(ROOT / "test" / "quick_trainer.py")]  # the same, but with the graphs of exported_graphs.py
LIMIT = 600  # seconds; far more than any run here needs
SIZES = ((40, 96), (30, 40), (64, 48))  # height, width


def train(*options: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs the trainer to its end, with the graphs of exported_graphs.py."""
    return fork_server.TRAINER.run(TRAIN, *options, cwd=cwd, timeout=LIMIT)


def train_by_itself(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the trainer to its end in an interpreter that is started for it, with the exporter as it is."""
    command = [*COMMAND, *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


def write_tiny_preset(path: Path, **changes: Any) -> Path:
    """The shipped preset made small: two short epochs of a network of a sixteenth of the width."""
    values = presets.load("compact", {}).as_dict()
    values |= {"width": 1 / 16, "epochs": 2, "batch_size": 4, "workers": 0, "autocast": "none"}
    values |= {"resize": {"policy": "keep_aspect", "width": 96}, "synthetic_share": 0.2, "validation_share": 0.34}
    values["crops"] = [{"width": 96, "height": 64, "share": 1.0}]
    path.write_text(yaml.safe_dump(values | changes))
    return path


def add_road_frame(folder: Path, number: int, drive: str = "um") -> None:
    """A bright triangle of road on noise; no two frames are alike, and they have three sizes."""
    rng = np.random.default_rng(number)
    height, width = SIZES[number % len(SIZES)]
    image = rng.integers(0, 120, (height, width, 3), np.uint8)
    corners = np.array([[0, height - 1], [width - 1, height - 1], [rng.integers(0, width), height // 3]])
    truth = np.full((height, width, 3), GROUND_TRUTH_COLOURS["not road"], np.uint8)
    cv2.fillPoly(truth, [corners], GROUND_TRUTH_COLOURS["road"])
    image[truth[..., 0] > 0] += 100
    truth[:3] = GROUND_TRUTH_COLOURS["not valid"]
    pictures = {"image_2": (f"{drive}_{number:06}.png", image), "gt_image_2": (f"{drive}_road_{number:06}.png", truth)}
    for kind, (name, picture) in pictures.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / kind / name), picture)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights, averaged weights, and the optimizer's."""
    state = torch.load(checkpoint, weights_only=True)
    tensors = {f"{part}.{name}": value for part in ("network", "averaged") for name, value in state[part].items()}
    for i, moments in state["optimizer"]["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
    return tensors


def assert_same_weights(checkpoint: Path, other: Path) -> None:
    """Bit for bit."""
    one, two = weights(checkpoint), weights(other)
    assert one.keys() == two.keys()
    differing = [name for name, value in one.items() if not torch.equal(value, two[name])]
    assert not differing, f"{differing} differ"


def curve(run: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a curve in TensorBoard's events."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]
