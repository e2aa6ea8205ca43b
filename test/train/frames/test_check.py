# SPDX-License-Identifier: Apache-2.0
"""What is broken is named before an epoch, and what was looked at once is not looked at again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_folder import add_frame
from PIL import Image

from train.frames import picture_file
from train.frames.check import check
from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.frames.kitti import KittiFrame, find_frames


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the frames that were read, in a home where nothing is remembered yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    names: list[str] = []
    whole = KittiFrame.check
    monkeypatch.setattr(KittiFrame, "check", lambda frame: (names.append(frame.number), whole(frame))[1])
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "training"
    folder.mkdir()
    for number in range(5):
        add_frame(folder, f"um_{number}.{('png', 'jpg')[number % 2]}")
    return folder


def test_what_did_not_change_is_not_read_again(folder: Path, looked_at: list[str]) -> None:
    frames = find_frames(folder)
    expected = {frame: tuple(int((frame.read()[1] == label).sum()) for label in (1, 0)) for frame in frames}
    assert check(frames) == expected
    assert sorted(looked_at) == list("01234")
    looked_at.clear()
    assert check(frames) == expected and not looked_at
    os.utime(frames[1].image, ns=(0, 0))
    truth = frames[3].ground_truth
    truth.write_bytes(truth.read_bytes() + b" ")
    os.utime(truth, ns=(truth.stat().st_atime_ns, truth.stat().st_mtime_ns))
    assert check(frames) == expected
    assert sorted(looked_at) == ["1", "3"]


def test_what_is_broken_is_named_each_time_and_the_rest_is_remembered(folder: Path, looked_at: list[str]) -> None:
    frames = find_frames(folder)
    whole = frames[2].ground_truth.read_bytes()
    frames[2].ground_truth.write_bytes(whole[:-20])
    for _ in range(2):
        with pytest.raises(DataError, match="um_road_2.png is not a PNG or JPEG picture") as raised:
            check(frames)
        assert "\n" not in str(raised.value)
    frames[2].ground_truth.write_bytes(whole)
    check(frames)
    assert sorted(looked_at) == ["0", "1", "2", "2", "2", "3", "4"]


@pytest.mark.parametrize("damage", ["nothing there", "not JSON", "a folder"])
def test_a_memory_that_cannot_be_used_only_costs_time(
    folder: Path, looked_at: list[str], tmp_path: Path, damage: str
) -> None:
    frames = find_frames(folder)
    check(frames)
    (memory,) = (tmp_path / "caches").rglob("*.json")
    if damage == "not JSON":
        memory.write_text("{")
    else:
        memory.unlink()
    if damage == "a folder":
        memory.mkdir()
    check(frames)
    assert sorted(looked_at) == sorted(2 * "01234")


def test_a_copy_elsewhere_is_looked_at_for_itself(folder: Path, looked_at: list[str], tmp_path: Path) -> None:
    check(find_frames(folder))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    check(find_frames(tmp_path / "copy"))
    assert len(looked_at) == 10


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def lie(path: Path) -> None:
    path.write_bytes(b"GIF89a" + path.read_bytes())


@pytest.mark.parametrize("name", ["um_0.png", "um_1.jpg"])
@pytest.mark.parametrize("damage", [cut, lie, Path.unlink])
def test_a_header_tells_what_is_no_whole_picture(
    folder: Path, looked_at: list[str], name: str, damage: Callable[[Path], None]
) -> None:
    frames = find_frames(folder)
    damage(folder / "image_2" / name)
    with pytest.raises(DataError, match=f"{name} (is not a PNG or JPEG|cannot be read: No such file)"):
        check(frames)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_header_says_the_size_of_what_is_decoded(ending: str, orientation: int, tmp_path: Path) -> None:
    """Cameras write their pictures on their side, and OpenCV turns them."""
    path = tmp_path / f"picture{ending}"
    exif = Image.Exif()
    exif[picture_file.ORIENTATION] = orientation
    Image.fromarray(np.zeros((61, 100, 3), np.uint8)).save(path, exif=exif)
    decoded = picture_file.read(path)
    assert picture_file.size(path) == decoded.shape[:2]
    for divisor in (1, 2, 4, 8):
        by_size = {decoded.shape[:2]: divisor}
        smaller, size = picture_file.read_reduced(path, lambda *size, by_size=by_size: by_size[size])
        assert size == decoded.shape[:2]
        assert all(abs(side * divisor - whole) < divisor for side, whole in zip(smaller.shape, size, strict=False))


def test_a_ground_truth_of_another_size_is_found_by_the_headers(folder: Path, looked_at: list[str]) -> None:
    frame: Frame = find_frames(folder)[0]
    assert cv2.imwrite(str(frame.image), np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(DataError, match="um_road_0.png is 40x30 pixels, but its image um_0.png is 40x31"):
        check([frame])
