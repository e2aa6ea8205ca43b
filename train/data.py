# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's folders: finding the pairs, reading them, and saying which one is broken."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
FRAME_NAME = re.compile(r"(?P<drive>.+)_(?P<number>[^_]+)$")
IGNORE = 255  # label of a pixel without valid ground truth; 0 is not road, 1 is road
# Ground truth colours of KITTI Road as BGR; OpenCV reads in that order.
GROUND_TRUTH_COLOURS = {"road": (255, 0, 255), "not road": (0, 0, 255), "not valid": (0, 0, 0)}


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and what would be right."""


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
        return self.folder / "gt_image_2" / f"{self.drive}_lane_{self.number}.png"

    @property
    def calibration(self) -> Path:
        """What the bird's-eye view needs; the file need not be there."""
        return self.folder / "calib" / f"{self.drive}_{self.number}.txt"

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] BGR and labels uint8 [H, W] (0 not road, 1 road, 255 not valid).

        Raises:
            DataError: a file is unreadable, of another size, or has colours that are not KITTI's.
        """
        image = read_picture(self.image)
        return image, self.labels(self.ground_truth, image)

    def labels(self, ground_truth: Path, image: np.ndarray) -> np.ndarray:
        """Labels uint8 [H, W] of `image` from one of its ground truth files; raises as `read` does."""
        truth = read_picture(ground_truth)
        if image.shape != truth.shape:
            raise DataError(
                f"{ground_truth} is {truth.shape[1]}x{truth.shape[0]} pixels, but its image "
                f"{self.image.name} is {image.shape[1]}x{image.shape[0]}; the two must be of one size."
            )
        return labels_from_colours(truth, ground_truth)


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] BGR, or DataError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
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
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def labels_from_colours(truth: np.ndarray, path: Path) -> np.ndarray:
    """Labels uint8 [H, W] from KITTI's colours: valid where red > 0, road where blue > 0 besides.

    Raises:
        DataError: pixels of another colour, or no valid pixel at all.
    """
    blue, green, red = truth[..., 0], truth[..., 1], truth[..., 2]
    strange = (green != 0) | ((red != 0) & (red != 255)) | ((blue != 0) & (blue != 255))
    strange |= (blue == 255) & (red == 0)
    if strange.any():
        row, column = np.argwhere(strange)[0]
        b, g, r = (int(v) for v in truth[row, column])
        raise DataError(
            f"{path} has the colour RGB ({r}, {g}, {b}) at row {row}, column {column}. Ground truth has road "
            "(255, 0, 255), not road (255, 0, 0) and not valid (0, 0, 0), and no other colour."
        )
    labels = np.where(red == 0, IGNORE, (blue == 255).astype(np.uint8)).astype(np.uint8)
    if (labels == IGNORE).all():
        raise DataError(f"{path} is black all over: no pixel has valid ground truth. Leave the frame out.")
    return labels


def find_images(folder: Path) -> list[Frame]:
    """The frames of a folder with `image_2/`, in the order of their names; their ground truth need not be there.

    Raises:
        DataError: the folder is missing, unreadable or empty, or an image has a name of another scheme.
    """
    images = folder / "image_2"
    for needed in (folder, images):
        if not needed.is_dir():
            raise DataError(
                f"{needed} is not a folder. Give a folder in KITTI Road's layout, with image_2/um_000000.png in it."
            )
    frames = []
    try:
        files = sorted(p for p in images.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
    except OSError as error:
        raise DataError(f"{images} cannot be read: {error.strerror or error}.") from None
    for image in files:
        name = FRAME_NAME.match(image.stem)
        if name is None:
            raise DataError(f"{image} is not named <category>_<number>, such as um_000000.png; rename it.")
        truth = folder / "gt_image_2" / f"{name['drive']}_road_{name['number']}.png"
        frames.append(Frame(folder, name["drive"], name["number"], image, truth))
    if not frames:
        raise DataError(f"{images} holds no PNG or JPEG picture.")
    return frames


def find_frames(folder: Path) -> list[Frame]:
    """The pairs of a folder with `image_2/` and `gt_image_2/`, in the order of their names.

    Lane ground truth (`*_lane_*`) is left aside: it exists for one category and another task.

    Raises:
        DataError: the folder is missing or empty, or an image lacks its ground truth, or the reverse.
    """
    images, truths = folder / "image_2", folder / "gt_image_2"
    for needed in (folder, images, truths):
        if not needed.is_dir():
            raise DataError(
                f"{needed} is not a folder. Give a folder in KITTI Road's layout, with image_2/um_000000.png "
                "and gt_image_2/um_road_000000.png in it (for KITTI itself: data_road/training)."
            )
    frames = find_images(folder)
    expected = {frame.ground_truth.name for frame in frames}
    try:
        for frame in frames:
            if not frame.ground_truth.is_file():
                raise DataError(f"{frame.image} has no ground truth: {frame.ground_truth} is missing.")
        orphans = sorted(p.name for p in truths.glob("*_road_*.png") if p.name not in expected)
    except OSError as error:
        raise DataError(f"{truths} cannot be read: {error.strerror or error}.") from None
    if orphans:
        raise DataError(f"{truths / orphans[0]} has no image in {images} ({len(orphans)} such file(s)).")
    return frames


def read_all(frames: Sequence[Frame]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every pair decoded, so that a broken one is named before the first epoch and none is decoded twice."""
    return [frame.read() for frame in frames]


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

    With ten drives or more, whole drives are held out, every (1/share)-th by name; with fewer, the last
    frames of each drive. Neighbours in a drive look alike: a frame drawn at random would be half known.
    """
    drives: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        drives[frame.drive].append(frame)
    if len(drives) >= 10:
        step = round(1 / share)
        held = set(sorted(drives)[step - 1 :: step])
        validation = [f for f in frames if f.drive in held]
    else:
        validation = []
        for members in drives.values():
            held_out = max(1, round(share * len(members))) if len(members) > 1 else 0
            validation += members[len(members) - held_out :]
    chosen = set(validation)
    return [f for f in frames if f not in chosen], validation
