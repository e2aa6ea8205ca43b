# SPDX-License-Identifier: Apache-2.0
"""The frames of a drive that was recorded as a bag, a video or a folder of pictures, decoded one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from road_seg_node.camera.shots import CameraError, Picture, Source, TopicError
from road_seg_node.camera.sources import SYNTHETIC, Album, open_source, synthetic_seed
from road_seg_node.ros.images import decode_compressed, to_bgr
from train.frames import picture_file
from train.frames.data_error import DataError


@dataclass(frozen=True)
class DriveFrame:
    """One frame.

    Attributes:
        index: from 0, in its drive.
        time: seconds; of a bag since 1970, of a video since its beginning, of a picture unknown.
        file: it was read from; of a bag or video that itself.
        decoded: gives it as uint8 [H, W, 3] BGR; raises ImageError where a bag's message is no image, DataError where
            a file is none.
    """

    index: int
    time: float | None
    file: Path
    decoded: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Drive:
    """name: no other drive of the harvest has it, and it can begin a file's name."""

    name: str
    path: Path
    source: Source

    def frames(self) -> Iterator[DriveFrame]:
        """From the first to the last. Raises DataError where the recording cannot be read to its end."""
        if isinstance(self.source, Album):
            for index, file in enumerate(self.source.pictures):
                yield DriveFrame(index, None, file, partial(picture_file.read, file))
            return
        try:
            for index, shot in enumerate(self.source.shots()):
                time = index / self.source.rate if shot.time is None else shot.time / 1e9
                yield DriveFrame(index, time, self.path, partial(_to_bgr, shot.picture))
        except CameraError as error:
            raise DataError(str(error)) from None


def open_drives(places: Sequence[str], topic: str, tell: Callable[[str], None]) -> list[Drive]:
    """The drives of a command line; `topic` is the bags', `tell` is called with a sentence where frames are damaged.

    Raises:
        DataError: there is no such recording, it cannot be read, or has several cameras of which none is named.
    """
    drives: list[Drive] = []
    for place in places:
        if synthetic_seed(place) is not None:
            raise DataError(f"{SYNTHETIC} has no end: give a bag, a video or a folder of pictures.")
        path = Path(place).expanduser()
        if not path.exists():
            raise DataError(f"There is no {place}: give a bag, a video or a folder of pictures.")
        try:
            source = open_source(place, topic=topic, tell=tell)
        except TopicError as error:
            raise DataError(
                f"The bag {error.path} has images on several topics; name one with --topic: {error.there}."
            ) from None
        except CameraError as error:
            raise DataError(str(error)) from None
        name = re.sub(r"[^\w-]+", "-", path.resolve().name.partition(".")[0]).strip("-_") or "drive"
        taken = {drive.name for drive in drives}
        names = (name, *(f"{name}-{number}" for number in range(2, len(places) + 1)))
        drives.append(Drive(next(free for free in names if free not in taken), path, source))
    return drives


def _to_bgr(picture: Picture | Image | CompressedImage) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    return decode_compressed(picture) if isinstance(picture, CompressedImage) else to_bgr(picture)
