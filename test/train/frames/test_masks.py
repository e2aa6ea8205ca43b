# SPDX-License-Identifier: Apache-2.0
"""Mask and picture files that would be read as something else than they say."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kitti_folder import add_frame
from PIL import Image

from train.frames import picture_file
from train.frames.check import check
from train.frames.classes import Classes
from train.frames.data_error import DataError
from train.frames.kitti import find_frames

ROAD = np.zeros((24, 30), np.uint8)
ROAD[10:] = 1
MAGENTA, WHITE = (255, 0, 255), (255, 255, 255)


def save(path: Path, picture: np.ndarray, **options: Any) -> Path:
    Image.fromarray(picture).save(path, **options)
    return path


def opaque_where_road(*colour: int) -> np.ndarray:
    """One colour all over, uint8 [H, W, C + 1], whose last channel says what is road."""
    return np.dstack([np.broadcast_to(np.uint8(colour), (*ROAD.shape, len(colour))), 255 * ROAD])


@pytest.mark.parametrize("read", [picture_file.ids, picture_file.colours])
@pytest.mark.parametrize("colour", [WHITE, (1,)], ids=["white", "grey"])
def test_a_mask_whose_opacity_says_what_is_road_is_refused(read: Any, colour: tuple[int, ...], tmp_path: Path) -> None:
    path = save(tmp_path / "0.png", opaque_where_road(*colour))
    with pytest.raises(DataError, match=r"0\.png has the same colour both opaque and transparent"):
        read(path)


def test_what_was_erased_from_kittis_ground_truth_is_refused(tmp_path: Path) -> None:
    """An eraser of a painting program leaves the colour, and makes it transparent."""
    truth = add_frame(tmp_path, "um_000000.png")
    height, width = cv2.imread(str(truth)).shape[:2]
    painted = cv2.resize(opaque_where_road(*MAGENTA), (width, height), interpolation=cv2.INTER_NEAREST)
    save(truth, painted)
    with pytest.raises(DataError, match="both opaque and transparent"):
        check(find_frames(tmp_path))
    painted[painted[..., 3] == 0] = 0
    save(truth, painted)
    (frame,) = find_frames(tmp_path)
    np.testing.assert_array_equal(frame.read()[1], np.where(painted[..., 3] > 0, 1, 255))


@pytest.mark.parametrize("read", [picture_file.ids, picture_file.colours])
def test_a_jpeg_is_no_mask_whatever_its_name(read: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.png is a JPEG, .* export the masks as PNG"):
        read(save(tmp_path / "0.png", 255 * ROAD, format="JPEG"))


@pytest.mark.parametrize("read", [picture_file.ids, picture_file.colours])
def test_colours_of_16_bits_are_refused(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    cv2.imwrite(str(path), np.dstack([ROAD.astype(np.uint16)] * 3))
    with pytest.raises(DataError, match="has 16 bits a channel; save it with 8"):
        read(path)


def test_grey_of_few_bits_is_refused(tmp_path: Path) -> None:
    """As its reader scales it: 1 of 15 would be 17 of 255."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in ROAD[:, ::2] << 4 | ROAD[:, 1::2])
    header = struct.pack(">IIBBBBB", ROAD.shape[1], ROAD.shape[0], 4, 0, 0, 0, 0)
    path = tmp_path / "0.png"
    path.write_bytes(
        picture_file.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match="has 4 bits a channel; save it with 8"):
        picture_file.ids(path)


@pytest.mark.parametrize("values", [{"road": [255], "rest": "not_road"}, {"road": [1], "not_road": [0, 255]}])
def test_one_bit_is_1_or_255_as_the_description_has_it(values: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / "0.png", ROAD.astype(bool))
    np.testing.assert_array_equal(Classes(values).of_ids(picture_file.ids(path), path), ROAD)


def test_a_phones_picture_with_a_second_one_behind_it(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((24, 30, 3), 99, np.uint8))
    picture.save(tmp_path / "0.jpg", format="MPO", save_all=True, append_images=[picture])
    assert picture_file.size(tmp_path / "0.jpg") == (24, 30)
    assert picture_file.read(tmp_path / "0.jpg").shape == (24, 30, 3)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "0.json").mkdir()
    with pytest.raises(DataError, match=r"0\.json cannot be written"):
        picture_file.write_whole(tmp_path / "0.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["0.json"]
