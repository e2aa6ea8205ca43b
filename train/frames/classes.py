# SPDX-License-Identifier: Apache-2.0
"""Which of a data set's classes are road: from label ids, colours or names to labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.frames.data_error import DataError
from train.labels import IGNORE

LABEL_OF = {"not_road": 0, "road": 1, "not_valid": IGNORE}
REFUSED = 254  # what a class gets that a description does not list
Class = int | tuple[int, int, int] | str  # an id, a colour in RGB, or a name


class Classes:
    """What a description says of its classes.

    Attributes:
        label_of: labels by class.
        rest: the label of every other class; REFUSED where such are mistakes.
        elsewhere: the label of pixels that no polygon covers.
        kind: of all classes: int, tuple or str.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """From the keys `road`, `not_road`, `not_valid` (lists), `rest` and `elsewhere`; raises ValueError."""
        self.label_of: dict[Class, int] = {}
        for name, label in LABEL_OF.items():
            listed = values.get(name, [])
            if not isinstance(listed, list):
                raise ValueError(f"{name} must be a list of ids, colours such as '#804080', or names")
            for item in map(_class_of, listed):
                if self.label_of.setdefault(item, label) != label:
                    raise ValueError(f"{item} is listed twice")
        if 1 not in self.label_of.values():
            raise ValueError("road must list at least one class")
        kinds = {type(item) for item in self.label_of}
        if len(kinds) > 1:
            raise ValueError("classes must all be ids, all be colours, or all be names")
        (self.kind,) = kinds
        self.rest, self.elsewhere = (
            _label(values, "rest", {"refused": REFUSED}),
            _label(values, "elsewhere", {}, default="not_road"),
        )

    @property
    def road(self) -> str:
        """The classes that are road, for a message."""
        return ", ".join(_text(item) for item, label in self.label_of.items() if label == 1)

    @property
    def known(self) -> str:
        """The classes, for a message."""
        return ", ".join(map(_text, self.label_of))

    def of_ids(self, ids: np.ndarray, path: Path) -> np.ndarray:
        """Labels uint8 [H, W] of ids, bool, uint8 or int32 of the same shape, which were read from `path`.

        Raises:
            DataError: ids that are not listed, where such are mistakes.
        """
        if ids.dtype == bool:  # 0 and 1, or 0 and 255: a picture of one bit is the same either way
            ids = ids * np.uint8(255 if 255 in self.label_of and 1 not in self.label_of else 1)
        if ids.dtype == np.uint8:
            labels = cv2.LUT(ids, np.array([self.label_of.get(i, self.rest) for i in range(256)], np.uint8))
        else:
            values, places = np.unique(ids, return_inverse=True)
            table = np.array([self.label_of.get(int(value), self.rest) for value in values], np.uint8)
            labels = table[places].reshape(ids.shape)
        self._refuse(labels, path, lambda row, column: int(ids[row, column]))
        return labels

    def of_colours(self, colours: np.ndarray, path: Path) -> np.ndarray:
        """As `of_ids`, of colours uint8 [H, W, 3] BGR."""
        packed = colours @ np.array([1, 1 << 8, 1 << 16], np.int32)
        labels = self._of_packed_colours[packed]
        self._refuse(labels, path, lambda row, column: tuple(int(value) for value in colours[row, column, ::-1]))
        return labels

    def of_name(self, name: str) -> int:
        """The label of a polygon's class, REFUSED where it is not listed and such are mistakes."""
        return self.label_of.get(name.strip().lower(), self.rest)

    @cached_property
    def _of_packed_colours(self) -> np.ndarray:
        table = np.full(1 << 24, self.rest, np.uint8)
        for item, label in self.label_of.items():
            assert isinstance(item, tuple)
            red, green, blue = item
            table[red << 16 | green << 8 | blue] = label
        return table

    def _refuse(self, labels: np.ndarray, path: Path, value: Any) -> None:
        if self.rest != REFUSED:
            return
        strange = labels == REFUSED
        if strange.any():
            row, column = np.argwhere(strange)[0]
            raise DataError(
                f"{path} has {_text(value(row, column))} at row {row}, column {column}, which its description does not "
                f"list. It has {self.known}; list it, or say what becomes of the rest."
            )


def _class_of(item: Any) -> Class:
    if isinstance(item, str) and item.startswith("#"):
        try:
            red, green, blue = bytes.fromhex(item[1:])
        except ValueError:
            raise ValueError(f"{item!r} is no colour such as '#804080'") from None
        return red, green, blue
    if isinstance(item, str) and item.strip():
        return item.strip().lower()
    if type(item) is int and item >= 0:
        return item
    raise ValueError(f"{item!r} is not a class: give an id, a colour such as '#804080', or a name")


def _label(values: Mapping[str, Any], key: str, more: dict[str, int], default: str = "refused") -> int:
    choices = LABEL_OF | more
    chosen = values.get(key, default)
    if not isinstance(chosen, str) or chosen not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}")
    return choices[chosen]


def _text(item: Class) -> str:
    if isinstance(item, tuple):
        return "#" + bytes(item).hex()
    return f"the class '{item}'" if isinstance(item, str) else f"the id {item}"
