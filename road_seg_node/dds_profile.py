# SPDX-License-Identifier: Apache-2.0
"""Turns on the shipped Fast DDS profile, without which large images are lost between processes."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version

from road_seg_node.shipped import shipped_file

# Fast DDS 2.x (Jazzy) reads the first name alone, 3.x (Kilted) the second; Kilted's rmw_fastrtps still takes the first
# one over, with a warning that it is deprecated.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def use_shipped_profile(environ: MutableMapping[str, str]) -> None:
    """Sets the variables in `environ` to the shipped profile, unless the user has set either of them.

    It acts on processes started with that environment; a process that already runs has read its profile.
    """
    if not any(environ.get(name) for name in VARIABLES):
        path = str(shipped_file("config/fastdds_large_images.xml"))
        for name in VARIABLES[1:] if _first_is_deprecated() else VARIABLES:
            environ[name] = path


def _first_is_deprecated() -> bool:
    try:
        return int(version("rclpy").partition(".")[0]) >= 9  # Kilted's; Jazzy's is 7
    except (PackageNotFoundError, ValueError):
        return False
