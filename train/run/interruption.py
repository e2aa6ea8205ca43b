# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM, answered when the step in hand is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop, and everything was saved. `exit_code` is what a shell expects."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class Interruption:
    """Whether somebody asked the run to stop: `signal_number` is then the signal, else 0."""

    def __init__(self, alone: bool) -> None:
        """`alone`: asked twice, stop at once. torchrun passes on what the terminal has sent already."""
        self.alone, self.signal_number = alone, 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number and self.alone:
            raise KeyboardInterrupt
        self.signal_number = number

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """While this lasts, the first signal is noted alone, and a second one may raise KeyboardInterrupt."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
