# SPDX-License-Identifier: Apache-2.0
"""What `--data` takes: a folder in KITTI's layout, or DESCRIPTION:PLACE for any other data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from train.frames import description
from train.frames.data_error import DataError
from train.frames.described import find_described
from train.frames.description import Description
from train.frames.frame import Frame
from train.frames.kitti import find_frames

HELP = (
    "folders in KITTI Road's layout; DESCRIPTION:PLACE for other data sets, of which the shipped descriptions are "
    + ", ".join(description.shipped())
    + " (docs/data.md)"
)


@dataclass(frozen=True)
class Source:
    """One data set of a command line.

    Attributes:
        place: its folder or file, absolute; a link is not followed.
        description: None for KITTI's layout.
        word: as it was given.
    """

    place: Path
    description: Description | None
    word: str

    @property
    def name(self) -> str:
        """By which a preset's folder_weights know it, and reports show it."""
        if self.description is not None:
            return self.description.name
        return self.place.parent.name if self.place.name == "training" else self.place.name

    @property
    def splits(self) -> str:
        """Which frames a description takes for which, for a message; empty where it does not say."""
        said = {
            key: conditions
            for key in ("training", "validation")
            if self.description is not None and (conditions := getattr(self.description, key)) is not None
        }
        listed = (
            f"{key} is {', '.join(f'{part} {_or(values)}' for part, values in conditions.items())}"
            for key, conditions in said.items()
        )
        return f" as {self.name} has them ({'; '.join(listed)})" if said else ""

    def find(self, unlabelled: bool = False) -> tuple[list[Frame], list[Frame]]:
        """(frames to train on, frames to validate on), the latter empty where the data set does not say.

        Of KITTI's layout the latter are in a folder `validation` beside one that is called `training`.

        Raises:
            DataError: it is no such data set, or frames lack ground truth and are not to be taken `unlabelled`.
        """
        if self.description is not None:
            return find_described(self.description, self.place, unlabelled)
        beside = self.place.parent / "validation"
        held = find_frames(beside) if os.path.isdir(beside) and self.place.name == "training" else []
        return find_frames(self.place, unlabelled), held


def sources_of(words: list[str]) -> list[Source]:
    """The data sets of a command line, each once, whatever links lead there; raises DataError."""
    once = {}
    for word in words:
        name, place = split(word)
        if not place or (not name and not os.path.isdir(place) and is_description(place)):
            raise DataError(f"'{word}' lacks where the data set is: {name or place}:PLACE.")
        described, path = description.load(name) if name else None, Path(os.path.abspath(place))
        once[described and described.digest, os.path.realpath(path)] = Source(path, described, word)
    return list(once.values())


def is_description(name: str) -> bool:
    """Whether a word names a description, there or not."""
    return name.endswith((".yaml", ".yml")) or name in description.shipped()


def split(word: str) -> tuple[str, str]:
    """(description, place) of a word; no description for a folder, whatever its name."""
    name, colon, place = word.partition(":")
    # The shell opens ~ at the start of a word alone.
    return (name, os.path.expanduser(place)) if colon and not os.path.exists(word) else ("", word)


def absolute(word: str) -> str:
    """The word as it means the same in any folder."""
    name, place = split(word)
    if name.endswith((".yaml", ".yml")):
        name = os.path.abspath(name)
    return f"{name}:{os.path.abspath(place)}" if name else os.path.abspath(place)


def _or(values: list[str]) -> str:
    return " or ".join(values)
