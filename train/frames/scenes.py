# SPDX-License-Identifier: Apache-2.0
"""Synthetic road scenes as frames of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from road_seg_node.synthetic_road.scene import Road
from train.frames.frame import Frame, Pixels
from train.frames.picture_file import Reduction


@dataclass(frozen=True)
class Scene(Frame):
    """A synthetic road scene and its exact ground truth, rendered when it is read."""

    seed: int
    width: int
    height: int
    time: float

    def files(self) -> tuple[Path, ...]:
        return ()

    def check(self) -> Pixels:
        """It is whole by construction, and has both in it."""
        return Pixels(1, 1)

    def read_reduced(self, reduction: Reduction) -> tuple[np.ndarray, np.ndarray]:
        return self.read()

    def read(self, strict: bool = True) -> tuple[np.ndarray, np.ndarray]:
        image, road = Road(self.seed).render(self.width, self.height, time=self.time)
        return image, road.astype(np.uint8)


def scene(number: int, seed: int, width: int, height: int, time: float) -> Scene:
    """A scene in the category "synthetic"; `time` is in seconds since the drive of that seed began."""
    nowhere = Path("synthetic")
    name = f"{number:06}"
    return Scene(nowhere, "synthetic", name, nowhere / f"synthetic_{name}", nowhere / name, seed, width, height, time)
