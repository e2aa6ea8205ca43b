# SPDX-License-Identifier: Apache-2.0
"""How a frame goes from the subscription to the thread that infers: the newest wins."""

from __future__ import annotations

import threading

from sensor_msgs.msg import Image


class NewestFrame:
    """One place for one frame: who takes it gets the newest, and the camera never waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Image | None = None
        self._closed = False

    def put(self, frame: Image) -> bool:
        """Leaves `frame`; True when that threw away an older one nobody had taken."""
        with self._changed:
            superseded = self._frame is not None
            self._frame = frame
            self._changed.notify()
            return superseded

    def take(self) -> Image | None:
        """Waits for a frame; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frame is not None)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
