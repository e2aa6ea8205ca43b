# SPDX-License-Identifier: Apache-2.0
"""Compressed images give the picture that was compressed; what is damaged, cut short or a bomb is refused in time."""

from __future__ import annotations

import re
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS's sensor_msgs")

from sensor_msgs.msg import CompressedImage  # noqa: E402

from road_seg_node.ros.coded_image import MAX_PIXELS, look_at  # noqa: E402
from road_seg_node.ros.images import ImageError, decode_compressed  # noqa: E402


def message(data: bytes, format: str = "jpeg") -> CompressedImage:
    msg = CompressedImage(format=format)
    msg.data.frombytes(data)
    return msg


def picture(height: int = 48, width: int = 80) -> np.ndarray:
    """Smooth, so that JPEG keeps it within a few counts; its red, green and blue differ."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([60 + x, 250 - 2 * y, 30 + x + y]).astype(np.uint8)


def jpeg(bgr: np.ndarray, *more: int) -> bytes:
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 98, *more])[1].tobytes()


def png(bgr: np.ndarray) -> bytes:
    return cv2.imencode(".png", bgr)[1].tobytes()


def close(answer: np.ndarray, bgr: np.ndarray, within: int) -> None:
    assert answer.dtype == np.uint8
    assert answer.shape == bgr.shape
    assert np.abs(answer.astype(int) - bgr).max() <= within


@pytest.mark.parametrize("format", ["jpeg", "", "jpg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg(format: str, progressive: int) -> None:
    coded = jpeg(picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    close(decode_compressed(message(coded, format)), picture(), 12)


@pytest.mark.parametrize("format", ["png", "bgr8; png compressed bgr8", "rgba8; png compressed bgr8", "jpeg"])
def test_png_is_exact_whatever_the_format_says(format: str) -> None:
    np.testing.assert_array_equal(decode_compressed(message(png(picture()), format)), picture())


def test_red_and_blue_that_a_publisher_exchanged_are_put_back() -> None:
    exchanged = picture()[..., ::-1].copy()
    answer = decode_compressed(message(png(exchanged), "rgb8; png compressed rgb8"))
    np.testing.assert_array_equal(answer, picture())


@pytest.mark.parametrize("format", ["mono8; jpeg compressed ", "mono8; png compressed "])
def test_grey_comes_out_in_all_three_channels(format: str) -> None:
    grey = picture()[..., 0]
    data = jpeg(grey) if "jpeg" in format else png(grey)
    close(decode_compressed(message(data, format)), np.dstack([grey] * 3), 2)


def test_sixteen_bits_and_alpha() -> None:
    alpha = np.dstack([picture(), np.full(picture().shape[:2], 9, np.uint8)])
    np.testing.assert_array_equal(decode_compressed(message(png(alpha), "bgra8; png compressed bgra8")), picture())
    deep = picture()[..., 1].astype(np.uint16) * 257
    answer = decode_compressed(message(png(deep), "mono16; png compressed "))
    np.testing.assert_array_equal(answer, np.dstack([picture()[..., 1]] * 3))


@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_mosaic_stored_as_grey(order: str, bits: int) -> None:
    colour = dict(b=40, g=120, r=200)
    tile = np.array([colour[name] for name in order], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (6, 8)).astype(np.uint16) * 257 if bits == 16 else np.tile(tile, (6, 8))
    answer = decode_compressed(message(png(mosaic), f"bayer_{order}{bits}; png compressed "))
    close(answer, np.full((12, 16, 3), (40, 120, 200), np.uint8), 1)


def test_bayer_that_was_made_colour_before_is_left_alone() -> None:
    answer = decode_compressed(message(png(picture()), "bayer_rggb8; png compressed bgr8"))
    np.testing.assert_array_equal(answer, picture())


def with_orientation(data: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment that asks viewers to turn it."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_an_orientation_in_the_file_turns_nothing() -> None:
    turned = with_orientation(jpeg(picture()), 6)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (80, 48, 3)
    close(decode_compressed(message(turned)), picture(), 12)


@pytest.mark.parametrize("coded", [jpeg(picture()), png(picture())], ids=["jpeg", "png"])
def test_bytes_after_the_end_are_let_be(coded: bytes) -> None:
    """Cameras pad their buffers."""
    close(decode_compressed(message(coded + b"\0" * 500)), picture(), 12)


@pytest.mark.parametrize("coded", [jpeg(picture()), png(picture())], ids=["jpeg", "png"])
def test_whatever_is_cut_off_is_refused(coded: bytes) -> None:
    for length in {*range(0, len(coded) - 2, 7), len(coded) - 3}:
        with pytest.raises(ImageError, match="cut short|empty|no JPEG|cannot be in") as caught:
            decode_compressed(message(coded[:length]))
        assert caught.value.reason in ("length", "encoding")
        assert "\n" not in str(caught.value)


def test_a_thumbnail_s_end_is_not_the_picture_s() -> None:
    thumbnail = jpeg(picture(16, 16))
    whole = jpeg(picture())
    coded = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    close(decode_compressed(message(coded)), picture(), 12)
    with pytest.raises(ImageError, match="cut short"):
        decode_compressed(message(coded[:-200]))


def test_damaged_data_answer_or_are_refused_with_a_sentence() -> None:
    choose = np.random.default_rng(4)
    for coded in (jpeg(picture()), png(picture())):
        for _ in range(300):
            data = bytearray(coded)
            for _ in range(choose.integers(1, 5)):
                data[choose.integers(0, len(data))] = choose.integers(0, 256)
            try:
                answer = decode_compressed(message(bytes(data)))
            except ImageError as error:
                assert "\n" not in str(error)
                continue
            assert answer.dtype == np.uint8 and answer.ndim == 3 and answer.shape[2] == 3


def sized_jpeg(width: int, height: int) -> bytes:
    """A whole JPEG whose frame header says another size."""
    coded = jpeg(picture())
    frame = coded.index(b"\xff\xc0")
    return coded[: frame + 5] + struct.pack(">HH", height, width) + coded[frame + 9 :]


def png_bomb(side: int) -> bytes:
    """A PNG of side x side white pixels of one bit, whole and right, a thousand times smaller than its picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    body = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_the_bomb_of_these_tests_is_a_right_png() -> None:
    answer = decode_compressed(message(png_bomb(600)))
    np.testing.assert_array_equal(answer, np.full((600, 600, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_bomb(12000), "A PNG image of 12000x12000 claims more than"),
        (sized_jpeg(65500, 65500), "A JPEG image of 65500x65500 claims more than"),
        (sized_jpeg(8000, 8000), "A JPEG image of 8000x8000 cannot be in the"),
    ],
    ids=["png", "jpeg", "jpeg within the limit"],
)
def test_a_bomb_is_refused_before_room_is_made_for_it(data: bytes, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=words):
        decode_compressed(message(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB; the least of them has 190 MB
    assert len(data) * 100 < MAX_PIXELS


@pytest.mark.parametrize(
    ("data", "format", "reason", "words"),
    [
        (b"", "jpeg", "length", "is empty"),
        (sized_jpeg(80, 0), "jpeg", "size", "80x0 has no pixels"),
        (b"\0\0\0\1\x67\x42\0\x1e", "h264", "encoding", "no JPEG or PNG: it begins with 00 00 00 01"),
        (b"RIFF1234WEBP", "webp", "encoding", "no JPEG or PNG"),
        (png(picture()), "16UC1; compressedDepth png", "encoding", "holds distances"),
        (b"\0" * 12 + png(picture()), "32FC1; compressedDepth", "encoding", "holds distances"),
        (b"\xff\xd8\xff\xe0\0\4ab" + b"\0" * 90, "jpeg", "damaged", "no marker at byte 8"),
        (b"\xff\xd8" + b"\xff\xe0\0\0" * 50, "jpeg", "length", "cut short in its header"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "png", "damaged", "does not begin with its header"),
        (png(picture())[:60] + b"\0\0" + png(picture())[62:], "png", "damaged", "cannot be decoded"),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else None,
)
def test_what_is_no_image_is_refused(data: bytes, format: str, reason: str, words: str) -> None:
    with pytest.raises(ImageError, match=re.escape(words)) as caught:
        decode_compressed(message(data, format))
    assert caught.value.reason == reason


def test_header_is_read() -> None:
    coded = look_at(jpeg(picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    assert (coded.kind, coded.width, coded.height, coded.channels) == ("JPEG", 80, 48, 3)
    coded = look_at(png(picture()[..., 0]))
    assert (coded.kind, coded.width, coded.height, coded.channels) == ("PNG", 80, 48, 1)
