# SPDX-License-Identifier: Apache-2.0
"""What stops a program from outside: Ctrl-C, SIGTERM (systemd, SLURM, timeout), SIGHUP (the terminal is gone)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The program was asked to stop. `exit_code` is what a shell expects.

    As KeyboardInterrupt it is no Exception, which libraries catch.
    """

    def __init__(self, signal_number: int, saved: bool = False) -> None:
        """`saved`: everything up to here was."""
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code, self.saved = 128 + signal_number, saved


@contextmanager
def answered(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """While this lasts, `handler` gets the signals that are not ignored, as nohup lets SIGHUP be.

    Where it ends with Interrupted, all are ignored from then on: torchrun repeats what its processes were sent already,
    and the end of a program that was asked to end is not to be disturbed.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    after = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    try:
        for number in after:
            signal.signal(number, handler)
        yield
    except Interrupted:
        after = dict.fromkeys(after, signal.SIG_IGN)
        raise
    finally:
        for number, restored in after.items():
            signal.signal(number, restored)


def end_quietly() -> None:
    """Let Ctrl-C end the program without a traceback while it imports its libraries; until `answered`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def told(program: str, lost: str) -> Iterator[None]:
    """End `program` where it is stopped, with a sentence that says what is `lost`, and the exit status for a shell."""
    try:
        with answered(stop):
            yield
    except Interrupted as interrupted:
        print(f"{program}: stopped by {interrupted}; {lost}.", file=sys.stderr)
        leave(interrupted.exit_code)


def leave(exit_code: int) -> NoReturn:
    """End the process at once: where threads are still in a library, Python's own end would abort it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def stop(number: int, _frame: FrameType | None) -> None:
    """A handler that ends at once what is being done; raises Interrupted. What tidies up then is not disturbed."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


class Interruption:
    """Whether somebody asked the run to stop: `signal_number` is then the signal, else 0."""

    def __init__(self, alone: bool) -> None:
        """`alone`: asked twice, stop at once. torchrun passes on what the terminal has sent already."""
        self.alone, self.signal_number = alone, 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """A handler that lets the step in hand end; raises Interrupted where it is called twice and `alone`."""
        if self.signal_number and self.alone:
            stop(number, frame)
        self.signal_number = number
