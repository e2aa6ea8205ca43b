# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's layout: finding the pairs, and the colours of its ground truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from road_seg_node.listing import PICTURES, either_case, listed
from train.frames import picture_file
from train.frames.data_error import DataError
from train.frames.frame import Frame, Unlabelled, each
from train.frames.picture_file import Size

FRAME_NAME = re.compile(r"(?P<drive>.+)_(?P<number>[^_]+)$")
# Ground truth colours of KITTI Road as BGR; OpenCV reads in that order.
GROUND_TRUTH_COLOURS = {"road": (255, 0, 255), "not road": (0, 0, 255), "not valid": (0, 0, 0)}


@dataclass(frozen=True)
class KittiFrame(Frame):
    """A frame with ground truth in KITTI's colours; `strict` see `labels_from_colours`."""

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        truth = picture_file.colours(ground_truth)
        self.check_size(ground_truth, truth.shape[:2], size)
        return labels_from_colours(truth, ground_truth, strict)


def labels_from_colours(truth: np.ndarray, path: Path, strict: bool = True) -> np.ndarray:
    """Labels uint8 [H, W] from KITTI's colours: valid where red > 0, road where blue > 0 besides.

    KITTI's development kit counts whatever it finds by that rule. So does this where it is not `strict`, but for
    pictures that are grey or have green in them, which are no such ground truth. Training asks for more, since frames
    that are broken there are cheaper found before it than after.

    Raises:
        DataError: pixels of another colour, or (strict) no valid pixel at all.
    """
    blue, green, red = cv2.split(truth)
    if cv2.countNonZero(green) and (blue == green).all() and (green == red).all():
        raise DataError(
            f"{path} is grey. Ground truth is in colours: road (255, 0, 255), not road (255, 0, 0) and not valid "
            "(0, 0, 0), as RGB."
        )
    strange, not_valid = green, cv2.compare(red, 0, cv2.CMP_EQ)
    if strict:
        for wrong in (cv2.inRange(red, 1, 254), cv2.inRange(blue, 1, 254), blue & not_valid):
            strange = strange | wrong
    if cv2.countNonZero(strange):
        row, column = np.argwhere(strange)[0]
        b, g, r = (int(v) for v in truth[row, column])
        raise DataError(
            f"{path} has the colour RGB ({r}, {g}, {b}) at row {row}, column {column}. Ground truth has road "
            "(255, 0, 255), not road (255, 0, 0) and not valid (0, 0, 0), and no other colour."
        )
    if strict and not cv2.countNonZero(red):
        raise DataError(f"{path} is black all over: no pixel has valid ground truth. Leave the frame out.")
    return cv2.min(blue, 1) | not_valid  # not_valid is IGNORE there, and 0 elsewhere


def entries(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """What is in a folder and has one of those endings, as `listed` lists it.

    Raises:
        DataError: it is missing, no folder, or not to be read.
    """
    try:
        return listed(folder, endings)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder} is not a folder. Give a folder in KITTI Road's layout, with image_2/um_000000.png and "
            "gt_image_2/um_road_000000.png in it (for KITTI itself: data/data_road/training)."
        ) from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from None


def find_images(folder: Path) -> list[Frame]:
    """The frames of a folder with `image_2/`, in the order of their names; their ground truth need not be there.

    Raises:
        DataError: the folder is missing, unreadable or empty, or images have names of another scheme.
    """
    entries(folder)
    files = entries(folder / "image_2", PICTURES)
    if not files:
        raise DataError(f"{folder / 'image_2'} holds no PNG or JPEG picture.")

    def frame_of(image: Path) -> Frame:
        name = FRAME_NAME.match(image.stem)
        if name is None:
            raise DataError(f"{image} is not named <category>_<number>, such as um_000000.png; rename it.")
        truth = folder / "gt_image_2" / f"{name['drive']}_road_{name['number']}.png"
        return KittiFrame(folder, name["drive"], name["number"], image, either_case(truth))

    frames = each(files, frame_of)
    for one, other in pairwise(sorted(frames, key=lambda frame: frame.ground_truth)):
        if one.ground_truth == other.ground_truth:
            raise DataError(f"{one.image} and {other.image.name} are the same frame; remove one of them.")
    return frames


def find_frames(folder: Path, unlabelled: bool = False) -> list[Frame]:
    """The pairs of a folder with `image_2/` and `gt_image_2/`, in the order of their names.

    Lane ground truth (`*_lane_*`) is left aside: it exists for one category and another task.

    Args:
        unlabelled: take images without ground truth too, as Unlabelled; `gt_image_2/` need not be there then.

    Raises:
        DataError: the folder is missing or empty, or images lack their ground truth, or the reverse.
    """
    frames, truth_folder = find_images(folder), folder / "gt_image_2"
    truths = [] if unlabelled and not truth_folder.exists() else [p.name for p in entries(truth_folder, (".png",))]
    if unlabelled:
        frames = [f if f.ground_truth.exists() else Unlabelled(**vars(f)) for f in frames]

    def check(frame: Frame) -> None:
        if not unlabelled and not frame.ground_truth.exists():
            raise DataError(f"{frame.image} has no ground truth: {frame.ground_truth} is missing.")

    def refuse(orphan: str) -> None:
        raise DataError(f"{folder / 'gt_image_2' / orphan} has no image in {folder / 'image_2'}.")

    each(frames, check)
    known = {frame.ground_truth.name for frame in frames}
    each([name for name in truths if "_road_" in name and name not in known], refuse)
    return frames
