# SPDX-License-Identifier: Apache-2.0
"""Every encoding gives the picture that was encoded; every field of a message may lie."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS's sensor_msgs")

from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from road_seg_node.ros.images import ImageError, to_bgr, to_message  # noqa: E402


def message(rows: np.ndarray, width: int, height: int, encoding: str, big: bool = False, padding: int = 0) -> Image:
    """An Image of `rows`, uint8 [rows, bytes], each followed by `padding` bytes of rubbish."""
    padded = np.hstack([rows, np.full((len(rows), padding), 201, np.uint8)])
    msg = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big), step=padded.shape[1])
    msg.data.frombytes(padded.tobytes())
    return msg


@pytest.fixture
def bgr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)


padding = pytest.mark.parametrize("padding", [0, 1, 16])


@padding
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("bgr8", [0, 1, 2]),
        ("rgb8", [2, 1, 0]),
        ("bgra8", [0, 1, 2, 3]),
        ("rgba8", [2, 1, 0, 3]),
        ("8UC3", [0, 1, 2]),
        ("8UC4", [0, 1, 2, 3]),
    ],
)
def test_colour_comes_out_in_blue_green_red(bgr: np.ndarray, encoding: str, order: list[int], padding: int) -> None:
    rows = np.dstack([bgr, np.full((6, 10), 9, np.uint8)])[:, :, order].reshape(6, -1)
    np.testing.assert_array_equal(to_bgr(message(rows, 10, 6, encoding, padding=padding)), bgr)


@padding
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_comes_out_in_all_three_channels(bgr: np.ndarray, encoding: str, padding: int) -> None:
    grey = bgr[:, :, 0]
    answer = to_bgr(message(grey, 10, 6, encoding, padding=padding))
    np.testing.assert_array_equal(answer, np.dstack([grey] * 3))


def test_bgr8_is_read_in_place() -> None:
    msg = message(np.zeros((2, 9), np.uint8), 3, 2, "bgr8", padding=2)
    view = to_bgr(msg)
    msg.data[11 + 3] = 250  # second row, second pixel, blue
    assert view[1, 1, 0] == 250


COLOURS = [(10, 100, 200), (200, 100, 10), (0, 255, 0), (128, 128, 128)]  # BGR
converted = pytest.mark.parametrize("colour", COLOURS)


def close(answer: np.ndarray, colour: tuple[int, int, int], within: int) -> None:
    assert answer.shape == (8, 12, 3)
    assert answer.dtype == np.uint8
    assert np.abs(answer.astype(int) - colour).max() <= within


@padding
@converted
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(order: str, big: bool, bits: int, colour: tuple[int, int, int], padding: int) -> None:
    value = dict(zip("bgr", colour, strict=True))
    tile = np.array([value[name] for name in order]).reshape(2, 2)
    mosaic = np.tile(tile, (4, 6))
    kind = np.uint8 if bits == 8 else np.dtype(">u2" if big else "<u2")
    rows = (mosaic * (1 if bits == 8 else 257)).astype(kind).view(np.uint8)
    close(to_bgr(message(rows, 12, 8, f"bayer_{order}{bits}", big, padding)), colour, 1)


def yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """BT.601, Y of 16..235 as cameras send it."""
    blue, green, red = (value / 255 for value in colour)
    return (
        round(16 + 65.481 * red + 128.553 * green + 24.966 * blue),
        round(128 - 37.797 * red - 74.203 * green + 112.0 * blue),
        round(128 + 112.0 * red - 93.786 * green - 18.214 * blue),
    )


@padding
@converted
@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
def test_yuv_with_a_chroma_for_two_columns(encoding: str, colour: tuple[int, int, int], padding: int) -> None:
    y, u, v = yuv(colour)
    pair = [u, y, v, y] if encoding in ("uyvy", "yuv422") else [y, u, y, v]
    rows = np.tile(np.array(pair, np.uint8), (8, 6))
    close(to_bgr(message(rows, 12, 8, encoding, padding=padding)), colour, 4)


@padding
@converted
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_yuv_with_its_chroma_below(encoding: str, colour: tuple[int, int, int], padding: int) -> None:
    y, u, v = yuv(colour)
    chroma = [u, v] if encoding == "nv12" else [v, u]
    rows = np.vstack([np.full((8, 12), y), np.tile(chroma, (4, 6))]).astype(np.uint8)
    close(to_bgr(message(rows, 12, 8, encoding, padding=padding)), colour, 4)


@padding
@converted
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("bgr16", [0, 1, 2]), ("rgb16", [2, 1, 0]), ("bgra16", [0, 1, 2, 3]), ("rgba16", [2, 1, 0, 3])],
)
def test_sixteen_bits(encoding: str, order: list[int], big: bool, colour: tuple[int, int, int], padding: int) -> None:
    pixel = np.array([*colour, 255])[order] * 257
    rows = np.tile(pixel, (8, 12)).astype(">u2" if big else "<u2").view(np.uint8)
    close(to_bgr(message(rows, 12, 8, encoding, big, padding)), colour, 1)


@padding
@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bit_grey(big: bool, padding: int) -> None:
    rows = np.full((8, 12), 90 * 257, ">u2" if big else "<u2").view(np.uint8)
    close(to_bgr(message(rows, 12, 8, "mono16", big, padding)), (90, 90, 90), 1)


def change(**fields: object) -> Image:
    msg = message(np.zeros((6, 30), np.uint8), 10, 6, "bgr8")
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("msg", "reason", "words"),
    [
        (change(height=0), "size", "10x0 bgr8 has no pixels"),
        (change(width=0), "size", "0x6 bgr8 has no pixels"),
        (change(height=0, width=0, step=0, data=b""), "size", "no pixels"),
        (change(width=2**32 - 1, step=2**32 - 1), "size", "larger than 16384"),
        (change(height=2**32 - 1), "size", "larger than 16384"),
        (change(step=29), "step", "rows of 30 bytes or more, its step says 29"),
        (change(step=0, data=b""), "step", "its step says 0"),
        (change(encoding="rgba8"), "step", "rows of 40 bytes"),
        (change(encoding="mono16", width=16), "step", "rows of 32 bytes"),
        (change(encoding="yuyv", width=16), "step", "rows of 32 bytes"),
        (change(data=b"\0" * 179), "length", "must hold 180 bytes, this one holds 179"),
        (change(data=b"\0" * 181), "length", "must hold 180 bytes, this one holds 181"),
        (change(step=2**32 - 1), "length", "this one holds 180"),
        (change(encoding="nv12"), "length", "must hold 270 bytes"),
        (change(encoding="nv21", height=5), "size", "even number"),
        (change(encoding=""), "encoding", "'' cannot be read: known are bgr8, rgb8"),
        (change(encoding="32FC1"), "encoding", "'32FC1' cannot be read"),
        (change(encoding="BGR8"), "encoding", "'BGR8' cannot be read"),
        (change(encoding="\n\x1b[31m" + "x" * 5000), "encoding", "'??[31mxxx"),
        (change(encoding="uyvy", width=9), "encoding", "could not be converted"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(msg: Image, reason: str, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_bgr(msg)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("encoding", "shape"), [("mono8", (5, 7)), ("bgr8", (5, 7, 3))])
def test_what_is_written_is_read_back(encoding: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).integers(0, 256, (shape[0], shape[1] * 2, *shape[2:]), np.uint8)[:, ::2]
    header = Header(frame_id="front_camera")
    msg = to_message(array, encoding, header)
    assert (msg.height, msg.width, msg.encoding, msg.step) == (
        5,
        7,
        encoding,
        7 * (3 if encoding == "bgr8" else 1),
    )
    assert msg.header == header
    assert bytes(msg.data) == array.tobytes()
    expected = array if encoding == "bgr8" else np.dstack([array] * 3)
    np.testing.assert_array_equal(to_bgr(msg), expected)


@pytest.mark.parametrize(
    ("array", "encoding"),
    [
        (np.zeros((2, 2), np.float32), "mono8"),
        (np.zeros((2, 2), np.uint8), "bgr8"),
        (np.zeros(4, np.uint8), "mono8"),
    ],
)
def test_an_array_that_an_encoding_cannot_hold_is_refused(array: np.ndarray, encoding: str) -> None:
    with pytest.raises(ValueError, match=f"{encoding} cannot hold"):
        to_message(array, encoding, Header())
