# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs images, raw or compressed, to arrays and back; refuses messages whose fields contradict each other."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

MAX_SIDE = 16384  # no camera has more rows or columns, so more is a broken message
MAX_COMPRESSED_PIXELS = 1 << 26  # a few bytes of PNG may claim any size; this many take 200 MB

# Encodings read here: how many bytes a pixel has, and OpenCV's conversion of them to BGR.
_DIRECT: dict[str, tuple[int, int | None]] = {
    "bgr8": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    # OpenCV's own type names say nothing of colour; OpenCV's order is BGR.
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
    "8UC3": (3, None),
    "8UC4": (4, cv2.COLOR_BGRA2BGR),
}
# Encodings that a library converts: how many bytes a pixel has in a row.
_CONVERTED: dict[str, int] = {
    **{f"bayer_{order}8": 1 for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": 2 for order in ("rggb", "bggr", "gbrg", "grbg")},
    "mono16": 2,
    **{f"{order}16": 2 * len(order) for order in ("bgr", "rgb", "bgra", "rgba")},
    "yuv422": 2,
    "uyvy": 2,
    "yuv422_yuy2": 2,
    "yuyv": 2,
}
# Luma rows, and below them half as many rows of interleaved chroma.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21}

KNOWN_ENCODINGS = (*_DIRECT, *_CONVERTED, *_SEMI_PLANAR)


class ImageError(ValueError):
    """A message that is no image; `reason` names the kind of fault, so that each is reported once in a while."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def to_bgr(msg: Image) -> np.ndarray:
    """Returns the image as uint8 [height, width, 3], colour order BGR.

    For bgr8 it is a view of the message's bytes, whose rows may be padded; other encodings give a new array.
    Raises ImageError with a sentence when size, step, length and encoding do not agree, or the encoding is unknown.
    """
    rows = _rows(msg)
    height, width, encoding = msg.height, msg.width, msg.encoding
    if encoding in _DIRECT:
        channels, conversion = _DIRECT[encoding]
        pixels: np.ndarray = np.ndarray((height, width, channels), np.uint8, rows, 0, (msg.step, channels, 1))
        return pixels if conversion is None else cv2.cvtColor(pixels, conversion)
    if encoding in _SEMI_PLANAR:
        return cv2.cvtColor(np.ascontiguousarray(rows[:, :width]), _SEMI_PLANAR[encoding])
    return _convert(msg, np.ascontiguousarray(rows[:, : width * _CONVERTED[encoding]]))


def decode_compressed(msg: CompressedImage) -> np.ndarray:
    """Returns the JPEG or PNG as uint8 [height, width, 3], colour order BGR, as it is stored: not turned by its EXIF.

    What it is, its first bytes tell; `format` is written in too many ways. Raises ImageError with a sentence when it is
    neither, is cut short, larger than MAX_SIDE or MAX_COMPRESSED_PIXELS, or cannot be decoded.
    """
    data = bytes(msg.data)
    name = f"A compressed image of {len(data)} bytes (format {_printable(msg.format)!r})"
    size = _jpeg_size(data) or _png_size(data)
    if size is None:
        raise ImageError("compressed", f"{name} is no JPEG or PNG, or is cut short before its size.")
    width, height = size
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE or width * height > MAX_COMPRESSED_PIXELS:
        raise ImageError("compressed size", f"{name} claims {width}x{height} pixels, which is no camera's size.")
    # libjpeg fills up with grey what is cut off, which would be answered as if it were the street.
    if not (_jpeg_ends(data) if data[0] == 0xFF else data.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")):
        raise ImageError("cut short", f"{name} is cut short: its end mark is missing.")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None or bgr.shape != (height, width, 3):
        raise ImageError("compressed", f"{name} of {width}x{height} pixels cannot be decoded: it is damaged.")
    return bgr


def to_message(array: np.ndarray, encoding: str, header: Header) -> Image:
    """Returns an Image of `array`: uint8 [H, W] for "mono8", uint8 [H, W, 3] for "bgr8", without row padding."""
    channels = {"mono8": (), "bgr8": (3,)}[encoding]
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] != channels:
        raise ValueError(f"{encoding} cannot hold an array of {array.dtype} {array.shape}.")
    contiguous = np.ascontiguousarray(array)
    msg = Image(header=header, height=array.shape[0], width=array.shape[1], encoding=encoding)
    msg.step = contiguous.strides[0]
    # Assigning an array or bytes to `data` makes rclpy look at every element: 55 ms and 0.6 ms where this takes 0.05.
    msg.data.frombytes(contiguous.data)
    return msg


def _rows(msg: Image) -> np.ndarray:
    """The message's bytes as uint8 [rows, step], once its fields are known to agree."""
    height, width, step, encoding = msg.height, msg.width, msg.step, msg.encoding
    size = f"{width}x{height} {_printable(encoding)}"
    if encoding not in KNOWN_ENCODINGS:
        raise ImageError(
            "encoding",
            f"An image of encoding {_printable(encoding)!r} cannot be read: known are {', '.join(KNOWN_ENCODINGS)}.",
        )
    if height == 0 or width == 0:
        raise ImageError("size", f"An image of {size} has no pixels.")
    if height > MAX_SIDE or width > MAX_SIDE:
        raise ImageError("size", f"An image of {size} is larger than {MAX_SIDE} rows or columns, which no camera is.")
    if encoding in _SEMI_PLANAR and (height % 2 or width % 2):
        raise ImageError("size", f"An image of {size} must have an even number of rows and columns.")
    pixel = _DIRECT[encoding][0] if encoding in _DIRECT else _CONVERTED.get(encoding, 1)
    if step < width * pixel:
        raise ImageError(
            "step", f"An image of {size} needs rows of {width * pixel} bytes or more, its step says {step}."
        )
    total = height * 3 // 2 if encoding in _SEMI_PLANAR else height
    if len(msg.data) != total * step:
        raise ImageError(
            "length",
            f"An image of {size} with step {step} must hold {total * step} bytes, this one holds {len(msg.data)}.",
        )
    return np.frombuffer(msg.data, np.uint8).reshape(total, step)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its contents begin) of each segment up to the first scan. ITU-T T.81, annex B."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at + 4
        if marker == 0xDA:  # start of scan
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG; None where `data` is none, or ends before its size."""
    for marker, at in _jpeg_segments(data):
        # The starts of frames: C0 to CF without DHT, JPG and DAC.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 5 <= len(data):
            return int.from_bytes(data[at + 3 : at + 5], "big"), int.from_bytes(data[at + 1 : at + 3], "big")
    return None


def _jpeg_ends(data: bytes) -> bool:
    """Whether the mark of the end follows the first scan; the picture in the EXIF data before it has one of its own."""
    scan = next((at for marker, at in _jpeg_segments(data) if marker == 0xDA), len(data))
    return data.find(b"\xff\xd9", scan) >= 0


def _png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG; None where `data` is none, or ends before its size."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _printable(encoding: str) -> str:
    return re.sub(r"[^ -~]", "?", encoding[:40])


def _convert(msg: Image, packed: np.ndarray) -> np.ndarray:
    """Bayer, YUV 4:2:2 and 16 bits through rosbags-image, or cv_bridge where only that is installed.

    packed: the message's rows without padding, which rosbags-image would take for pixels.
    """
    converter = _converter()
    if converter is None:
        raise ImageError(
            "encoding",
            f"An image of encoding {msg.encoding!r} needs a package to convert it: install rosbags-image or cv_bridge.",
        )
    plain = SimpleNamespace(
        height=msg.height,
        width=msg.width,
        encoding=msg.encoding,
        is_bigendian=bool(msg.is_bigendian),
        step=packed.shape[1],
        data=packed.reshape(-1),
    )
    try:
        return np.ascontiguousarray(converter(plain, "bgr8"), np.uint8)
    except Exception as error:  # the two libraries, and OpenCV below them, raise types of their own
        raise ImageError(
            "encoding", f"An image of {msg.width}x{msg.height} {msg.encoding} could not be converted: {error}"
        ) from error


def _converter() -> Any | None:
    """The function (message, "bgr8") -> array of the first library that works here."""
    # rosbags-image first: Jazzy's cv_bridge was built for NumPy 1 and fails, with a page of text, beside NumPy 2.
    try:
        return importlib.import_module("rosbags.image").message_to_cvimage
    except ImportError:
        pass
    try:
        importlib.import_module("cv_bridge.boost.cv_bridge_boost")  # its compiled half, where it fails
        return importlib.import_module("cv_bridge").CvBridge().imgmsg_to_cv2
    except (ImportError, AttributeError, SystemError):  # which of them depends on NumPy's version
        return None
