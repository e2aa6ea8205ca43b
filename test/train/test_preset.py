# SPDX-License-Identifier: Apache-2.0
"""The recipes: complete files, whose values are those of their sources."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from train import preset as presets
from train.frames.augment import Crop
from train.frames.drives import split_validation
from train.frames.frame import Frame
from train.network.model import SCORES, UPSAMPLINGS, VGGFCN8, upsampling
from train.preset import Preset, PresetError
from train.run.optimizer import optimizer, schedule

NAMES = sorted(path.stem for path in presets.FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_holds_every_value_and_states_its_source(name: str) -> None:
    text = (presets.FOLDER / f"{name}.yaml").read_text()
    assert text.startswith(f"# {name}: ")
    assert {"# source", "# data", "# reached"} <= {line[: line.find("  ")] for line in text.splitlines()}
    assert yaml.safe_load(text).keys() == {field.name for field in fields(Preset)}
    preset = presets.load(name, {})
    assert presets.from_dict(preset.as_dict(), "again") == preset


def test_the_seeds_recipe_to_the_letter() -> None:
    preset = presets.load("seed", {})
    assert preset.resize == {"policy": "stretch", "width": 576, "height": 160}
    assert (preset.width, preset.batch_norm, preset.head, preset.init) == (1.0, False, "fc", "imagenet")
    assert set(preset.decoder_init.values()) == {1e-3}
    assert (preset.optimizer, preset.learning_rate, preset.schedule, preset.warmup_epochs) == (
        "adam",
        1e-4,
        "constant",
        0,
    )
    assert (preset.batch_size, preset.epochs) == (10, 20)
    # Cross-entropy of the network's own weights on frames as they are, and nothing else.
    assert preset.crops == (Crop(whole=True),)
    nothing = (preset.dropout, preset.weight_decay, preset.gradient_clip, preset.dice_weight, preset.ema_decay)
    assert set(nothing) == {0.0} and preset.synthetic_share == 0
    changes = dict(vars(preset.augmentation))
    assert changes.pop("scale") == (1.0, 1.0) and set(changes.values()) == {0.0}


@pytest.mark.parametrize("name", ["kittiseg", "best"])
def test_of_kitti_road_the_last_sixteen_of_each_category_are_held_out(name: str) -> None:
    counts = {"um": 95, "umm": 96, "uu": 98}  # KITTI Road's training images
    nowhere = Path()
    frames = [
        Frame(nowhere, drive, f"{i:06}", nowhere, nowhere) for drive, count in counts.items() for i in range(count)
    ]
    training, held = split_validation(frames, presets.load(name, {}).validation_share)
    assert (len(training), len(held)) == (241, 48)
    for drive, first in (("um", 79), ("umm", 80), ("uu", 82)):
        assert [int(f.number) for f in held if f.drive == drive] == list(range(first, first + 16))


def test_kittisegs_recipe() -> None:
    preset = presets.load("kittiseg", {})
    assert (preset.optimizer, preset.learning_rate, preset.epsilon, preset.schedule) == ("adam", 1e-5, 1e-5, "constant")
    assert (preset.weight_decay, preset.gradient_clip, preset.dropout, preset.batch_size) == (5e-4, 1.0, 0.5, 1)
    assert preset.epochs * 241 == pytest.approx(12_000, rel=0.01)
    assert preset.decoder_init["score_top"] == pytest.approx((2 / 4096) ** 0.5, rel=0.01)


def test_the_decoder_starts_as_a_preset_says() -> None:
    network = VGGFCN8(1 / 4, head="pool5")
    network.reset_decoder({"score_top": 0.1, "score_pool4": 0.01, "score_pool3": 0.001, "upsampling": 0.2})
    for name, std in zip((*SCORES, "up32"), (0.1, 0.01, 0.001, 0.2), strict=True):
        weight = getattr(network, name).weight.detach()
        assert weight.abs().max() <= 2 * std
        assert weight.std() == pytest.approx(0.88 * std, rel=0.2)  # of a normal that is cut at two deviations
    network.reset_decoder(dict.fromkeys((*SCORES, "upsampling"), 0))
    assert not network.score_top.weight.any() and not network.up32.weight.any()
    network.reset_decoder(presets.load("kittiseg", {}).decoder_init)
    for name, stride in zip(UPSAMPLINGS, (2, 2, 8), strict=True):
        assert torch.equal(getattr(network, name).weight, upsampling(stride).weight)


def tiny(**changes: Any) -> Preset:
    return presets.load("compact", {"width": 1 / 16} | changes)


def test_adam_decays_weights_within_the_gradient_and_adamw_apart_from_it() -> None:
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        network = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
        made = optimizer(network, tiny(optimizer=name, epsilon=1e-5, weight_decay=0.1, learning_rate=0.5))
        assert type(made) is kind and made.defaults["eps"] == 1e-5
        decayed = {id(p) for group in made.param_groups if group["weight_decay"] == 0.1 for p in group["params"]}
        assert decayed == {id(p) for name, p in network.named_parameters() if p.ndim == 4}
        assert sum(len(group["params"]) for group in made.param_groups) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("name", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1]),
        ("constant", 1, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("cosine", 0, [1, 0.933, 0.75, 0.5, 0.25, 0.067]),
    ],
)
def test_the_learning_rate_over_two_epochs_of_three_steps(name: str, warmup: int, expected: list[float]) -> None:
    preset = tiny(schedule=name, warmup_epochs=warmup, epochs=2, learning_rate=1.0)
    made = optimizer(VGGFCN8(1 / 16, head="pool5"), preset)
    over = schedule(made, preset, epoch_steps=3)
    rates = []
    for _ in expected:
        rates.append(made.param_groups[0]["lr"])
        made.step()
        over.step()
    assert rates == pytest.approx(expected, abs=1e-3)


AUGMENTATION = presets.load("compact", {}).as_dict()["augmentation"]
WRONG = [
    ({"wide": 0.5}, "wide"),
    ({"autocast": "int8"}, "autocast must be none or bf16 or fp16"),
    ({"optimizer": "sgd"}, "optimizer must be adam or adamw"),
    ({"schedule": "linear"}, "schedule must be constant or cosine"),
    ({"crops": [{"width": 100, "height": 64, "share": 1}]}, "multiples of 32"),
    ({"crops": []}, "crops"),
    ({"head": "pool4"}, "pool4"),
    ({"width": 2}, "width"),
    ({"dropout": 1.0}, "dropout"),
    ({"resize": {"policy": "stretch", "width": 576}}, "height"),
    ({"learning_rate": "fast"}, "fast"),
    ({"decoder_init": {"score_top": 0.01}}, "decoder_init must hold score_top, score_pool4, score_pool3, upsampling"),
    ({"decoder_init": dict.fromkeys((*SCORES, "upsampling"), "bilinear")}, "'bilinear' for score_"),
    ({"decoder_init": [0.1]}, "decoder_init must be a mapping"),
    ({"decoder_init": dict.fromkeys((*SCORES, "upsampling"), -0.01)}, "-0.01 for score_pool3, but .* deviation"),
    ({"decoder_init": dict.fromkeys((*SCORES, "upsampling"), float("nan"))}, "decoder_init of score_pool3 is nan"),
    ({"learning_rate": -1}, "learning_rate is -1"),
    ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ({"epsilon": 0}, "epsilon is 0"),
    ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ({"gradient_clip": -1}, "gradient_clip is -1"),  # it would turn the gradient round
    ({"dice_weight": 2}, "dice_weight is 2"),  # the cross-entropy would count against
    ({"workers": -1}, "workers is -1"),
    ({"seed": -1}, "seed is -1"),
    ({"epochs": 1.5}, "epochs is 1.5, but it must be a whole number"),
    ({"validation_share": 1}, "validation_share must be between"),
    ({"batch_norm": "x"}, "batch_norm must be true or false"),
    ({"folder_weights": {"a": "x"}}, "folder_weights of a is 'x'"),
    ({"folder_weights": {"a": -1}}, "folder_weights must be at least 0"),
    ({"crops": [{"whole": "no", "share": 1}]}, "whole true or false"),
    ({"crops": [{"whole": True, "share": 0}]}, "share must be above 0"),
    ({"crops": [{"whole": True, "share": "x"}]}, "share is 'x'"),
    ({"resize": {"policy": "keep_aspect", "width": 64.0}}, "multiples of 32"),
    ({"resize": "stretch"}, "resize must be a mapping"),
    ({"augmentation": AUGMENTATION | {"scale": [0, 1]}}, "scale must be a range"),
    ({"augmentation": AUGMENTATION | {"scale": [2, 1]}}, "scale must be a range"),
    ({"augmentation": AUGMENTATION | {"aspect": -2}}, "aspect must be at least 0"),
    ({"augmentation": AUGMENTATION | {"flip": 2}}, "flip must be from 0 to 1"),
    ({"augmentation": AUGMENTATION | {"mirror": 1}}, "mirror"),
]


@pytest.mark.parametrize(("change", "named"), WRONG)
def test_a_preset_with_a_wrong_value_is_named(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(presets.load("compact", {}).as_dict() | change))
    with pytest.raises(PresetError, match=f"{path}.*{named}"):
        presets.load(str(path), {})


def test_a_preset_that_is_no_text_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PresetError, match="binary.yaml is not YAML"):
        presets.load(str(path), {})


def test_a_number_that_yaml_takes_for_a_text_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text(yaml.safe_dump(presets.load("compact", {}).as_dict() | {"learning_rate": "1e-3"}))
    assert presets.load(str(path), {}).learning_rate == 0.001
    small = dict.fromkeys((*SCORES, "upsampling"), "1e-3")
    path.write_text(yaml.safe_dump(presets.load("compact", {}).as_dict() | {"decoder_init": small}))
    assert set(presets.load(str(path), {}).decoder_init.values()) == {0.001}
