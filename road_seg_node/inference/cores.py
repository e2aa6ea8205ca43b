# SPDX-License-Identifier: Apache-2.0
"""How many cores this process has the use of, where the machine has more: in a container, or bound to some of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def fewer_cores() -> int:
    """How many cores there are for this process, 0 where that is all of them.

    The libraries count the machine's. A container with a quota of processor time (docker run --cpus) stands still for
    the rest of each period, 0.1 s, once more threads than it has the time for have used that up.
    """
    usable = len(os.sched_getaffinity(0))
    quota = processor_quota()
    if quota is not None:
        usable = min(usable, math.ceil(quota))
    return usable if usable < (os.cpu_count() or 1) else 0


def processor_quota(groups: Path = GROUPS, root: Path = ROOT) -> float | None:
    """Processor time that control groups, version 1 or 2, allow, in cores; None without a quota.

    The least of this process's group and those above it. A container that does not see its group's name has it as root.
    """
    with suppress(OSError):
        return min(_quotas(groups.read_text(), root), default=None)
    return None


def _quotas(groups: str, root: Path) -> Iterator[float]:
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and (quota := _quota(folder)):
                yield quota


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError):  # ValueError: "max", no quota
        limit, period = (folder / "cpu.max").read_text().split()
        return int(limit) / int(period)
    with suppress(OSError):
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    return None
