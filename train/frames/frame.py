# SPDX-License-Identifier: Apache-2.0
"""One frame of a data set, whatever the layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from road_seg_node.listing import either_case
from train.frames import picture_file
from train.frames.data_error import DataError
from train.frames.picture_file import Reduction, Size
from train.frames.threads import in_order
from train.labels import IGNORE

MOST_NAMED = 10  # broken files in one message

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pixels(NamedTuple):
    """How many pixels of a frame are road, and how many are not; the others are not valid."""

    road: int
    not_road: int


@dataclass(frozen=True)
class Frame:
    """One image with its ground truth.

    Attributes:
        folder: of the data set.
        drive: what was recorded in one go, whose frames look alike; of KITTI its category (um, umm, uu).
        number: its name in the drive.
        image, ground_truth: files.
    """

    folder: Path
    drive: str
    number: str
    image: Path
    ground_truth: Path

    @property
    def lane_ground_truth(self) -> Path:
        """Ground truth of the ego lane, which KITTI has for um alone; the file need not be there."""
        return either_case(self.folder / "gt_image_2" / f"{self.drive}_lane_{self.number}.png")

    @property
    def calibration(self) -> Path:
        """What the bird's-eye view needs; the file need not be there."""
        return either_case(self.folder / "calib" / f"{self.drive}_{self.number}.txt")

    @property
    def reading(self) -> str:
        """How its ground truth is read; what is known of it read otherwise may be wrong."""
        return type(self).__name__

    @property
    def road_classes(self) -> str:
        """What its data set calls road, for a message."""
        return "magenta (255, 0, 255)"

    def files(self) -> tuple[Path, ...]:
        """What it is read from: while these stay as they are, so does the frame."""
        return self.image, self.ground_truth

    def read(self, strict: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] BGR and labels uint8 [H, W] (0 not road, 1 road, 255 not valid).

        `strict` is for training: ground truth must be just as the data set has it, with a valid pixel.

        Raises:
            DataError: a file is unreadable, of another size, or is not what the data set says.
        """
        image = picture_file.read(self.image)
        return image, self.labels(self.ground_truth, image.shape[:2], strict)

    def read_reduced(self, reduction: Reduction) -> tuple[np.ndarray, np.ndarray]:
        """As `read`, but with the image made smaller, as its size asks for, while it is decoded; not the labels."""
        image, size = picture_file.read_reduced(self.image, reduction)
        return image, self.labels(self.ground_truth, size)

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        """Labels uint8 [H, W] of an image of this size from one of its ground truth files; raises as `read` does."""
        raise NotImplementedError

    def check(self) -> Pixels:
        """Read the ground truth, and of the image no more than what says that it is whole.

        Raises:
            DataError: as `read` does.
        """
        labels = self.labels(self.ground_truth, picture_file.size(self.image))
        return Pixels(int((labels == 1).sum()), int((labels == 0).sum()))

    def check_size(self, ground_truth: Path, truth: Size, image: Size) -> None:
        """Raises DataError where the ground truth has another size than the image."""
        if truth != image:
            raise DataError(
                f"{ground_truth} is {truth[1]}x{truth[0]} pixels, but its image {self.image.name} is "
                f"{image[1]}x{image[0]}; the two must be of one size."
            )


@dataclass(frozen=True)
class Unlabelled(Frame):
    """A frame whose ground truth is not there: no pixel of it is valid."""

    def files(self) -> tuple[Path, ...]:
        return (self.image,)

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        return np.full(size, IGNORE, np.uint8)


def each(items: Iterable[Item], do: Callable[[Item], Result], threads: int = 0) -> list[Result]:
    """`do` of every item; one DataError that names all the items, up to MOST_NAMED, for which `do` raised it."""

    def attempt(item: Item) -> tuple[Result | None, str]:
        try:
            return do(item), ""
        except DataError as error:
            return None, str(error)

    results, broken = [], []
    with closing(in_order(attempt, items, threads)) as attempts:
        for result, wrong in attempts:
            results.append(result)
            if wrong:
                broken.append(wrong)
    if len(broken) > MOST_NAMED:
        broken[MOST_NAMED:] = [f"And {len(broken) - MOST_NAMED} more such file(s)."]
    if broken:
        raise DataError("\n".join(broken))
    return results  # type: ignore[return-value]
