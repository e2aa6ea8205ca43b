# SPDX-License-Identifier: Apache-2.0
"""How much memory there is, and what of it decoded frames may take."""

from __future__ import annotations

import os
import threading
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Room:
    """So many bytes, of which parts are taken and not given back; threads may share it."""

    def __init__(self, size: float) -> None:
        self.left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether so many bytes were left, and are now taken."""
        with self._lock:
            fits = size <= self.left
            self.left -= size if fits else 0
        return fits


def default_room() -> float:
    """Half of what is free, shared by the processes here: the rest is for the network and its activations."""
    return free() / 2 / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free() -> float:
    """Bytes that processes can still take: of the machine, and of the container or job where it has less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([float(machine), *map(_free_in, _own_groups())])


def _own_groups() -> list[Path]:
    """This process's control group of memory and those around it; none where they cannot be seen."""
    try:
        groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    except OSError:
        return []
    # Version 1 has a tree for the memory alone. In a container the root may be its own group, whatever the name.
    root = CONTROL_GROUPS / "memory" if "memory" in groups else CONTROL_GROUPS
    own = root / groups.get("memory", groups.get("", "/")).lstrip("/")
    return [own, *(group for group in own.parents if group.is_relative_to(root))]


def _free_in(group: Path) -> float:
    """Bytes that are left to the processes in a control group; infinity where it has no limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            # The page cache counts as used, and is given back when it is wanted.
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = int(statistics.get("inactive_file", 0))
            return float(int((group / limit).read_text()) - int((group / used).read_text()) + cached)
        except (OSError, ValueError):  # no such file; or "max"
            continue
    return float("inf")
