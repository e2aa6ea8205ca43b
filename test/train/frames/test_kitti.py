# SPDX-License-Identifier: Apache-2.0
"""Reading KITTI Road's layout: what is right is read exactly, and each broken pair is named."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_folder import add_frame, copied_by_a_mac, stripes
from PIL import Image  # which comes with matplotlib

from train.frames.data_error import DataError
from train.frames.drives import leave_out, split_validation
from train.frames.frame import Frame, each
from train.frames.kitti import GROUND_TRUTH_COLOURS, find_frames
from train.labels import IGNORE
from train.score.birdseye import homographies

LABELS = {"road": 1, "not road": 0, "not valid": IGNORE}


NAMES = ("um_000000.png", "um_000001.jpg", "um_000002.png", "um_000003.png", "uu_000000.png", "uu_000001.JPG")
NOBODY = 65534  # the number of the user that owns nothing


@pytest.fixture
def folder() -> Iterator[Path]:
    """Four frames of drive um and two of drive uu, PNG and JPEG, ground truth in three stripes.

    Not in pytest's folder, which is closed to other users.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        for frame in NAMES:
            add_frame(path, frame)
        yield path
        path.chmod(0o755)


def test_every_pair_is_found_and_labels_are_kittis(folder: Path) -> None:
    frames = find_frames(folder)
    assert [(f.drive, f.number) for f in frames] == [("um", f"00000{i}") for i in range(4)] + [
        ("uu", "000000"),
        ("uu", "000001"),
    ]
    for image, labels in map(Frame.read, frames):
        assert image.shape == (30, 40, 3) and labels.shape == (30, 40)
        for i, label in enumerate(LABELS.values()):
            assert (labels[i * 10 : (i + 1) * 10] == label).all()


def test_hidden_files_are_left_out_and_endings_may_be_capitals(folder: Path) -> None:
    for name in ("um_9.png", "um_10.PNG"):
        truth = add_frame(folder, name)
    truth.rename(truth.with_suffix(".PNG"))
    lane = folder / "gt_image_2" / "um_lane_10.png"
    assert cv2.imwrite(str(lane), stripes())
    lane.rename(lane.with_suffix(".PNG"))
    copied_by_a_mac(folder)
    frames = find_frames(folder)
    assert [frame.image.name for frame in frames] == [*NAMES[:4], "um_9.png", "um_10.PNG", *NAMES[4:]]
    assert len([frame.read() for frame in frames]) == 8
    assert frames[5].lane_ground_truth.is_file()


def test_lane_ground_truth_is_left_aside(folder: Path) -> None:
    assert cv2.imwrite(str(folder / "gt_image_2" / "um_lane_000000.png"), stripes())
    assert len(find_frames(folder)) == 6


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so for a while this process is somebody who may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def break_one(folder: Path, kind: str) -> None:
    """Break one thing of a folder's third frame, or of the folder."""
    truth, image = folder / "gt_image_2" / "um_road_000002.png", folder / "image_2" / "um_000002.png"
    match kind:
        case "no ground truth":
            truth.unlink()
        case "no folder of ground truth":
            shutil.rmtree(truth.parent)
        case "no image":
            image.unlink()
        case "other size":
            assert cv2.imwrite(str(truth), stripes(33, 40))
        case "grey":
            assert cv2.imwrite(str(truth), np.full((30, 40), 255, np.uint8))
        case "palette":
            # As of Pascal VOC and Cityscapes: a pixel is the number of a class, which has a colour for people.
            picture = Image.fromarray(np.eye(30, 40, dtype=np.uint8), "P")
            picture.putpalette([0, 0, 0, 128, 64, 128])
            picture.save(truth)
        case "other colour":
            picture = stripes()
            picture[7, 9] = (255, 0, 0)
            assert cv2.imwrite(str(truth), picture)
        case "all black":
            assert cv2.imwrite(str(truth), np.zeros((30, 40, 3), np.uint8))
        case "truncated PNG":
            image.write_bytes(image.read_bytes()[:-30])
        case "truncated JPEG":
            jpeg = image.with_name("um_000001.jpg")
            jpeg.write_bytes(jpeg.read_bytes()[:-30])
        case "empty file":
            truth.write_bytes(b"")
        case "empty folder":
            shutil.rmtree(image.parent)
            image.parent.mkdir()
        case "name of another scheme":
            image.rename(image.with_name("frame7.png"))
        case "file that is a folder":
            image.unlink()
            image.mkdir()
        case "folder that is a file":
            shutil.rmtree(image.parent)
            image.parent.touch()
        case "file not to be read":
            image.chmod(0)
        case "folder not to be read":
            folder.chmod(0)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("no ground truth", "um_000002.png has no ground truth: .*um_road_000002.png is missing"),
        ("no folder of ground truth", "gt_image_2 is not a folder"),
        ("no image", "um_road_000002.png has no image"),
        ("other size", "um_road_000002.png is 40x33 pixels, but its image um_000002.png is 40x30"),
        ("grey", "um_road_000002.png is grey"),
        ("palette", r"um_road_000002.png has the colour RGB \(128, 64, 128\) at row 0, column 0"),
        ("other colour", r"um_road_000002.png has the colour RGB \(0, 0, 255\) at row 7, column 9"),
        ("all black", "um_road_000002.png is black all over"),
        ("truncated PNG", "um_000002.png is not a PNG or JPEG picture, or it is damaged"),
        ("truncated JPEG", "um_000001.jpg is not a PNG or JPEG picture, or it is damaged"),
        ("empty file", "um_road_000002.png is not a PNG or JPEG picture, or it is damaged"),
        ("empty folder", "image_2 holds no PNG or JPEG picture"),
        ("name of another scheme", "frame7.png is not named"),
        ("file that is a folder", "um_000002.png cannot be read: Is a directory"),
        ("folder that is a file", "image_2 is not a folder"),
        ("file not to be read", "um_000002.png cannot be read: Permission denied"),
        ("folder not to be read", "cannot be read: Permission denied"),
        ("no calibration", "um_000000.txt is missing: the bird's-eye view needs"),
    ],
)
def test_a_broken_data_set_is_a_sentence_that_names_the_file(folder: Path, kind: str, named: str) -> None:
    break_one(folder, kind)
    with as_nobody(), pytest.raises(DataError, match=named) as raised:
        frames = find_frames(folder)
        each(frames, Frame.check)
        homographies(frames[:1])
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_all_broken_files_are_named_at_once_up_to_ten(folder: Path) -> None:
    for number in range(4, 20):
        add_frame(folder, f"um_{number:06}.png")
        (folder / "image_2" / f"um_{number:06}.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as raised:
        each(find_frames(folder), Frame.check)
    lines = str(raised.value).splitlines()
    assert [f"um_{number:06}.png is not" in line for number, line in enumerate(lines[:-1], 4)] == [True] * 10
    assert lines[-1] == "And 6 more such file(s)."


def test_a_palette_of_kittis_colours_is_read(folder: Path) -> None:
    path = folder / "gt_image_2" / "um_road_000002.png"
    picture = Image.fromarray(np.arange(30, dtype=np.uint8).repeat(40).reshape(30, 40) // 10, "P")
    picture.putpalette([value for colour in GROUND_TRUTH_COLOURS.values() for value in reversed(colour)])
    picture.save(path)
    _, labels = find_frames(folder)[2].read()
    assert [labels[row, 0] for row in (0, 10, 20)] == list(LABELS.values())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_frames(tmp_path / "nowhere")
    with pytest.raises(DataError, match="image_2 is not a folder"):
        find_frames(tmp_path)


def test_a_drive_is_left_out_by_name_and_a_misspelt_one_refused(folder: Path) -> None:
    frames = find_frames(folder)
    assert {f.drive for f in leave_out(frames, ["uu"])} == {"um"}
    with pytest.raises(DataError, match="'umm'.*um, uu"):
        leave_out(frames, ["umm"])
    with pytest.raises(DataError, match="no frame"):
        leave_out(frames, ["um", "uu"])


def test_few_drives_give_their_last_frames_to_validation(folder: Path) -> None:
    training, validation = split_validation(find_frames(folder), 0.5)
    assert [f.image.stem for f in validation] == ["um_000002", "um_000003", "uu_000001"]
    assert not set(training) & set(validation) and len(training) == 3


def test_even_a_small_drive_gives_a_frame_to_validation(folder: Path) -> None:
    _, validation = split_validation(find_frames(folder), 0.1)
    assert [f.image.stem for f in validation] == ["um_000003", "uu_000001"]


def test_many_drives_are_held_out_whole(tmp_path: Path) -> None:
    for drive in range(20):
        for number in range(3):
            add_frame(tmp_path, f"{drive:04}_{number:06}.png")
    training, validation = split_validation(find_frames(tmp_path), 0.1)
    assert {f.drive for f in validation} == {"0009", "0019"} and len(validation) == 6
    assert not {f.drive for f in training} & {f.drive for f in validation}
    for share, drives in ((0.01, 1), (0.3, 6), (0.9, 18), (0.999, 19)):
        training, validation = split_validation(find_frames(tmp_path), share)
        assert len({f.drive for f in validation}) == drives and training


def test_one_frame_in_two_files_is_named(folder: Path) -> None:
    (folder / "image_2" / "um_000002.jpg").write_bytes((folder / "image_2" / "um_000002.png").read_bytes())
    with pytest.raises(DataError, match=r"um_000002.jpg and um_000002.png are the same frame"):
        find_frames(folder)


def test_kittis_own_frames_are_read(data_folder: Path) -> None:
    frames = find_frames(data_folder / "kitti_road_sample" / "training")
    assert [f.image.name for f in frames] == ["um_000000.png", "um_000001.png"]
    for image, labels in map(Frame.read, frames):
        assert image.shape == (375, 1242, 3)
        assert 0.1 < (labels == 1).mean() < 0.4
        assert 0.005 < (labels == IGNORE).mean(), "KITTI's black pixels are not valid, neither road nor not road"
