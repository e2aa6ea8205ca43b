# SPDX-License-Identifier: Apache-2.0
"""How the package's programs begin and end, wherever a signal comes.

A signal that comes while a program is being imported or made waits until rclpy has taken it over, and then ends it in
order; one that comes while it ends changes nothing any more.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rclpy.executors import Executor
    from rclpy.node import Node

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds after which SIGALRM ends a shutdown that hangs: while another process dies, Fast DDS has been seen to wait for
# itself for ever as it gave up its participant, and no Python runs meanwhile.
SHUTDOWN = 10


def run(module: str) -> NoReturn:
    """Ends with what `main` of that module, imported by its name, returns."""
    hold_signals()  # before what takes a second to import
    leave(importlib.import_module(module).main())


def hold_signals() -> None:
    """Lets signals wait, until await_signals()."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # Python's own answer to Ctrl-C is a KeyboardInterrupt wherever the program is just then, half made or half gone.
    # rclpy's handlers shut the context down, and that ends the program in its own time.
    signal.signal(signal.SIGINT, lambda number, frame: None)


def await_signals() -> None:
    """From now on they shut rclpy's context down; to be called once rclpy.init() has taken them over."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """The program ends: a second Ctrl-C does not break that off, and the alarm does if it takes long."""
    signal.alarm(SHUTDOWN)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def close(executor: Executor | None, node: Node | None) -> None:
    """Gives up what rclpy has, the executor first; its default context is shut down by then, or is now."""
    ignore_signals()
    if executor is not None:
        executor.shutdown()
    if node is not None:
        node.destroy_node()
    import rclpy  # not before signals wait, since it takes a while

    context = rclpy.get_default_context()
    rclpy.try_shutdown()
    # Writes the rest of the log's file. Where a signal shut the context down, rclpy leaves that to Python's end.
    context._logging_fini()


def leave(exit_code: int) -> NoReturn:
    """Ends the process once everything is closed.

    Threads may still be in a library, where a model is compiled or a picture drawn. Nothing breaks that off, and
    Python's own end, which does not wait for them, would abort the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
