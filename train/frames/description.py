# SPDX-License-Identifier: Apache-2.0
"""Data sets as a YAML file describes them: where images and ground truth lie, what is road, which drives and splits.

The files in `descriptions/` are such; docs/data.md explains the keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from road_seg_node.listing import counted, is_hidden
from train.frames.classes import Classes
from train.frames.data_error import DataError

FOLDER = Path(__file__).parent / "descriptions"
TRUTHS = ("masks", "polygons", "coco")  # of which a description has one
KEYS = {*TRUTHS, "images", "drive", "training", "validation", "road", "not_road", "not_valid", "rest", "elsewhere"}
PLACEHOLDER = re.compile(r"\{([a-zA-Z_]\w*)(?::((?:[^{}]|\{[\d,]+\})+))?\}|(\*)|([^{}*]+)")


class Pattern:
    """A path with named parts, such as `images/{split}/{drive}_{frame}.png`; `*` is a part without a name.

    A part takes as much as it can, at least one character, and never a slash; or what a regular expression says, as of
    `{frame:[0-9]+}`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        if PLACEHOLDER.sub("", text):
            raise ValueError(f"{text} is not a valid pattern: a part is {{name}} or {{name:regular expression}}")
        if "**" in text:
            raise ValueError(f"{text} is not a valid pattern: name each folder: {{drive}}/{{camera}}")
        glob = regex = ""
        for name, expression, star, plain in PLACEHOLDER.findall(text):
            if "\\" in plain:
                raise ValueError(f"{text} is not a valid pattern: write / between folders")
            glob += plain.replace("[", "[[]").replace("?", "[?]") if plain else "*"
            if name and name not in self.names:
                self.names.append(name)
                regex += f"(?P<{name}>{expression or '[^/]+'})"
            else:
                regex += f"(?P={name})" if name else "[^/]+" if star else re.escape(plain)
        try:
            self.regex = re.compile(regex, re.IGNORECASE)  # endings in either case
        except re.error as error:
            raise ValueError(f"{text} is not a valid pattern: {error}") from None
        self.glob = re.sub(r"\*+", "*", re.sub(r"\.\w+$", ".*", glob))

    def find(self, folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
        """The files that fit, with their parts, frame2 before frame10; not hidden ones.

        Raises:
            DataError: a folder on the way cannot be read, which a glob would pass over.
        """
        ways = self.glob.split("/")[:-1]
        for depth in range(len(ways) + 1):
            for inner in folder.glob("/".join(ways[:depth])) if depth else (folder,):
                if inner.is_dir() and not os.access(inner, os.R_OK | os.X_OK):
                    raise DataError(f"{inner} cannot be read; you may not look into it.")
        for path in sorted(folder.glob(self.glob), key=lambda path: (path.parent, counted(path))):
            name = path.relative_to(folder).as_posix()
            parts = self.regex.fullmatch(name)
            if parts and not any(map(is_hidden, name.split("/"))):
                yield parts.groupdict(), path


@dataclass(frozen=True, eq=False)
class Description:
    """What a YAML file says.

    Attributes:
        name: of the file.
        kind: of ground truth: "masks", "polygons" (a JSON file for each image) or "coco" (one for all).
        images, truths: patterns; None of a COCO file, which names its images.
        classes: what is road.
        drive: of the images' parts; None for what stands before the number in an image's name.
        training, validation: by part, the values that frames of a split have; None where nothing is said.
        digest: of everything that decides how ground truth is read.
    """

    name: str
    kind: str
    images: Pattern | None
    truths: Pattern | None
    classes: Classes
    drive: str | None
    training: dict[str, list[str]] | None
    validation: dict[str, list[str]] | None
    digest: str

    def split_of(self, parts: dict[str, str]) -> str | None:
        """Of an image's parts: "training", "validation", or None for neither."""
        if self.validation is not None and _meets(parts, self.validation):
            return "validation"
        return "training" if self.training is None or _meets(parts, self.training) else None


def shipped() -> list[str]:
    """The names of the descriptions that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Description:
    """The description `descriptions/<name>.yaml`, or the YAML file `name`.

    Raises:
        DataError: there is none, or it does not describe a data set.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        values, node = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except FileNotFoundError:
        raise DataError(
            f"There is no description {path} of a data set. There are {', '.join(shipped())}; or give a file that ends "
            "in .yaml."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not YAML; put what has braces or # into quotes, and spaces instead of tabs: {error}"
        ) from None
    try:
        keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{twice[0]} is there twice, of which YAML would take the last")
        return _described(path.stem, values)
    except ValueError as error:
        raise DataError(f"{path}: {error}. See docs/data.md.") from None


def _described(name: str, values: Any) -> Description:
    """Raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError("it must hold a mapping of keys to values")
    if unknown := sorted(map(str, values.keys() - KEYS)):
        raise ValueError(f"unknown key(s) {', '.join(unknown)}")
    kinds = [kind for kind in TRUTHS if kind in values]
    if len(kinds) != 1:
        raise ValueError(f"it must have one of {', '.join(TRUTHS)}")
    (kind,) = kinds
    classes = Classes(values)
    if (classes.kind is str) != (kind != "masks"):
        raise ValueError("classes of polygons are names, those of masks ids or colours")
    images = truths = None
    if kind != "coco":
        images, truths = (_pattern(values, key) for key in ("images", kind))
        if not truths.names or set(truths.names) - set(images.names):
            raise ValueError(f"{kind} must share parts such as {{frame}} with images, and have no others")
    parts = set(images.names) if images else set()
    drive = values.get("drive", "{drive}" if "drive" in parts else None)
    if drive is not None and not _names(drive, parts):
        raise ValueError("drive must be made of parts of images, such as '{city}_{sequence}'")
    return Description(
        name=name,
        kind=kind,
        images=images,
        truths=truths,
        classes=classes,
        drive=drive,
        training=_conditions(values, "training", parts),
        validation=_conditions(values, "validation", parts),
        digest=hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest(),
    )


def _pattern(values: dict[str, Any], key: str) -> Pattern:
    text = values.get(key)
    if not isinstance(text, str) or not text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{key} must be a path in the data set's folder, such as images/{{frame}}.png")
    return Pattern(posixpath.normpath(text))


def _names(drive: Any, parts: set[str]) -> bool:
    """Whether a drive's name can be made of an image's parts."""
    try:
        return isinstance(drive, str) and drive.format(**dict.fromkeys(parts, "")) != drive
    except (ValueError, LookupError, AttributeError):
        return False


def _conditions(values: dict[str, Any], key: str, parts: set[str]) -> dict[str, list[str]] | None:
    conditions = values.get(key)
    if conditions is None:
        return None
    if not isinstance(conditions, dict) or not conditions or set(conditions) - parts:
        raise ValueError(f"{key} must say which values of which parts of images, such as {{split: train}}")
    found = {part: wanted if isinstance(wanted, list) else [wanted] for part, wanted in conditions.items()}
    if any(isinstance(value, (dict, list)) or value is None for wanted in found.values() for value in wanted):
        raise ValueError(f"{key} must say which values of which parts of images, such as {{split: train}}")
    return {part: [str(value) for value in wanted] for part, wanted in found.items()}


def _meets(parts: dict[str, str], conditions: dict[str, list[str]]) -> bool:
    return all(parts[part] in values for part, values in conditions.items())
