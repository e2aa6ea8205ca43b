# SPDX-License-Identifier: Apache-2.0
"""Reading KITTI Road's layout: what is right is read exactly, and each broken pair is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_folder import add_frame, stripes

from train.data import (
    IGNORE,
    DataError,
    find_frames,
    leave_out,
    read_all,
    split_validation,
)

LABELS = {"road": 1, "not road": 0, "not valid": IGNORE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four frames of drive um and two of drive uu, PNG and JPEG, ground truth in three stripes."""
    for name in ("um_000000.png", "um_000001.jpg", "um_000002.png", "um_000003.png", "uu_000000.png", "uu_000001.JPG"):
        add_frame(tmp_path, name)
    return tmp_path


def test_every_pair_is_found_and_labels_are_kittis(folder: Path) -> None:
    frames = find_frames(folder)
    assert [(f.drive, f.number) for f in frames] == [("um", f"00000{i}") for i in range(4)] + [
        ("uu", "000000"),
        ("uu", "000001"),
    ]
    for image, labels in read_all(frames):
        assert image.shape == (30, 40, 3) and labels.shape == (30, 40)
        for i, label in enumerate(LABELS.values()):
            assert (labels[i * 10 : (i + 1) * 10] == label).all()


def test_lane_ground_truth_is_left_aside(folder: Path) -> None:
    assert cv2.imwrite(str(folder / "gt_image_2" / "um_lane_000000.png"), stripes())
    assert len(find_frames(folder)) == 6


def broken(folder: Path, kind: str) -> str:
    """Break one thing; returns a word of the file that the message must name."""
    truth, image = folder / "gt_image_2" / "um_road_000002.png", folder / "image_2" / "um_000002.png"
    match kind:
        case "no ground truth":
            truth.unlink()
        case "no image":
            image.unlink()
        case "other size":
            cv2.imwrite(str(truth), stripes(33, 40))
        case "grey ground truth":
            cv2.imwrite(str(truth), np.full((30, 40), 255, np.uint8))
        case "other colour":
            picture = stripes()
            picture[7, 9] = (255, 0, 0)
            cv2.imwrite(str(truth), picture)
        case "all black":
            cv2.imwrite(str(truth), np.zeros((30, 40, 3), np.uint8))
        case "truncated image":
            image.write_bytes(image.read_bytes()[:40])
        case "empty file":
            truth.write_bytes(b"")
        case "folder in place of a file":
            image.unlink()
            image.mkdir()
        case "name of another scheme":
            image.rename(image.with_name("frame7.png"))
            return "frame7.png"
    return "000002"


@pytest.mark.parametrize(
    "kind",
    [
        "no ground truth", "no image", "other size", "grey ground truth", "other colour", "all black",
        "truncated image", "empty file", "folder in place of a file", "name of another scheme",
    ],
)  # fmt: skip
def test_a_broken_pair_is_named(folder: Path, kind: str) -> None:
    named = broken(folder, kind)
    with pytest.raises(DataError, match=named):
        read_all(find_frames(folder))


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        find_frames(tmp_path / "nowhere")
    with pytest.raises(DataError, match="image_2"):
        find_frames(tmp_path)
    (tmp_path / "image_2").mkdir()
    (tmp_path / "gt_image_2").mkdir()
    with pytest.raises(DataError, match="no PNG or JPEG"):
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


def test_kittis_own_frames_are_read(data_folder: Path) -> None:
    frames = find_frames(data_folder / "kitti_road_sample" / "training")
    assert [f.image.name for f in frames] == ["um_000000.png", "um_000001.png"]
    for image, labels in read_all(frames):
        assert image.shape == (375, 1242, 3)
        assert 0.1 < (labels == 1).mean() < 0.4
        assert 0.005 < (labels == IGNORE).mean(), "KITTI's black pixels are not valid, neither road nor not road"
