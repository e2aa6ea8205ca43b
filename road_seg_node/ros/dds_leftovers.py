# SPDX-License-Identifier: Apache-2.0
"""Removes the shared memory that Fast DDS leaves in /dev/shm of a process that was killed: 32 MB with our profile.

A living process holds a lock on the file NAME_el beside each of its segments and ports, which the kernel gives up with
the process; so does `fastdds shm clean` tell them apart. Fast DDS itself clears away only what another living process
had open.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
# Fast DDS 2, of Jazzy, calls itself fastrtps; Fast DDS 3, of Kilted, fastdds.
LOCK = re.compile(r"(fast(?:rtps|dds)_(?:[0-9a-z]{16}|port\d+))_[es]l")
YOUNG = 10.0  # seconds: a lock's file is there a moment before the lock is taken


def remove_leftovers() -> list[str]:
    """Removes what belongs to dead processes, and returns the segments' and ports' names; leaves what it may not."""
    try:
        locks = [entry for entry in os.scandir(SHARED_MEMORY) if LOCK.fullmatch(entry.name)]
    except OSError:  # a system without it
        return []
    names = {entry.name[:-3] for entry in locks}
    names -= {entry.name[:-3] for entry in locks if _is_young(Path(entry.path)) or is_held(Path(entry.path))}
    return sorted(name for name in names if _remove(name))


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock: it is there and locked, or another user's who keeps it shut."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_young(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime < YOUNG
    except OSError:
        return True


def _remove(name: str) -> bool:
    try:
        (SHARED_MEMORY / name).unlink(missing_ok=True)
        for other in (f"sem.{name}_mutex", f"{name}_sl", f"{name}_el"):
            (SHARED_MEMORY / other).unlink(missing_ok=True)
    except OSError:
        return False
    return True
