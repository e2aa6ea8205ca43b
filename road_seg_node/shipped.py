# SPDX-License-Identifier: Apache-2.0
"""Where the files that ship with the package (models, config) lie on this machine."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "road_seg_node"
COMPACT = "models/road_seg_compact.onnx"
FULL = "models/road_seg_full.onnx"


def shipped_file(relative: str) -> Path:
    """Path of a shipped file, such as "models/road_seg_compact.onnx".

    In a checkout it is the checkout's own file, whatever else is installed; otherwise the one under
    share/road_seg_node as colcon installed it. The file is not opened: whoever reads it says what is wrong with it.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "package.xml").is_file():
        try:
            from ament_index_python.packages import get_package_share_directory

            root = Path(get_package_share_directory(PACKAGE))
        except (ImportError, LookupError, OSError):  # no ROS index, no such package in it, AMENT_PREFIX_PATH not set
            pass
    return root / relative
