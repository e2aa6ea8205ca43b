# SPDX-License-Identifier: Apache-2.0
"""What JPEG and PNG data say of themselves, read before a decoder makes room for what they promise.

JPEG: ITU-T T.81, annex B. PNG: W3C PNG (third edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 2**26  # 67 million, 200 MB decoded: above any camera that a robot segments, below what breaks it
_END_OF_JPEG, _END_OF_PNG = b"\xff\xd9", b"IEND\xaeB`\x82"
_START_OF_SCAN = 0xDA
_STARTS_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows
# Pixels that one byte can stand for at the very most. JPEG: a bit for each block of 64 (its DC difference). PNG:
# deflate's best, 1032 bytes for one, at 8 pixels a byte.
_PIXELS_A_BYTE = {"JPEG": 512, "PNG": 1032 * 8}


class ImageError(ValueError):
    """A message that is no image; `reason` names the kind of fault, so that each is reported once in a while."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Coded:
    """What the data promise: "JPEG" or "PNG", columns, rows, and values a pixel (1 is grey)."""

    kind: str
    width: int
    height: int
    channels: int


def look_at(data: bytes) -> Coded:
    """Reads the header of JPEG or PNG data.

    Raises ImageError with a sentence when they are neither, end too early, or promise a picture that is empty, larger
    than MAX_PIXELS, or more than their bytes can hold. Damage that leaves both ends in place is the decoder's to find.
    """
    if data.startswith(JPEG):
        coded, body = _jpeg(data)
        complete = data.rfind(_END_OF_JPEG, body) >= 0  # in a scan, 0xff is followed by 0, so this is no pixel
    elif data.startswith(PNG):
        coded, body = _png(data)
        complete = data.rfind(_END_OF_PNG, body) >= 0
    elif not data:
        raise ImageError("length", "A compressed image is empty.")
    else:
        raise ImageError(
            "encoding", f"A compressed image is no JPEG or PNG: it begins with {data[:4].hex(' ')}."
        )
    name = f"A {coded.kind} image of {coded.width}x{coded.height}"
    if not coded.width or not coded.height:
        raise ImageError("size", f"{name} has no pixels.")
    pixels = coded.width * coded.height
    if pixels > MAX_PIXELS:
        raise ImageError("size", f"{name} claims more than {MAX_PIXELS} pixels, which is no camera's size.")
    if pixels > _PIXELS_A_BYTE[coded.kind] * len(data):
        raise ImageError("length", f"{name} cannot be in the {len(data)} bytes that came.")
    if not complete:
        raise ImageError("length", f"{name} is cut short: its end is missing in the {len(data)} bytes that came.")
    return coded


def _jpeg(data: bytes) -> tuple[Coded, int]:
    """What the first frame header says, and where the first scan begins."""
    coded, at = None, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError("damaged", f"A JPEG image is damaged: no marker at byte {at}.")
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may come before a marker
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _STARTS_OF_FRAME and coded is None and at + 10 <= len(data):
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            coded = Coded("JPEG", width, height, channels)
        if marker == _START_OF_SCAN and coded is not None:
            return coded, at
        at += 2 + max(length, 2)
    raise ImageError("length", f"A JPEG image is cut short in its header: {len(data)} bytes came.")


def _png(data: bytes) -> tuple[Coded, int]:
    """What the header says, and where it ends."""
    end = len(PNG) + 25  # length, "IHDR", 13 bytes, checksum
    if len(data) < end:
        raise ImageError("length", f"A PNG image is cut short in its header: {len(data)} bytes came.")
    _, name, width, height, _, colour = struct.unpack_from(">I4sIIBB", data, len(PNG))
    if name != b"IHDR":
        raise ImageError("damaged", "A PNG image is damaged: it does not begin with its header.")
    return Coded("PNG", width, height, 1 if colour in (0, 4) else 3), end
