# SPDX-License-Identifier: Apache-2.0
"""Where the files that ship with the package (models, config) lie on this machine."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

PACKAGE = "road_seg_node"
COMPACT = "models/road_seg_compact.onnx"
FULL = "models/road_seg_full.onnx"


def shipped_file(relative: str) -> Path:
    """Path of a shipped file, such as "models/road_seg_compact.onnx".

    In a checkout it is the checkout's own file, whatever else is installed; otherwise the one under
    share/road_seg_node where colcon or pip has installed it, beside the Python package. The file is not opened:
    whoever reads it says what is wrong with it.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent, *(parent / "share" / PACKAGE for parent in package.parents)]
    return next((root for root in roots if (root / "package.xml").is_file()), package.parent) / relative


def version() -> str:
    """The package's version, as package.xml has it."""
    try:
        return str(ElementTree.parse(shipped_file("package.xml")).findtext("version"))
    except (OSError, ElementTree.ParseError):
        return "of unknown version"
