# SPDX-License-Identifier: Apache-2.0
"""Steps: what the parts of a batch add up to, and where randomness comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from train import preset as presets
from train.labels import CERTAIN, IGNORE
from train.network.loss import count_valid, road_loss, road_sums
from train.preset import Preset, PresetError
from train.run.distributed import Processes
from train.run.learner import Learner, autocast_dtype, new_network

CPU = Processes(torch.device("cpu"))


def preset(**changes: object) -> Preset:
    values = {"width": 1 / 16, "batch_size": 10, "autocast": "none", "batch_norm": False, "dice_weight": 0.0}
    return presets.load("compact", values | changes)


def learner_of(preset: Preset, processes: Processes = CPU, micro_batch: int | None = None) -> Learner:
    return Learner(preset, new_network(preset), 1, processes, micro_batch)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten frames whose numbers of valid pixels differ widely."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (10, 3, 32, 64), dtype=torch.uint8, generator=rng)
    targets = (images[:, 0] > 100).to(torch.uint8) * CERTAIN
    for i in range(10):
        targets[i, : 3 * i] = IGNORE
    return images, targets


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in learner.network.named_parameters() if p.grad is not None}


def test_the_loss_is_the_mean_cross_entropy_of_valid_pixels() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(10, 2, 32, 64), batch()[1]
    loss = road_loss(road_sums(logits, targets, dice=False), count_valid(targets), 1.0, dice_weight=0.0)
    labels = torch.where(targets == IGNORE, IGNORE, targets // CERTAIN).long()
    torch.testing.assert_close(loss, functional.cross_entropy(logits, labels, ignore_index=IGNORE))


def test_a_graded_target_is_best_answered_with_itself() -> None:
    targets = torch.full((1, 8, 8), 3 * CERTAIN // 4, dtype=torch.uint8)
    difference = torch.linspace(-4, 4, 801)
    losses = [
        float(road_loss(road_sums(logits, targets, dice=False), count_valid(targets), 1.0, dice_weight=0.0))
        for d in difference
        for logits in [torch.stack([torch.zeros(1, 8, 8), d.expand(1, 8, 8)], 1)]
    ]
    best = float(torch.sigmoid(difference[int(np.argmin(losses))]))
    assert best == pytest.approx(float(targets[0, 0, 0]) / CERTAIN, abs=0.003)


def test_dice_is_nothing_where_all_road_is_found() -> None:
    targets = batch()[1]
    logits = torch.stack([50.0 * (targets != CERTAIN), 50.0 * (targets == CERTAIN)], 1)
    for truth, expected in ((targets, 0.0), ((targets == 0).to(torch.uint8) * CERTAIN, 1.0)):
        assert float(road_loss(road_sums(logits, truth, dice=True), count_valid(truth), 1.0, 1.0)) == pytest.approx(
            expected, abs=0.01
        )


def test_a_batch_without_a_valid_pixel_teaches_nothing() -> None:
    learner = learner_of(preset())
    images, labels = batch()
    assert learner.step(images, torch.full_like(labels, IGNORE), 0, 0) == 0
    assert not any(gradient.any() for gradient in gradients(learner).values())


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 10, 99])
def test_accumulated_parts_give_the_gradient_of_the_whole_batch(micro_batch: int) -> None:
    whole, parted = learner_of(preset()), learner_of(preset(), CPU, micro_batch)
    seen: list[int] = []
    parted.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    images, labels = batch()
    losses = [learner.step(images, labels, 0, 0) for learner in (whole, parted)]
    assert max(seen) <= micro_batch and sum(seen) == 10
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    expected = gradients(whole)
    for name, gradient in gradients(parted).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_parts_of_dice_are_averaged_by_their_frames() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(10, 2, 32, 64), batch()[1]
    parts = [(logits[:7], labels[:7]), (logits[7:], labels[7:])]
    valid = count_valid(labels)
    losses = [float(road_loss(road_sums(*part, dice=True), valid, len(part[1]) / 10, 1.0)) for part in parts]
    alone = [float(road_loss(road_sums(*part, dice=True), valid, 1.0, 1.0)) for part in parts]
    assert sum(losses) == pytest.approx(0.7 * alone[0] + 0.3 * alone[1])


def test_dropout_depends_on_the_place_in_the_run_alone() -> None:
    fc = preset(head="fc", width=1 / 32, dropout=0.5)
    images, labels = batch()

    def loss(epoch: int, step: int) -> float:
        learner = learner_of(fc)
        torch.manual_seed(torch.seed())  # what was drawn before must not matter
        return learner.step(images, labels, epoch, step)

    assert loss(1, 2) == loss(1, 2)
    assert len({loss(1, 2), loss(1, 3), loss(2, 2)}) == 3


def test_bf16_is_for_what_has_instructions_for_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    able = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})  # Linux's names for them
    assert autocast_dtype("bf16", torch.device("cpu")) == (torch.bfloat16 if able else None)
    assert autocast_dtype("bf16", torch.device("cuda")) == torch.bfloat16
    assert autocast_dtype("none", torch.device("cuda")) is None


def test_a_batch_that_cannot_be_shared_is_a_sentence() -> None:
    with pytest.raises(PresetError, match="batch of 10 frames cannot be shared equally by 4 processes"):
        learner_of(preset(), replace(CPU, count=4))
    with pytest.raises(PresetError, match="--micro-batch is 0"):
        learner_of(preset(), CPU, 0)
