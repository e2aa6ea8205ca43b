# SPDX-License-Identifier: Apache-2.0
"""Turns on a shipped Fast DDS profile, without which large images are lost between processes."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from road_seg_node.shipped import shipped_file

# Fast DDS 2.x (Jazzy) reads the first name alone, 3.x (Kilted) the second; Kilted's rmw_fastrtps still takes the first
# one over, with a warning that it is deprecated.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
LARGE, SMALL = "config/fastdds_large_images.xml", "config/fastdds_small_shared_memory.xml"
SHARED_MEMORY = Path("/dev/shm")
ENOUGH = 4 * 34 * 1024 * 1024  # bytes: what LARGE takes in a camera, the node, RViz and one more process


def use_shipped_profile(environ: MutableMapping[str, str]) -> str:
    """Sets the variables in `environ` to a shipped profile, unless the user has set either of them.

    It acts on processes started with that environment; a process that already runs has read its profile. Returns what
    the user is to know: a sentence where this machine has little shared memory, otherwise "".
    """
    if any(environ.get(name) for name in VARIABLES):
        return ""
    free = _free_shared_memory()
    path = str(shipped_file(LARGE if free >= ENOUGH else SMALL))
    for name in VARIABLES[1:] if _first_is_deprecated() else VARIABLES:
        environ[name] = path
    if free >= ENOUGH:
        return ""
    return (
        f"{SHARED_MEMORY} has only {free / 1e6:.0f} MB left, so images larger than 8 MB are lost between processes. "
        f"More of it: docker run --shm-size=1g. Fast DDS profile: {path}."
    )


def _free_shared_memory() -> float:
    """Bytes; without end where the system keeps it elsewhere."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return math.inf
    return room.f_bavail * room.f_frsize


def _first_is_deprecated() -> bool:
    try:
        return int(version("rclpy").partition(".")[0]) >= 9  # Kilted's; Jazzy's is 7
    except (PackageNotFoundError, ValueError):
        return False
