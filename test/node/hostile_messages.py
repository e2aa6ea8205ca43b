# SPDX-License-Identifier: Apache-2.0
"""Messages that a robot's network may bring, by what is wrong with them, and what the node has to say of each."""

from __future__ import annotations

import cv2
from node_process import image, scene
from rclpy.serialization import serialize_message
from rig import coded
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def changed(**fields: object) -> Image:
    """A good image but for `fields`."""
    msg = image(scene())
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


def wire(old: bytes, new: bytes) -> bytes:
    """A good image as it goes over the wire, but for some of its bytes."""
    msg = changed()
    msg.header.frame_id = "front_camera"
    data = serialize_message(msg)
    assert data.count(old) == 1
    return data.replace(old, new)


LENGTH = (96 * 64 * 3).to_bytes(4, "little")
MOST = 2**32 - 1
JPEG, PNG = (cv2.imencode(suffix, scene())[1].tobytes() for suffix in (".jpg", ".png"))
FRAME_HEADER = JPEG.index(b"\xff\xc0") + 5  # of the JPEG: where its height and width are

# What is sent, and what the log has to say of it.
MALFORMED: dict[str, tuple[Image | bytes, str]] = {
    "too few bytes": (changed(data=b"\0" * 100), "must hold 18432 bytes, this one holds 100"),
    "no bytes": (changed(data=b""), "must hold 18432 bytes, this one holds 0"),
    "one byte too many": (changed(data=b"\0" * 18433), "must hold 18432 bytes, this one holds 18433"),
    "no rows": (changed(height=0), "of 96x0 bgr8 has no pixels"),
    "no columns": (changed(width=0), "of 0x64 bgr8 has no pixels"),
    "nothing but a header": (Image(), "encoding '' cannot be read"),
    "65535x65535 with few bytes": (changed(width=65535, height=65535), "of 65535x65535 bgr8 is larger than"),
    "as wide as a number can say": (changed(width=MOST), f"of {MOST}x64 bgr8 is larger than"),
    "as high as a number can say": (changed(height=MOST), f"of 96x{MOST} bgr8 is larger than"),
    "a row shorter than its pixels": (changed(step=287), "needs rows of 288 bytes or more, its step says 287"),
    "rows of no bytes": (changed(step=0), "its step says 0"),
    "rows of 4 GiB": (changed(step=MOST), f"with step {MOST} must hold"),
    "an encoding that does not exist": (changed(encoding="8UC5"), "encoding '8UC5' cannot be read"),
    "distances for colours": (changed(encoding="32FC1"), "encoding '32FC1' cannot be read"),
    "an encoding of 100,000 letters": (changed(encoding="x" * 100_000), f"encoding '{'x' * 40}' cannot be read"),
    "an encoding that rings the bell": (changed(encoding="\x07\x1b[2J"), "encoding '??[2J' cannot be read"),
    "an encoding that is no UTF-8": (wire(b"bgr8\0", b"\xff\xfe\xfd8\0"), "encoding '???8' cannot be read"),
    "an odd size where pairs are needed": (changed(encoding="nv12", height=63), "an even number of rows and columns"),
    "16 bits announced, 8 sent": (changed(encoding="rgb16"), "needs rows of 576 bytes or more, its step says 288"),
}

MALFORMED_COMPRESSED: dict[str, tuple[CompressedImage, str]] = {
    "a JPEG cut in the middle": (coded(JPEG[: len(JPEG) // 2], "jpeg"), "JPEG image of 96x64 is cut short"),
    "a JPEG cut in its header": (coded(JPEG[:30], "jpeg"), "JPEG image is cut short in its header: 30 bytes"),
    "a PNG cut in the middle": (coded(PNG[: len(PNG) // 2]), "PNG image of 96x64 is cut short"),
    "a PNG with damaged pixels": (coded(PNG[:5000] + b"x" * 50 + PNG[5050:]), "PNG image of 96x64 cannot be decoded"),
    "a JPEG of 65535x65535": (
        coded(JPEG[:FRAME_HEADER] + b"\xff\xff\xff\xff" + JPEG[FRAME_HEADER + 4 :], "jpeg"),
        "JPEG image of 65535x65535 claims more than",
    ),
    "a PNG of 4 billion columns and rows": (
        coded(PNG[:16] + b"\xff" * 8 + PNG[24:]),
        f"PNG image of {MOST}x{MOST} claims more than",
    ),
    "a PNG of no columns": (coded(PNG[:16] + bytes(4) + PNG[20:]), "PNG image of 0x64 has no pixels"),
    "a small bomb": (coded(PNG[:16] + b"\0\0\x20\0\0\0\x20\0" + PNG[24:]), "PNG image of 8192x8192"),
    "no data": (coded(b""), "compressed image is empty"),
    "a text": (coded(b"this is no picture"), "is no JPEG or PNG: it begins with 74 68 69 73"),
    "a GIF": (coded(b"GIF89a" + bytes(200), "gif"), "is no JPEG or PNG: it begins with 47 49 46 38"),
    "distances, compressed": (coded(PNG, "16UC1; compressedDepth png"), "holds distances, no colours"),
}

# Images that are no worse for it. What their answer has to be, test_stamps.py and test_node.py tell of others.
ODD: dict[str, Image | bytes] = {
    "a byte order that is no order": changed(is_bigendian=255),
    "no frame_id": changed(),
    "a frame_id of 100,000 letters": changed(header=Header(frame_id="x" * 100_000)),
    "a frame_id that is no UTF-8": wire(b"front_camera\0", b"front\xff\xfeamera\0"),
    "a frame_id with a zero in it": wire(b"front_camera\0", b"front\0camera\0"),
}

# Bytes that the middleware cannot make an image of, and keeps to itself: no frame is received.
NO_MESSAGE: dict[str, bytes] = {
    "rubbish for a message": b"\0\1\0\0" + b"\xff" * 300,
    "a message cut in its header": wire(b"bgr8\0", b"bgr8\0")[:20],
    "a message cut in its pixels": wire(b"bgr8\0", b"bgr8\0")[:9000],
    "a message of no bytes": b"",
    "a message of an unknown coding": b"\x77\x77\x77\x77" + wire(b"bgr8\0", b"bgr8\0")[4:],
    "a length of pixels past the end": wire(LENGTH, (2**31).to_bytes(4, "little")),
}
