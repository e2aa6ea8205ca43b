# SPDX-License-Identifier: Apache-2.0
"""Frames that are decoded when they are needed, and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from train.frames.frame import Frame
from train.frames.memory import Room

Pair = tuple[np.ndarray, np.ndarray]


class DecodedFrames:
    """The pairs of frames by index; threads may share it.

    What was kept is never given up for something else: an epoch shows every frame about as often as any other, so that
    nothing would be gained. What comes out is the same, whether it was kept or not.
    """

    def __init__(self, frames: Sequence[Frame], read: Callable[[Frame], Pair], room: Room) -> None:
        """`read` decodes a frame; `room` may be shared with other frames."""
        self.frames, self.read, self.room = frames, read, room
        self.kept: dict[int, Pair] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Pair:
        """Raises DataError where the frame cannot be read."""
        pair = self.kept.get(index)
        if pair is None:
            pair = self.read(self.frames[index])
            if self.room.take(pair[0].nbytes + pair[1].nbytes):
                self.kept[index] = pair
        return pair
