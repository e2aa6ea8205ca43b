# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs images, raw and compressed, to arrays and back; refuses messages that contradict themselves."""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from road_seg_node.ros.coded_image import ImageError, look_at

MAX_SIDE = 16384  # no camera has more rows or columns, so more is a broken message

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
    """Returns a JPEG or PNG image as a new array, uint8 [height, width, 3], colour order BGR.

    `format` is as compressed_image_transport writes it ("rgb8; jpeg compressed bgr8", "mono16; png compressed ") or
    the bare "jpeg" or "png"; what the data are, they say themselves. 16 bits become 8, alpha is dropped, and an
    orientation in the file turns nothing. Raises ImageError with a sentence for other formats, and for data that are
    cut off, too large or damaged, before room is made for the picture.
    """
    encoding, _, compression = msg.format.partition(";")
    if "compressedDepth" in msg.format:
        raise ImageError(
            "encoding",
            f"A compressed image of format {_printable(msg.format)!r} holds distances, no colours: subscribe to the "
            "colour camera's topic.",
        )
    data = bytes(msg.data)
    coded = look_at(data)
    name = f"A {coded.kind} image of {coded.width}x{coded.height}"
    # compressed_image_transport leaves a Bayer mosaic as it is and stores it as grey.
    mosaic = encoding.removesuffix("16").removesuffix("8") + "8"
    is_mosaic = mosaic.startswith("bayer_") and mosaic in _CONVERTED and coded.channels == 1
    flags = (cv2.IMREAD_GRAYSCALE if is_mosaic else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError("damaged", f"{name} cannot be decoded: {error.err}.") from error
    if pixels is None or pixels.shape[:2] != (coded.height, coded.width):
        raise ImageError("damaged", f"{name} cannot be decoded: its {len(data)} bytes are damaged.")
    if is_mosaic:
        plain = Image(height=coded.height, width=coded.width, encoding=mosaic)
        return _convert(plain, pixels.astype(np.uint8, copy=False))
    if "compressed rgb" in compression:  # older publishers stored red where the decoder gives blue
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return pixels.astype(np.uint8, copy=False)


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
