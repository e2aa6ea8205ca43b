# SPDX-License-Identifier: Apache-2.0
"""Picture files: what their headers say, and reading them whole or smaller; a file is never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image

from train.frames.data_error import DataError

Size = tuple[int, int]  # height, width
Reduction = Callable[[int, int], int]  # of a size: by which of REDUCED, or 1, an image may be divided

REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
ORIENTATION, ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF, by which OpenCV turns the picture
TAIL = 65536  # bytes, somewhere in which a whole file ends
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}

Image.MAX_IMAGE_PIXELS = None  # the user's own pictures are no bombs


def read(path: Path) -> np.ndarray:
    """Picture uint8 [H, W, 3] BGR.

    Raises:
        DataError: it cannot be read, or is no whole PNG or JPEG.
    """
    return _decoded(_bytes(path), cv2.IMREAD_COLOR, path)


def read_reduced(path: Path, reduction: Reduction) -> tuple[np.ndarray, Size]:
    """Picture uint8 [H, W, 3] BGR made smaller as its size asks for, and that size.

    Of a JPEG that saves most of the decoding.

    Raises:
        DataError: it cannot be read, or is no whole PNG or JPEG.
    """
    data = _bytes(path)
    whole = _size(BytesIO(data), path)
    return _decoded(data, REDUCED.get(reduction(*whole), cv2.IMREAD_COLOR), path), whole


def size(path: Path) -> Size:
    """(height, width) of the picture that `read` gives, by its header; the file's end is looked at, too.

    Raises:
        DataError: it cannot be read, or is no whole PNG or JPEG.
    """
    try:
        with path.open("rb") as file:
            return _size(file, path)
    except OSError as error:
        raise _unreadable(path, error) from None


def ids(path: Path) -> np.ndarray:
    """The numbers in a picture of one channel, uint8 or int32 [H, W]; of one with a palette not the palette's colours.

    Raises:
        DataError: it cannot be read, is no whole PNG or JPEG, or has colours.
    """
    try:
        with Image.open(BytesIO(_bytes(path)), formats=tuple(ENDS)) as picture:
            mode, found = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError):
        raise _damaged(path) from None
    if found.ndim == 3 and mode.startswith(("RGB", "LA")):
        grey = found[..., 0]
        if mode.startswith("RGB") and (found[..., :3] != grey[..., None]).any():
            raise DataError(f"{path} has colours, but its description has ids. List colours such as '#804080' there.")
        found = grey
    return found if found.dtype == np.uint8 else found.astype(np.int32)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that it is never half there; its folder is made.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _decoded(data: bytes, flags: int, path: Path) -> np.ndarray:
    # OpenCV makes a grey rest of what a JPEG lacks.
    cut_short = data[:2] == b"\xff\xd8" and ENDS["JPEG"] not in data[-TAIL:]
    picture = None if cut_short or not data else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None:
        raise _damaged(path)
    return picture


def _size(file: IO[bytes], path: Path) -> Size:
    try:
        with Image.open(file, formats=tuple(ENDS)) as picture:
            width, height = picture.size
            # Pillow would decode a PNG to look for what stands behind the picture.
            turned = "exif" in picture.info and picture.getexif().get(ORIENTATION) in ON_ITS_SIDE
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - TAIL))
            whole = ENDS[str(picture.format)] in file.read()
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's, not one of Pillow's
            raise
        raise _damaged(path) from None
    if not whole:
        raise _damaged(path)
    return (width, height) if turned else (height, width)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}.")


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is not a PNG or JPEG picture, or it is damaged; fetch or export it again.")
