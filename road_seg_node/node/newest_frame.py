# SPDX-License-Identifier: Apache-2.0
"""How frames go from the subscriptions to the thread that infers: the newest of each camera, the cameras in turn."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestFrames(Generic[T]):
    """A place for one frame of each camera. Who takes one gets the newest of the camera that has waited longest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[Hashable, T] = {}  # by camera, in turn: a newer frame keeps its camera's place
        self._closed = False

    def put(self, camera: Hashable, frame: T) -> T | None:
        """Leaves `frame`; returns the one that nobody will take: an older one, or once closed `frame` itself."""
        with self._changed:
            if self._closed:
                return frame
            superseded = self._frames.get(camera)
            self._frames[camera] = frame
            self._changed.notify()
            return superseded

    def take(self) -> T | None:
        """Waits for a frame; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frames)
            return self._frames.pop(next(iter(self._frames))) if self._frames else None

    def close(self) -> list[T]:
        """Ends take(); returns the frames that nobody had taken."""
        with self._changed:
            self._closed = True
            frames = list(self._frames.values())
            self._frames.clear()
            self._changed.notify()
            return frames
