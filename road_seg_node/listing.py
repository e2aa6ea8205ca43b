# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder, in the order in which people count, without what is hidden."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg")


def listed(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """The entries of a folder whose names end in one of `endings`, in either case; frame2 before frame10.

    endings: in small letters. Hidden entries are left out, such as the ._um_000000.png that a Mac writes beside
    um_000000.png. Raises OSError.
    """
    entries = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((path for path in entries if path.name.lower().endswith(tuple(endings))), key=counted)


def either_case(path: Path) -> Path:
    """`path`, or where there is only that, the file beside it whose ending is in capitals."""
    capitals = path.with_suffix(path.suffix.upper())
    return capitals if capitals.exists() and not path.exists() else path


def counted(path: Path) -> tuple[list[str | int], str]:
    """A key to sort a folder by: text and numbers of the name by turns, then the name, which tells 02 from 2."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name
