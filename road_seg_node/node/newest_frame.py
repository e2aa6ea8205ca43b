# SPDX-License-Identifier: Apache-2.0
"""How a frame goes from the subscription to the thread that infers: the newest wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestFrame(Generic[T]):
    """One place for one frame: who takes it gets the newest, and the camera never waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: T | None = None
        self._closed = False

    def put(self, frame: T) -> T | None:
        """Leaves `frame`; returns the one that nobody will take: an older one, or once closed `frame` itself."""
        with self._changed:
            if self._closed:
                return frame
            superseded, self._frame = self._frame, frame
            self._changed.notify()
            return superseded

    def take(self) -> T | None:
        """Waits for a frame; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frame is not None)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> T | None:
        """Ends take(); returns the frame that nobody had taken."""
        with self._changed:
            self._closed = True
            frame, self._frame = self._frame, None
            self._changed.notify()
            return frame
