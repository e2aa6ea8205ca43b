# SPDX-License-Identifier: Apache-2.0
"""Picture files: what their headers say, and reading them whole or smaller; a file is never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
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
PNG, GREY, WITH_ALPHA = b"\x89PNG\r\n\x1a\n", 0, (4, 6)  # a PNG's first bytes, and the types of colour in its header

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
    """The numbers in a mask of one channel, bool, uint8 or int32 [H, W]; not a palette's colours.

    Raises:
        DataError: it cannot be read, is no whole PNG, has colours, or its numbers are not certain.
    """
    data = _mask_bytes(path)
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as picture:
            mode, found = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError):
        raise _damaged(path) from None
    if found.ndim == 3:
        grey = found[..., 0]
        if mode.startswith("RGB") and (found[..., :3] != grey[..., None]).any():
            raise DataError(f"{path} has colours, but its description has ids. List colours such as '#804080' there.")
        _check_alpha(found, path)
        found = grey
    return found if found.dtype in (bool, np.uint8) else found.astype(np.int32)


def colours(path: Path) -> np.ndarray:
    """The colours of a mask, uint8 [H, W, 3] BGR.

    Raises:
        DataError: it cannot be read, is no whole PNG, or its colours are not certain.
    """
    data = _mask_bytes(path)
    if data[25] not in WITH_ALPHA:
        return _decoded(data, cv2.IMREAD_COLOR, path)
    found = _decoded(data, cv2.IMREAD_UNCHANGED, path)
    _check_alpha(found, path)
    return np.ascontiguousarray(found[..., :3])


def _mask_bytes(path: Path) -> bytes:
    """A PNG whose pixels are read as they were written; raises DataError."""
    data = _bytes(path)
    if data.startswith(b"\xff\xd8"):
        raise DataError(f"{path} is a JPEG, which blurs classes into one another; export the masks as PNG.")
    if not data.startswith(PNG) or len(data) < 26:
        raise _damaged(path)
    bits, colour = data[24], data[25]
    # These would be scaled to 8 bits, and be other numbers.
    if (bits == 16 and colour != GREY) or (bits in (2, 4) and colour == GREY):
        raise DataError(f"{path} has {bits} bits a channel; save it with 8.")
    return data


def _check_alpha(mask: np.ndarray, path: Path) -> None:
    """Raises DataError where pixels of one colour, in all channels but the last, differ in that one, their opacity."""
    alpha = mask[..., -1]
    if mask.shape[-1] not in (2, 4) or (alpha == alpha[0, 0]).all():
        return
    packed = mask[..., :-1] @ (1 << np.arange(0, 8 * (mask.shape[-1] - 1), 8, dtype=np.int64))
    if len(np.unique(packed)) != len(np.unique(packed | alpha.astype(np.int64) << 32)):
        raise DataError(
            f"{path} has the same colour both opaque and transparent, so that it does not say what is what. Save it "
            "without transparency."
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that it is never half there; its folder is made.

    Raises:
        DataError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _decoded(data: bytes, flags: int, path: Path) -> np.ndarray:
    # OpenCV makes a grey rest of what a JPEG lacks.
    cut_short = data[:2] == b"\xff\xd8" and ENDS["JPEG"] not in data[-TAIL:]
    try:
        picture = None if cut_short or not data else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # a size that cannot be
        picture = None
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
            # Phones write a second picture behind the first, which makes the file an MPO to Pillow.
            whole = ENDS["PNG" if picture.format == "PNG" else "JPEG"] in file.read()
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
