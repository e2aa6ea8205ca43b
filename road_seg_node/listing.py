# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder, in the order in which people count, without what is hidden."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg")
# What Windows, a Mac's archives, Synology's and QNAP's disks, and Linux keep for themselves, in small letters.
OF_SYSTEMS = {
    "thumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "@eadir",
    "#recycle",
    "@recycle",
    "lost+found",
}


def listed(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """The entries of a folder whose names end in one of `endings`, in either case; frame2 before frame10.

    endings: in small letters. Raises OSError.
    """
    entries = (path for path in folder.iterdir() if not is_hidden(path.name))
    return sorted((path for path in entries if path.name.lower().endswith(tuple(endings))), key=counted)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is not the user's: ._um_000000.png, which a Mac writes beside
    um_000000.png; @eaDir, which a Synology disk fills with small pictures."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def either_case(path: Path) -> Path:
    """`path`, or where there is only that, the file beside it whose ending is in capitals."""
    capitals = path.with_suffix(path.suffix.upper())
    return capitals if os.path.exists(capitals) and not os.path.exists(path) else path


def counted(path: Path) -> tuple[list[str | int], str]:
    """A key to sort a folder by: text and numbers of the name by turns, then the name, which tells 02 from 2."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name
