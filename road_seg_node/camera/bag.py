# SPDX-License-Identifier: Apache-2.0
"""A recorded bag (MCAP or sqlite3) as a source of pictures. Needs rosbags from PyPI, and no rosbag2."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from road_seg_node.camera.shots import RATE, CameraError, Mounting, Shot
from road_seg_node.ros.topics import camera_info_beside

SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"
TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
INFO_TYPE = "sensor_msgs/msg/CameraInfo"


def is_bag(path: Path) -> bool:
    """Whether `path` is a bag's file, or a folder with one."""
    if path.is_dir():
        return (path / METADATA).is_file() or any(entry.suffix in SUFFIXES for entry in path.iterdir())
    return path.suffix in SUFFIXES and path.is_file()


class Bag:
    """The images of one topic of a bag, each with the newest camera_info beside it, at the times of recording."""

    rate = RATE
    mounting: Mounting | None = None

    def __init__(self, path: Path, topic: str = "") -> None:
        """Raises CameraError where the bag cannot be read, has no images, or has several topics and none is named."""
        try:
            self._rosbag2: Any = importlib.import_module("rosbags.rosbag2")
        except ImportError as error:
            raise CameraError(f"To play {path} install rosbags: pip install rosbags ({error}).") from error
        if path.is_dir() and not (path / METADATA).is_file():
            inside = next(entry for entry in sorted(path.iterdir()) if entry.suffix in SUFFIXES)
            raise CameraError(f"The bag {path} has no {METADATA}: its recorder did not close it. Try {inside} instead.")
        self._path = path
        with self._opened() as reader:
            self._topic = _chosen(path, reader.connections, topic)

    def shots(self) -> Iterator[Shot]:
        with self._opened() as reader:
            images = [known for known in reader.connections if known.topic == self._topic]
            beside = camera_info_beside(self._topic)
            infos = [known for known in reader.connections if known.topic == beside and known.msgtype == INFO_TYPE]
            try:
                # One that was recorded after the first images is of them too.
                info = next((deserialize_message(data, CameraInfo) for _, _, data in _messages(reader, infos)), None)
                for connection, time, data in reader.messages([*images, *infos]):
                    if connection.msgtype == INFO_TYPE:
                        info = deserialize_message(data, CameraInfo)
                    else:
                        yield Shot(deserialize_message(data, TYPES[connection.msgtype]), info, time)
            except Exception as error:  # noqa: BLE001 - whatever the storages and the middleware raise of damage
                raise self._unreadable(error) from error

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """A reader of rosbags. Raises CameraError where the bag cannot be opened."""
        try:
            reader = self._rosbag2.Reader(self._path)
            reader.open()
        except Exception as error:  # noqa: BLE001 - its storages raise types of their own
            raise self._unreadable(error) from error
        try:
            yield reader
        finally:
            reader.close()

    def _unreadable(self, error: Exception) -> CameraError:
        return CameraError(
            f"{self._path} cannot be read as a bag: {error} One whose recorder did not close it may be mended by "
            "`mcap recover` or `ros2 bag reindex`."
        )


def _messages(reader: Any, connections: list[Any]) -> Iterator[Any]:
    return reader.messages(connections) if connections else iter(())


def _chosen(path: Path, connections: list[Any], topic: str) -> str:
    """The image topic to play. Raises CameraError with those that there are."""
    found = {known.topic: known for known in connections if known.msgtype in TYPES and known.msgcount}
    listed = ", ".join(f"{name} ({known.msgtype}, {known.msgcount} messages)" for name, known in sorted(found.items()))
    if not found:
        others = ", ".join(sorted({known.topic for known in connections})) or "nothing"
        raise CameraError(f"The bag {path} has no images; it has {others}.")
    if topic:
        wanted = topic if topic.startswith("/") else f"/{topic}"
        if wanted not in found:
            raise CameraError(f"The bag {path} has no images on {wanted}; it has {listed}.")
        return wanted
    infos = {known.topic for known in connections if known.msgtype == INFO_TYPE}
    of_cameras = [name for name in found if camera_info_beside(name) in infos]  # the others are answers, such as masks
    names = of_cameras if len(of_cameras) == 1 else list(found)
    if len(names) > 1:
        raise CameraError(
            f"The bag {path} has images on several topics, set the parameter topic (of the launch file: camera_topic) "
            f"to one: {listed}."
        )
    return names[0]
