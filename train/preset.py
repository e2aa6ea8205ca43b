# SPDX-License-Identifier: Apache-2.0
"""Presets: YAML files that hold every value of a training run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from train.augment import Augmentation, Crop
from train.model import VGGFCN8

CHOICES = {
    "autocast": ("none", "bf16", "fp16"),
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
}
NUMBERS = {"int": int, "float": float}
FOLDER = Path(__file__).parent / "presets"


class PresetError(ValueError):
    """A preset that is missing or wrong; the message names the file and the value."""


@dataclass(frozen=True)
class Preset:
    """What a run is made of; the files in `train/presets/` explain each value."""

    width: float
    batch_norm: bool
    head: str
    init: str
    decoder_init: dict[str, float | str]
    dropout: float
    resize: dict[str, Any]
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    warmup_epochs: float
    epsilon: float
    weight_decay: float
    gradient_clip: float
    dice_weight: float
    ema_decay: float
    autocast: str
    workers: int
    seed: int
    validation_share: float
    synthetic_share: float
    folder_weights: dict[str, float]
    crops: tuple[Crop, ...]
    augmentation: Augmentation

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them and YAML and JSON hold them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def from_dict(values: dict[str, Any], where: str) -> Preset:
    """A preset from plain values.

    Raises:
        PresetError: a key is missing, unknown, or holds what it cannot.
    """
    known, given = {f.name for f in fields(Preset)}, set(values)
    for wrong, word in ((given - known, "unknown"), (known - given, "missing")):
        if wrong:
            raise PresetError(f"{where}: {word} value(s) {', '.join(sorted(wrong))}.")
    try:
        augmentation = dict(values["augmentation"])
        low, high = augmentation.pop("scale")
        augmentation = {name: float(value) for name, value in augmentation.items()}
        crops = tuple(Crop(**crop) for crop in values["crops"])
        # YAML takes 1e-4 for a text; a number is meant.
        numbers = {f.name: NUMBERS[f.type](values[f.name]) for f in fields(Preset) if f.type in NUMBERS}
        view = Augmentation(scale=(float(low), float(high)), **augmentation)
        preset = Preset(**{**values, **numbers, "crops": crops, "augmentation": view})
        policy = preset.resize["policy"]
        if policy not in ("stretch", "keep_aspect"):
            raise ValueError("resize.policy must be stretch or keep_aspect")
        sizes = [preset.resize["width"]] + ([preset.resize["height"]] if policy == "stretch" else [])
        VGGFCN8.check(preset.width, preset.head, preset.decoder_init)
        if not isinstance(preset.init, str):
            raise ValueError("init must be imagenet, none or a file")
        if not crops or not isinstance(preset.folder_weights, dict):
            raise ValueError("crops must be a list of sizes, and folder_weights a mapping of names to numbers")
        sizes += [v for crop in crops if not crop.whole for v in (crop.width, crop.height)]
        if any(size % 32 or size <= 0 for size in sizes):
            raise ValueError("sizes of the network and of crops must be multiples of 32")
        for name, choices in CHOICES.items():
            if getattr(preset, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}")
        if preset.epochs < 1 or preset.batch_size < 1:
            raise ValueError("epochs and batch_size must be at least 1")
        if not 0 <= preset.dropout < 1 or not 0 <= preset.ema_decay < 1:
            raise ValueError("dropout and ema_decay must be fractions of 1")
        if not 0 <= preset.synthetic_share < 1 or not 0 < preset.validation_share < 1:
            raise ValueError("synthetic_share and validation_share must be fractions of 1")
    except KeyError as error:
        raise PresetError(f"{where}: the value {error} is missing.") from None
    except (TypeError, ValueError) as error:
        raise PresetError(f"{where}: {error}.") from None
    return preset


def load(name: str, changes: dict[str, Any]) -> Preset:
    """The preset `train/presets/<name>.yaml`, or the YAML file `name`, with `changes` applied."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise PresetError(f"There is no preset {path}. Presets are: {names}; or give a path that ends in .yaml.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise PresetError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise PresetError(f"{path} must hold a mapping of names to values.")
    return from_dict({**values, **changes}, str(path))
