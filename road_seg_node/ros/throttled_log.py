# SPDX-License-Identifier: Apache-2.0
"""Warnings that say a thing once in a while, however often it happens."""

from __future__ import annotations

import threading
import time
from typing import Any

REPEAT = 10.0  # seconds between two warnings that are alike
MOST = 10  # different ones of a kind within that time: a stream of ever new rubbish does not flood the log


class ThrottledLog:
    """Warns through a logger. rclpy's own throttle goes by line of code. Threads may share it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._said: dict[str, dict[str, float]] = {}  # by kind, when each sentence was last said

    def warn(self, kind: str, sentence: str, alike: str | None = None) -> None:
        """Warns, unless the same was said within REPEAT seconds, or MOST others of its kind.

        alike: what the sentence is known by, where it holds a figure that changes.
        """
        now = time.monotonic()
        with self._lock:
            recent = {known: at for known, at in self._said.get(kind, {}).items() if now - at < REPEAT}
            self._said[kind] = recent
            if (alike or sentence) in recent or len(recent) >= MOST:
                return
            recent[alike or sentence] = now
        self._logger.warning(sentence)
