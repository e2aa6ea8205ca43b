# SPDX-License-Identifier: Apache-2.0
"""Small recorded bags, written by rosbags as rosbag2 and ROS 1 write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from road_seg_node.ros.images import to_message

pytest.importorskip("rosbags.rosbag2", reason="rosbags is not here: pip install rosbags")

from rosbags.rosbag1 import Writer as Ros1Writer  # noqa: E402
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

BEGIN = 1_700_000_000_000_000_000  # nanoseconds


def stamped(msg: Any, index: int, frame_id: str = "front") -> Any:
    """`msg` with the stamp of frame `index` in a recording at 20 Hz."""
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(BEGIN + index * 50_000_000, 10**9)
    msg.header.frame_id = frame_id
    return msg


def picture(index: int) -> np.ndarray:
    """uint8 [20, 33, 3], each of another brightness."""
    return np.random.default_rng(index).integers(0, 20, (20, 33, 3), np.uint8) + np.uint8(20 * index)


def raw(index: int) -> Image:
    return stamped(to_message(picture(index), "bgr8", Image().header), index)


def png(index: int) -> CompressedImage:
    msg = stamped(CompressedImage(format="bgr8; png compressed bgr8"), index)
    msg.data.frombytes(cv2.imencode(".png", picture(index))[1].tobytes())
    return msg


def info(index: int) -> CameraInfo:
    msg = stamped(CameraInfo(width=33, height=20, distortion_model="plumb_bob", d=[0.0] * 5), index)
    msg.k[0] = msg.k[4] = 30.0 + index
    return msg


def write_bag(
    path: Path, topics: dict[str, list[Any]], *, mcap: bool = True, compressed: CompressionMode | None = None
) -> Path:
    """Writes each topic's messages, recorded 10 ms after their stamps, as a rosbag2 folder; returns it."""
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compressed is not None:
        writer.set_compression(compressed, CompressionFormat.ZSTD)
    with writer:
        known = {topic: writer.add_connection(topic, _type(msgs[0]), typestore=store) for topic, msgs in topics.items()}
        for time, topic, msg in _in_time(topics):
            writer.write(known[topic], time, serialize_message(msg))
    return path


def write_ros1_bag(path: Path, topics: dict[str, list[Any]]) -> Path:
    """The same as a bag of ROS 1, one file that ends in .bag; returns it."""
    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
    with Ros1Writer(path) as writer:
        known = {topic: writer.add_connection(topic, _type(msgs[0]), typestore=ros1) for topic, msgs in topics.items()}
        for time, topic, msg in _in_time(topics):
            writer.write(known[topic], time, ros2.cdr_to_ros1(serialize_message(msg), _type(msg)))
    return path


def _type(msg: Any) -> str:
    return f"{type(msg).__module__.split('.')[0]}/msg/{type(msg).__name__}"


def _in_time(topics: dict[str, list[Any]]) -> list[tuple[int, str, Any]]:
    """(recording's time, topic, message), the earliest first."""
    rows = [
        (msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec + 10_000_000, topic, msg)
        for topic, messages in topics.items()
        for msg in messages
    ]
    return sorted(rows, key=lambda row: row[:2])
