# SPDX-License-Identifier: Apache-2.0
"""How the package's programs begin and end, wherever a signal comes.

A signal that comes while a program is being imported or made waits until rclpy has taken it over, and then ends it in
order; one that comes while it ends changes nothing any more.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from road_seg_node.ros import start

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds after which SIGALRM ends a shutdown that hangs: while another process dies, Fast DDS has been seen to wait for
# itself for ever as it gave up its participant, and no Python runs meanwhile.
SHUTDOWN = 10


def run(name: str, module: str) -> NoReturn:
    """Ends with what `main` of that module, imported by its name, returns; 2 where it cannot be imported here.

    name: the program's, for that sentence.
    """
    hold_signals()  # before what takes a second to import
    try:
        main = start.main_of(module)
    except start.StartError as error:
        leave(start.refuse(name, error))
    leave(main())


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


def carry_out(
    about: start.About,
    args: list[str] | None,
    mistakes: tuple[type[Exception], ...],
    job: Callable[[SingleThreadedExecutor], None],
) -> int:
    """Calls `job` between rclpy's beginning and its end, or answers --help or --version; returns the exit status.

    0 once `job` has ended, by itself or by a signal. For one of `mistakes`, whose sentence is logged, its `exit_status`
    or else 2; 2 too where ROS 2 cannot start. `job` makes its node and adds it to the executor; that ends with it.
    args: as main() got them.
    """
    if said := about.answer(args):
        print(said)
        return 0
    hold_signals()
    import rclpy  # not before signals wait, since it takes a while
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.logging import get_logger

    from road_seg_node.ros.unused import warn_of_arguments

    try:
        start.init(args)
    except start.StartError as error:
        return start.refuse(about.node, error)
    executor = SingleThreadedExecutor()
    await_signals()
    warn_of_arguments(args, about.node)
    try:
        with until_shut_down(*mistakes):
            job(executor)
    except mistakes as error:
        get_logger(about.node).fatal(str(error))
        return int(getattr(error, "exit_status", 2))
    except Exception as error:
        if not (failure := start.failure(error)):
            raise
        return start.refuse(about.node, failure)
    finally:
        ignore_signals()
        nodes = executor.get_nodes()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


@contextmanager
def until_shut_down(*mistakes: type[Exception]) -> Iterator[None]:
    """Passes over what is raised because a signal has shut rclpy's context down meanwhile, but for `mistakes`."""
    import rclpy

    try:
        yield
    except Exception as error:  # rclpy has many kinds of them for a context that is gone
        if rclpy.ok() or isinstance(error, mistakes):
            raise


def leave(exit_code: int) -> NoReturn:
    """Ends the process once everything is closed.

    Threads may still be in a library, where a model is compiled or a picture drawn. Nothing breaks that off, and
    Python's own end, which does not wait for them, would abort the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # all of C's files, of which one is ROS's log
    os._exit(exit_code)
