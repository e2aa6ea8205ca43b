# SPDX-License-Identifier: Apache-2.0
"""Folders are listed as people count, without what is hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from road_seg_node.listing import PICTURES, either_case, listed


def test_numbers_count_endings_may_be_capitals_and_nothing_hidden_is_listed(tmp_path: Path) -> None:
    right = ["a2b.png", "frame02.PNG", "frame2.jpeg", "frame9.Jpg", "frame10.JPG", "run1_b12.png", "run10_b3.png"]
    for name in (*reversed(right), "._frame2.jpeg", ".hidden.png", ".DS_Store", "Thumbs.db", "notes.png.txt"):
        (tmp_path / name).touch()
    for name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found"):
        (tmp_path / name).mkdir()
    names = [path.name for path in listed(tmp_path, PICTURES)]
    assert names == right
    assert [path.name for path in listed(tmp_path)] == [*names[:-2], "notes.png.txt", *names[-2:]]


def test_zero_padded_names_keep_the_order_that_they_always_had(tmp_path: Path) -> None:
    names = [f"{drive}_{number:06}.png" for drive in ("um", "umm", "uu") for number in range(12)]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in listed(tmp_path)] == sorted(names)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listed(tmp_path / "absent")


def test_an_ending_in_capitals_is_found_where_there_is_no_other(tmp_path: Path) -> None:
    small = tmp_path / "um_road_000000.png"
    assert either_case(small) == small
    small.with_suffix(".PNG").touch()
    assert either_case(small) == small.with_suffix(".PNG")
    small.touch()
    assert either_case(small) == small
