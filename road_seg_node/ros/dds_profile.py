# SPDX-License-Identifier: Apache-2.0
"""Turns on a shipped Fast DDS profile, without which large images are lost between processes and machines."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from road_seg_node.shipped import shipped_file

# Fast DDS 2.x (Jazzy) reads the first name alone, 3.x (Kilted) the second; Kilted's rmw_fastrtps still takes the first
# one over, with a warning that it is deprecated.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
LARGE, SMALL, UDP = (f"config/fastdds_{name}.xml" for name in ("large_images", "small_shared_memory", "udp"))
SHARED_MEMORY = Path("/dev/shm")
MEGABYTE = 1024 * 1024
# Bytes that the profiles take in a camera, the node, RViz and one more process.
ENOUGH_FOR_LARGE, ENOUGH_FOR_SMALL = 4 * 34 * MEGABYTE, 4 * 9 * MEGABYTE
# By these too the user chooses Fast DDS's transports; the files are read from where a program is started.
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
OWN_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def use_shipped_profile(environ: MutableMapping[str, str]) -> str:
    """Sets the variables in `environ` to a shipped profile, unless the user has chosen a profile or transports.

    It acts on processes started with that environment; a process that already runs has read its profile. Returns what
    the user is to know: a sentence where this machine has little shared memory, otherwise "".
    """
    if has_chosen(environ):
        return ""
    free = _free_shared_memory()
    path = LARGE if free >= ENOUGH_FOR_LARGE else SMALL if free >= ENOUGH_FOR_SMALL else UDP
    for name in variables():
        environ[name] = str(shipped_file(path))
    if path == LARGE:
        return ""
    large = "larger than 8 MB are lost between processes" if path == SMALL else "go over UDP, which takes longer"
    return (
        f"{SHARED_MEMORY} has only {free / 1e6:.0f} MB left, so images {large}. More of it: docker run --shm-size=1g. "
        f"Fast DDS profile: {shipped_file(path)}."
    )


def has_chosen(environ: Mapping[str, str]) -> bool:
    """Whether the user has chosen a profile, transports, or another middleware for what is started here."""
    return (
        any(environ.get(name) for name in (*VARIABLES, TRANSPORTS))
        or not (environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps").startswith(("rmw_fastrtps", "rmw_fastdds"))
        or any(Path(name).is_file() for name in OWN_FILES)
    )


def _free_shared_memory() -> float:
    """Bytes; without end where the system keeps it elsewhere."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return math.inf
    return room.f_bavail * room.f_frsize


def variables() -> tuple[str, ...]:
    """Those of VARIABLES that this ROS 2 takes without a warning."""
    try:
        kilted = int(version("rclpy").partition(".")[0]) >= 9  # Jazzy's is 7
    except (PackageNotFoundError, ValueError):
        kilted = False
    return VARIABLES[1:] if kilted else VARIABLES
