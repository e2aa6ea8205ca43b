# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's folders: finding the pairs, reading them, and saying which one is broken."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from road_seg_node.listing import PICTURES, either_case, listed
from train.labels import IGNORE

FRAME_NAME = re.compile(r"(?P<drive>.+)_(?P<number>[^_]+)$")
MOST_NAMED = 10  # broken files in one message
MANY_DRIVES = 10  # from so many on, whole drives are held out
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Ground truth colours of KITTI Road as BGR; OpenCV reads in that order.
GROUND_TRUTH_COLOURS = {"road": (255, 0, 255), "not road": (0, 0, 255), "not valid": (0, 0, 0)}


Item = TypeVar("Item")
Result = TypeVar("Result")


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and what would be right."""


def each(items: Iterable[Item], do: Callable[[Item], Result]) -> list[Result]:
    """`do` of every item; one DataError that names all the items, up to MOST_NAMED, for which `do` raised it."""
    results, broken = [], []
    for item in items:
        try:
            results.append(do(item))
        except DataError as error:
            broken.append(str(error))
    if len(broken) > MOST_NAMED:
        broken[MOST_NAMED:] = [f"And {len(broken) - MOST_NAMED} more such file(s)."]
    if broken:
        raise DataError("\n".join(broken))
    return results


@dataclass(frozen=True)
class Frame:
    """One image with its ground truth. `drive` is KITTI's category (um, umm, uu) or the drive's name."""

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

    def read(self, strict: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] BGR and labels uint8 [H, W] (0 not road, 1 road, 255 not valid).

        `strict` is for training, see `labels_from_colours`.

        Raises:
            DataError: a file is unreadable, of another size, or has colours that are not KITTI's.
        """
        image = read_picture(self.image)
        return image, self.labels(self.ground_truth, image, strict)

    def labels(self, ground_truth: Path, image: np.ndarray, strict: bool = True) -> np.ndarray:
        """Labels uint8 [H, W] of `image` from one of its ground truth files; raises as `read` does."""
        truth = read_picture(ground_truth)
        if image.shape != truth.shape:
            raise DataError(
                f"{ground_truth} is {truth.shape[1]}x{truth.shape[0]} pixels, but its image "
                f"{self.image.name} is {image.shape[1]}x{image.shape[0]}; the two must be of one size."
            )
        return labels_from_colours(truth, ground_truth, strict)


@dataclass(frozen=True)
class Unlabelled(Frame):
    """A frame whose ground truth is not there: no pixel of it is valid."""

    def read(self, strict: bool = True) -> tuple[np.ndarray, np.ndarray]:
        image = read_picture(self.image)
        return image, np.full(image.shape[:2], IGNORE, np.uint8)


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] BGR, or DataError."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    # OpenCV 4 makes a grey rest of what a JPEG lacks.
    cut_short = data[:2].tobytes() == JPEG_START and JPEG_END not in data[-65536:].tobytes()
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size and not cut_short else None
    if picture is None:
        raise DataError(f"{path} is not a PNG or JPEG picture, or it is damaged; fetch or export it again.")
    return picture


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that it is never half there; its folder is made.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def labels_from_colours(truth: np.ndarray, path: Path, strict: bool = True) -> np.ndarray:
    """Labels uint8 [H, W] from KITTI's colours: valid where red > 0, road where blue > 0 besides.

    KITTI's development kit counts whatever it finds by that rule. So does this where it is not `strict`, but for
    pictures that are grey or have green in them, which are no such ground truth. Training asks for more, since frames
    that are broken there are cheaper found before it than after.

    Raises:
        DataError: pixels of another colour, or (strict) no valid pixel at all.
    """
    blue, green, red = truth[..., 0], truth[..., 1], truth[..., 2]
    if truth.any() and (blue == green).all() and (green == red).all():
        raise DataError(
            f"{path} is grey. Ground truth is in colours: road (255, 0, 255), not road (255, 0, 0) and not valid "
            "(0, 0, 0), as RGB."
        )
    strange = green != 0
    if strict:
        strange |= ((red != 0) & (red != 255)) | ((blue != 0) & (blue != 255)) | ((blue == 255) & (red == 0))
    if strange.any():
        row, column = np.argwhere(strange)[0]
        b, g, r = (int(v) for v in truth[row, column])
        raise DataError(
            f"{path} has the colour RGB ({r}, {g}, {b}) at row {row}, column {column}. Ground truth has road "
            "(255, 0, 255), not road (255, 0, 0) and not valid (0, 0, 0), and no other colour."
        )
    labels = np.where(red == 0, IGNORE, (blue > 0).astype(np.uint8)).astype(np.uint8)
    if strict and (labels == IGNORE).all():
        raise DataError(f"{path} is black all over: no pixel has valid ground truth. Leave the frame out.")
    return labels


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
        return Frame(folder, name["drive"], name["number"], image, either_case(truth))

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


def read_all(frames: Iterable[Frame]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every pair decoded, so that the broken ones are named before the first epoch and none is decoded twice."""
    return each(frames, lambda frame: frame.read())


def leave_out(frames: Iterable[Frame], drives: Sequence[str]) -> list[Frame]:
    """Frames whose drive is not among `drives`.

    Raises:
        DataError: a name that no frame has, since a misspelt drive would silently stay in; or no frame is left.
    """
    frames = list(frames)
    unwanted = set(only_drives(frames, drives))
    kept = [frame for frame in frames if frame not in unwanted]
    if not kept:
        raise DataError(f"Leaving out {', '.join(drives)} leaves no frame.")
    return kept


def only_drives(frames: Iterable[Frame], drives: Sequence[str]) -> list[Frame]:
    """Frames whose drive is among `drives`.

    Raises:
        DataError: a name that no frame has.
    """
    frames = list(frames)
    known = {frame.drive for frame in frames}
    for drive in drives:
        if drive not in known:
            raise DataError(f"No frame belongs to the drive '{drive}'. The drives are: {', '.join(sorted(known))}.")
    return [frame for frame in frames if frame.drive in drives]


def split_validation(frames: Sequence[Frame], share: float) -> tuple[list[Frame], list[Frame]]:
    """(training, validation) of one folder, near `share` of it held out, the same on every machine.

    With ten drives or more, whole drives are held out, evenly among their names; with fewer, the last
    frames of each drive. Neighbours in a drive look alike: a frame drawn at random would be half known.
    """
    drives: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        drives[frame.drive].append(frame)
    if len(drives) >= MANY_DRIVES:
        part = Fraction(str(share))  # 0.1 as it is written
        held = {name for i, name in enumerate(sorted(drives)) if (i + 1) * part // 1 > i * part // 1} or {max(drives)}
        validation = [f for f in frames if f.drive in held]
    else:
        validation = []
        for members in drives.values():
            held_out = min(max(1, round(share * len(members))), len(members) - 1)
            validation += members[len(members) - held_out :]
    chosen = set(validation)
    return [f for f in frames if f not in chosen], validation
