# SPDX-License-Identifier: Apache-2.0
"""Where the tests find real frames."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets: $ROAD_SEG_DATA, or shared/data beside the checkout; skips without one."""
    folder = Path(os.environ.get("ROAD_SEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real frames are not in {folder}; set ROAD_SEG_DATA to a folder that holds them")
    return folder
