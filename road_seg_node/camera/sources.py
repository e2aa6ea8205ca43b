# SPDX-License-Identifier: Apache-2.0
"""Where the camera's pictures come from: the synthetic road, a folder, a video, or a recorded bag."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from road_seg_node.camera import kitti_calibration
from road_seg_node.camera.bag import Bag, is_bag
from road_seg_node.camera.shots import RATE, CameraError, Mounting, Picture, Shot, Source
from road_seg_node.ground import attitude
from road_seg_node.listing import PICTURES, either_case, listed
from road_seg_node.synthetic_road.scene import Road

SYNTHETIC = "synthetic"
DEFAULT_SEED = 7  # two lanes with marks, a pavement and grass, by day
WIDTH, HEIGHT = 1242, 375  # KITTI's
MOST_DAMAGED = 100  # frames of a video in a row, after which it is taken to have ended


def synthetic_seed(spec: str) -> int | None:
    """The seed in "synthetic[:SEED]" (DEFAULT_SEED where none is given), or None where `spec` is something else.

    Raises CameraError where the seed is no whole number.
    """
    name, colon, seed = spec.partition(":")
    if name != SYNTHETIC:
        return None
    if colon and not (seed.isascii() and seed.isdigit()):
        raise CameraError(f"The seed in {spec!r} must be a whole number, as in {SYNTHETIC}:7.")
    return int(seed) if colon else DEFAULT_SEED


def say_nothing(sentence: str) -> None:
    return None


def open_source(
    spec: str,
    width: int = WIDTH,
    height: int = HEIGHT,
    rate: float = RATE,
    topic: str = "",
    tell: Callable[[str], None] = say_nothing,
) -> Source:
    """Opens a source of pictures. Raises CameraError where it cannot be opened.

    spec: "synthetic[:SEED]" (frame i is what is seen at i / rate seconds, width x height pixels, without end), a folder
    of PNG or JPEG pictures (by name, frame2 before frame10; of a KITTI folder its image_2), a video file, or a bag,
    whose `topic` is taken. tell: called with a sentence where frames of a video are left out.
    """
    seed, path = synthetic_seed(spec), Path(os.path.expanduser(spec))
    try:
        if seed is None and spec and is_bag(path):
            return Bag(path, topic)
        if topic and (seed is not None or path.exists()):
            raise CameraError(f"Leave out the topic {topic}: only a bag has topics, and {spec} is none.")
        if seed is not None:
            return Drive(Road(seed), width, height, rate)
        if spec and path.is_dir():
            return Album(path)
        if spec and path.is_file():
            return Film(path, tell)
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error.strerror or error}.") from error
    raise CameraError(
        f"There is no folder, video or bag {spec!r}; give a folder of pictures, a video file, a bag (.mcap, .db3, "
        f"their folder, or ROS 1's .bag), or {SYNTHETIC}[:SEED]."
    )


class Drive:
    """The synthetic road as a camera sees it that drives along."""

    def __init__(self, road: Road, width: int, height: int, rate: float) -> None:
        self._road, self._size, self.rate = road, (width, height), rate
        k, camera_height = road.camera(width, height)
        self._info = pinhole(k, width, height)
        self.mounting: Mounting | None = (camera_height, 0.0, 0.0)

    def shots(self) -> Iterator[Shot]:
        index = 0
        while True:
            yield Shot(self._road.render(*self._size, index / self.rate)[0], self._info)
            index += 1


class Album:
    """A folder of pictures; one in KITTI's layout has them in image_2, and their calibration in calib."""

    rate = RATE

    def __init__(self, folder: Path) -> None:
        inside = folder / "image_2"
        self.pictures = listed(folder, PICTURES) or (listed(inside, PICTURES) if inside.is_dir() else [])
        if not self.pictures:
            raise CameraError(f"The folder {folder} has no pictures; it should hold PNG or JPEG files.")
        _read(self.pictures[0])
        known = next((name for name in map(_calibration, self.pictures) if name.is_file()), None)
        self.mounting = _mounting(known) if known else None

    def shots(self) -> Iterator[Shot]:
        for path in self.pictures:
            picture, calibration = _read(path), _calibration(path)
            if calibration.is_file():
                k = _matrices(calibration)["P2"][:, :3]
                yield Shot(picture, pinhole(k, picture.shape[1], picture.shape[0]))
            else:
                yield Shot(picture)


class Film:
    """A video file that OpenCV can decode, at its own pace. Damaged frames are left out, and told."""

    mounting: Mounting | None = None

    def __init__(self, path: Path, tell: Callable[[str], None] = say_nothing) -> None:
        self._path, self._tell = path, tell
        video = cv2.VideoCapture(str(path))
        if not any(video.read()[0] for _ in range(MOST_DAMAGED)):
            raise CameraError(
                f"{path} cannot be read as a video: it is damaged, cut short, or of a kind that OpenCV cannot decode."
            )
        rate = video.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else RATE

    def shots(self) -> Iterator[Shot]:
        video = cv2.VideoCapture(str(self._path))
        announced = int(video.get(cv2.CAP_PROP_FRAME_COUNT))  # 0 or less where the file does not say
        shown = damaged = in_a_row = 0
        # A read that fails is a damaged frame, or the end: only what comes after it tells.
        while in_a_row <= MOST_DAMAGED:
            read, frame = video.read()
            if not read:
                if 0 < announced <= shown + damaged + in_a_row:
                    break
                in_a_row += 1
                continue
            if in_a_row:
                self._tell(f"{in_a_row} frame(s) of {self._path} after frame {shown} are damaged and left out.")
                damaged, in_a_row = damaged + in_a_row, 0
            shown += 1
            yield Shot(frame.astype(np.uint8, copy=False))
        if not shown:
            raise CameraError(f"{self._path} could be read once, but not again; it was removed or changed.")
        if shown + damaged < announced:
            self._tell(
                f"{self._path} announces {announced} frames, but after {shown + damaged} no further one can be decoded."
            )


def pinhole(k: NDArray[np.float64], width: int, height: int) -> CameraInfo:
    """The CameraInfo of a camera without distortion, whose matrix K is `k` [3, 3]."""
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k, info.r = k.ravel(), np.eye(3).ravel()
    info.p = np.column_stack([k, np.zeros(3)]).ravel()
    return info


def _read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise CameraError(f"{path} cannot be read as a picture; replace or remove it.")
    return picture.astype(np.uint8, copy=False)


def _calibration(picture: Path) -> Path:
    return either_case(picture.parent.parent / "calib" / f"{picture.stem}.txt")


def _mounting(calibration: Path) -> Mounting:
    try:
        return attitude(kitti_calibration.camera_to_ground(_matrices(calibration)))
    except np.linalg.LinAlgError:
        raise CameraError(f"{calibration} holds no calibration: P2 or R0_rect cannot be inverted.") from None


def _matrices(calibration: Path) -> dict[str, np.ndarray]:
    try:
        return kitti_calibration.read(calibration)
    except (OSError, kitti_calibration.CalibrationError) as error:
        raise CameraError(str(error)) from error
