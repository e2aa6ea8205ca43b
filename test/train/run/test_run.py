# SPDX-License-Identifier: Apache-2.0
"""Steps of a run: what stops it, and what a resume refuses."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from train import preset as presets
from train.frames.augment import Crop, CropBatches, Pair
from train.frames.threads import in_order
from train.interruption import SIGNALS, Interrupted, Interruption, answered
from train.network import checkpoint
from train.preset import Preset, PresetError
from train.run.distributed import Processes
from train.run.learner import Learner, new_network
from train.run.run import Run, TrainingError


def tiny_preset() -> Preset:
    values = {"width": 1 / 32, "epochs": 3, "batch_size": 4, "workers": 0, "autocast": "none"}
    return replace(presets.load("compact", values), crops=(Crop(64, 32, 1.0),))


def pairs(count: int) -> list[Pair]:
    """Road where it is bright."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 64, 3), np.uint8)
    return [(image, (image[..., 0] > 128).astype(np.uint8)) for image in images]


def run_of(preset: Preset, folder: Path, frames: list[Pair] | None = None) -> Run:
    frames = frames or pairs(12)
    weights = [1.0] * len(frames)
    data = CropBatches(
        frames, weights, preset.batch_size, preset.crops, preset.resize, preset.augmentation, preset.seed
    )
    learner = Learner(preset, new_network(preset), len(data), Processes(torch.device("cpu")))
    return Run(learner, data, {"noise": frames[:3]}, folder)


def test_no_number_for_a_loss_stops_the_run_and_spares_its_checkpoints(tmp_path: Path) -> None:
    run = run_of(tiny_preset(), tmp_path)
    run.train_epoch()
    run.end_epoch(0.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {checkpoint.BEST, checkpoint.LAST}
    with torch.no_grad():
        run.learner.network.score_top.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 2, batch 1\..*learning_rate.*best\.pt"):
        run.train()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_gradient_that_is_no_number_leaves_the_weights(tmp_path: Path) -> None:
    run = run_of(tiny_preset(), tmp_path)
    before = {name: value.clone() for name, value in run.learner.network.named_parameters()}
    next(run.learner.network.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradient became"):
        run.train()
    for name, value in run.learner.network.named_parameters():
        assert torch.equal(value, before[name]), f"{name} was changed"


def test_a_growing_loss_stops_the_run(tmp_path: Path) -> None:
    preset = replace(tiny_preset(), learning_rate=1e4, gradient_clip=1e9, epochs=100, batch_norm=True)
    with pytest.raises(TrainingError, match=r"(above 3 for 50 steps|became).*smaller learning_rate \(10000\)"):
        run_of(preset, tmp_path).train()


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"batch_size": 2}, {"seed": 2}])
def test_a_resume_with_another_preset_is_refused(change: dict[str, float], tmp_path: Path) -> None:
    run = run_of(tiny_preset(), tmp_path)
    run.save()
    path, state = checkpoint.newest_good(tmp_path)
    with pytest.raises(PresetError, match=next(iter(change))):
        run_of(replace(tiny_preset(), **change), tmp_path).resume(path, state)
    run_of(replace(tiny_preset(), workers=1), tmp_path).resume(path, state)


@pytest.mark.parametrize(("name", "batch_size"), [("seed", 4), ("kittiseg", 1), ("kittiseg", 3), ("best", 2)])
def test_the_recipes_learn_from_frames_of_mixed_sizes(name: str, batch_size: int, tmp_path: Path) -> None:
    """Made small: a thirty-second of the width and of the sizes, where a step is what the preset says."""
    values = {"width": 1 / 32, "epochs": 1, "batch_size": batch_size, "workers": 0, "autocast": "none", "init": "none"}
    recipe = presets.load(name, values)
    small = (
        {"policy": "stretch", "width": 96, "height": 32} if name == "seed" else {"policy": "keep_aspect", "width": 96}
    )
    crops = tuple(crop if crop.whole else replace(crop, width=64, height=32) for crop in recipe.crops)
    rng = np.random.default_rng(0)
    frames = []
    for height, width in ((37, 121), (37, 122), (60, 80), (71, 80)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        image[: height // 2] //= 4
        frames.append((image, np.arange(height)[:, None].repeat(width, 1) // (height // 2) > 0))
    frames = [(image, road.astype(np.uint8)) for image, road in frames]
    run = run_of(replace(recipe, resize=small, crops=crops), tmp_path, frames)
    first = {key: value.clone() for key, value in run.learner.network.state_dict().items()}
    run.train()
    averaged, last = run.learner.averaged.module.state_dict(), run.learner.network.state_dict()
    same = all(torch.equal(averaged[key], last[key]) for key in last)
    assert same == (recipe.ema_decay == 0)
    assert [key for key in last if torch.equal(last[key], first[key])] == [], "a layer did not learn"


def test_batches_that_do_not_come_end_the_run_before_anything_is_made_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_preset(), tmp_path)
    two = [*run.batches.made(0)][:2]
    monkeypatch.setattr(run.batches, "made", lambda threads: in_order(lambda batch: batch, two, threads))
    with pytest.raises(TrainingError, match="Epoch 1 ended after 2 of 3 batches"):
        run.train()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_only_where_no_other_process_waits(number: signal.Signals) -> None:
    """And what comes after that is ignored, so that the program ends with its sentence."""
    alone, among_others = Interruption(alone=True), Interruption(alone=False)
    handlers = {ignored: signal.getsignal(ignored) for ignored in SIGNALS}
    with pytest.raises(Interrupted), answered(alone.note):
        signal.raise_signal(number)
        assert alone.signal_number == number
        signal.raise_signal(number)
    for ignored, handler in handlers.items():
        assert signal.getsignal(ignored) == signal.SIG_IGN
        signal.signal(ignored, handler)
    with answered(among_others.note):
        for _ in range(3):
            signal.raise_signal(number)
    assert among_others.signal_number == number
    assert signal.getsignal(number) == handlers[number]
