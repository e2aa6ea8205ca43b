# SPDX-License-Identifier: Apache-2.0
"""Presets: YAML files that hold every value of a training run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from road_seg_node.listing import listed
from train.frames.augment import Augmentation, Crop
from train.network.model import BILINEAR, STRIDE, VGGFCN8

CHOICES = {
    "autocast": ("none", "bf16", "fp16"),
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
}
RESIZE = {"stretch": ("width", "height"), "keep_aspect": ("width",), "keep_area": ("pixels",)}
NUMBERS = {"int": int, "float": float}
# The smallest and the largest value of each number; a bound that is not reached itself is one of OPEN.
RANGES = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "learning_rate": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "epsilon": (0, math.inf),
    "weight_decay": (0, math.inf),
    "gradient_clip": (0, math.inf),
    "dice_weight": (0, 1),
    "dropout": (0, 1),
    "ema_decay": (0, 1),
    "workers": (0, math.inf),
    "seed": (0, math.inf),
    "frozen_blocks": (0, 5),
    "validation_share": (0, 1),
    "synthetic_share": (0, 1),
    "teacher_share": (0, 1),
}
OPEN = {
    "learning_rate": 0,
    "epsilon": 0,
    "dropout": 1,
    "ema_decay": 1,
    "synthetic_share": 1,
}
# Of the augmentation: what is changed by a share of itself would vanish or turn round at 1, and rates are shares.
SHARES = ("flip", "brightness", "contrast", "saturation", "blur", "noise", "grey")
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
    teacher: str
    teacher_share: float
    decoder_init: dict[str, float | str]
    dropout: float
    frozen_blocks: int
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

    @property
    def teacher_file(self) -> Path | None:
        return None if self.teacher == "none" else Path(self.teacher)

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
        # YAML takes 1e-4 for a text; a number is meant.
        numbers = {f.name: number(f.name, values[f.name], f.type) for f in fields(Preset) if f.type in NUMBERS}
        crops, view = crops_of(values["crops"]), augmentation_of(values["augmentation"])
        for name in ("resize", "decoder_init", "folder_weights"):
            if not isinstance(values[name], dict):
                raise ValueError(f"{name} must be a mapping of names to values")
        weights = {name: number(f"folder_weights of {name}", w) for name, w in values["folder_weights"].items()}
        if any(weight < 0 for weight in weights.values()):
            raise ValueError("folder_weights must be at least 0")
        decoder = {name: start_of(name, start) for name, start in values["decoder_init"].items()}
        mappings = {"decoder_init": decoder, "folder_weights": weights}
        preset = Preset(**{**values, **numbers, **mappings, "crops": crops, "augmentation": view})
        policy = preset.resize["policy"]
        if policy not in RESIZE:
            raise ValueError(f"resize.policy must be one of {', '.join(RESIZE)}")
        sizes = [preset.resize[name] for name in RESIZE[policy] if name != "pixels"]
        if policy == "keep_area" and number("resize.pixels", preset.resize["pixels"], "int") < STRIDE**2:
            raise ValueError(f"resize.pixels must be at least {STRIDE**2}")
        VGGFCN8.check(preset.width, preset.head, preset.decoder_init)
        for name, what in (("init", "imagenet, none or a file"), ("teacher", "none or a file")):
            if not isinstance(getattr(preset, name), str):
                raise ValueError(f"{name} must be {what}")
        if not isinstance(preset.batch_norm, bool):
            raise ValueError(f"batch_norm must be true or false, not {preset.batch_norm!r}")
        sizes += [v for crop in crops if not crop.whole for v in (crop.width, crop.height)]
        if any(type(size) is not int or size % 32 or size <= 0 for size in sizes):
            raise ValueError("sizes of the network and of crops must be multiples of 32")
        for name, choices in CHOICES.items():
            if getattr(preset, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}")
        for name, (low, high) in RANGES.items():
            value = getattr(preset, name)
            if not low <= value <= high or value == OPEN.get(name):
                upto = f" to {high:g}" if high < math.inf else ""
                without = f", without {OPEN[name]}" if name in OPEN else ""
                raise ValueError(f"{name} is {value:g}, but it must be from {low:g}{upto or ' on'}{without}")
        if preset.validation_share in (0, 1):
            raise ValueError("validation_share must be between 0 and 1")
    except KeyError as error:
        raise PresetError(f"{where}: the value {error} is missing.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise PresetError(f"{where}: {error}.") from None
    return preset


def number(name: str, value: Any, kind: str = "float") -> float | int:
    """A finite number of that kind; raises ValueError."""
    try:
        if isinstance(value, bool):
            raise ValueError
        found: float | int = NUMBERS[kind](value)
        if not math.isfinite(found) or found != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind == "int" else "a number"
        raise ValueError(f"{name} is {value!r}, but it must be {wanted}") from None
    return found


def start_of(name: str, value: Any) -> float | str:
    """How a layer of the decoder starts: "bilinear", or a standard deviation; raises ValueError."""
    return BILINEAR if value == BILINEAR else number(f"decoder_init of {name}", value)


def crops_of(values: Any) -> tuple[Crop, ...]:
    """The crops of a preset; raises KeyError, TypeError or ValueError."""
    if not isinstance(values, list) or not values:
        raise ValueError("crops must be a list of sizes")
    crops = tuple(Crop(**crop) for crop in values)
    for crop in crops:
        if number("a crop's share", crop.share) <= 0 or not isinstance(crop.whole, bool):
            raise ValueError("a crop's share must be above 0, and whole true or false")
    return crops


def augmentation_of(values: Any) -> Augmentation:
    """The augmentation of a preset; raises KeyError, TypeError or ValueError."""
    changes = dict(values)
    low, high = (number("scale", bound) for bound in changes.pop("scale"))
    if not 0 < low <= high:
        raise ValueError("scale must be a range of factors above 0, such as [0.8, 1.4]")
    found = Augmentation(scale=(low, high), **{name: number(name, value) for name, value in changes.items()})
    for name in changes:
        if getattr(found, name) < 0 or (name in SHARES and getattr(found, name) > 1):
            raise ValueError(f"{name} must be {'from 0 to 1' if name in SHARES else 'at least 0'}")
    return found


def load(name: str, changes: dict[str, Any]) -> Preset:
    """The preset `train/presets/<name>.yaml`, or the YAML file `name`, with `changes` applied."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(path.stem for path in listed(FOLDER, (".yaml",)))
        raise PresetError(f"There is no preset {path}. Presets are: {names}; or give a path that ends in .yaml.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PresetError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise PresetError(f"{path} must hold a mapping of names to values.")
    return from_dict({**values, **changes}, str(path))
