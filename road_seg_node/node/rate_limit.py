# SPDX-License-Identifier: Apache-2.0
"""Which of a camera's frames the parameter max_rate lets through."""

from __future__ import annotations

EARLY = 0.01  # seconds by which a frame may come before its turn, since cameras are not regular


class RateLimit:
    """Of one camera."""

    def __init__(self) -> None:
        self._passed = self._due = 0.0  # when a frame was last let through, and when one next is

    def too_soon(self, now: float, max_rate: float) -> bool:
        """Whether a frame that comes at `now`, by time.monotonic(), is over max_rate, in Hz; 0: none is."""
        if not max_rate:
            return False
        period = 1 / max_rate
        if now < min(self._due, self._passed + period) - EARLY:  # the second where max_rate was raised meanwhile
            return True
        # From when it was due rather than from now, or 20 Hz of a camera's 30 would become 15; but not for long past.
        due = self._due + period
        self._passed, self._due = now, due if due > now else now + period
        return False
