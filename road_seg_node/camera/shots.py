# SPDX-License-Identifier: Apache-2.0
"""What a source of pictures gives, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

RATE = 10.0  # Hz, of a source that has none of its own

Picture: TypeAlias = NDArray[np.uint8]
Mounting: TypeAlias = tuple[float, float, float]  # camera_height, camera_tilt, camera_roll


class CameraError(ValueError):
    """The camera's source or a parameter cannot be used; the message is a sentence."""


class TopicError(CameraError):
    """A bag has images on several topics, and none was named; `there` says which."""

    def __init__(self, path: Path, there: str) -> None:
        super().__init__(
            f"The bag {path} has images on several topics, set the parameter topic (of the launch file: camera_topic) "
            f"to one: {there}."
        )
        self.path, self.there = path, there


@dataclass(frozen=True)
class Shot:
    """One picture, uint8 [H, W, 3] in BGR or as it was recorded.

    info: its calibration, None where that is not known. time: when it was recorded, in nanoseconds, or None.
    """

    picture: Picture | Image | CompressedImage
    info: CameraInfo | None = None
    time: int | None = None


class Source(Protocol):
    """rate: frames a second, where its shots have no time. mounting: of its camera, where that is known."""

    rate: float
    mounting: Mounting | None

    def shots(self) -> Iterator[Shot]:
        """From the first picture to the last. Raises CameraError where one cannot be read."""
