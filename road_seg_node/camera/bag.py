# SPDX-License-Identifier: Apache-2.0
"""A recorded bag (MCAP, sqlite3, or ROS 1's) as a source of pictures. Needs rosbags from PyPI, and nothing of ROS's."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from road_seg_node.camera.shots import RATE, CameraError, Mounting, Shot, TopicError
from road_seg_node.listing import listed
from road_seg_node.ros.topics import camera_info_beside

ROS_1 = ".bag"
ZSTD = ".zstd"
PLAIN = (".mcap", ".db3", ROS_1)
ENDINGS = (*PLAIN, ".mcap" + ZSTD, ".db3" + ZSTD)
METADATA = "metadata.yaml"
OF_ROSBAG2 = b"rosbag2_bagfile_information"  # in it; data sets of pictures have files of that name too
ACTIVE = ".bag.active"  # of ROS 1, until its recorder closes the bag
TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
INFO_TYPE = "sensor_msgs/msg/CameraInfo"


def is_bag(path: Path) -> bool:
    """Whether `path` is a bag's file, or a folder with one. Raises OSError."""
    if path.is_dir():
        return _has_metadata(path) or bool(listed(path, ENDINGS))
    return path.name.lower().endswith((*ENDINGS, ACTIVE)) and path.is_file()


def _has_metadata(folder: Path) -> bool:
    file = folder / METADATA
    return file.is_file() and OF_ROSBAG2 in file.read_bytes()


class Bag:
    """The images of one topic of a bag, each with the newest camera_info beside it, at the times of recording."""

    rate = RATE
    mounting: Mounting | None = None

    def __init__(self, path: Path, topic: str = "") -> None:
        """Raises CameraError where the bag cannot be read, has no images, or has several topics and none is named."""
        self._path = path
        if path.name.lower().endswith(ACTIVE):
            raise CameraError(f"{path} was not closed by its recorder: `rosbag reindex` repairs it.")
        if path.is_dir() and not _has_metadata(path):
            inside = listed(path, ENDINGS)[0]
            if inside.name.lower().endswith(ROS_1):
                raise CameraError(f"The folder {path} holds ROS 1 bags: give one of them, such as {inside}.")
            raise CameraError(
                f"The bag {path} has no {METADATA} of rosbag2: its recorder did not close it. Try {inside} instead."
            )
        self._of_ros_1 = path.name.lower().endswith(ROS_1) and path.is_file()
        try:
            self._rosbags: Any = importlib.import_module("rosbags.rosbag1" if self._of_ros_1 else "rosbags.rosbag2")
            self._types: Any = importlib.import_module("rosbags.typesys")
        except ImportError as error:
            raise CameraError(f"To play {path} install rosbags: pip install rosbags ({error}).") from error
        with self._opened() as reader:
            self._topic = _chosen(path, reader.connections, topic)

    def shots(self) -> Iterator[Shot]:
        decode = self._decoder()
        with self._opened() as reader:
            images = [known for known in reader.connections if known.topic == self._topic]
            beside = camera_info_beside(self._topic)
            infos = [known for known in reader.connections if known.topic == beside and known.msgtype == INFO_TYPE]
            try:
                # One that was recorded after the first images is of them too.
                info = next((decode(data, INFO_TYPE) for _, _, data in _messages(reader, infos)), None)
                for connection, time, data in reader.messages([*images, *infos]):
                    if connection.msgtype == INFO_TYPE:
                        info = decode(data, INFO_TYPE)
                    else:
                        yield Shot(decode(data, connection.msgtype), info, time)
            except Exception as error:  # noqa: BLE001 - whatever the storages and the middleware raise of damage
                raise self._unreadable(error) from error

    def _decoder(self) -> Callable[[bytes, str], Any]:
        """What makes a message of a recorded one's bytes and the name of its type."""
        classes = TYPES | {INFO_TYPE: CameraInfo}
        if not self._of_ros_1:
            return lambda data, name: deserialize_message(data, classes[name])
        store = self._types.get_typestore(self._types.Stores.ROS2_JAZZY)  # the same fields, but for a header's seq
        return lambda data, name: deserialize_message(bytes(store.ros1_to_cdr(data, name)), classes[name])

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """A reader of rosbags. Raises CameraError where the bag cannot be opened."""
        try:
            with _as_rosbags_wants_it(self._path) as file:
                reader = self._rosbags.Reader(file)
                reader.open()  # what is open can be read also once its folder is gone
        except Exception as error:  # noqa: BLE001 - its storages raise types of their own
            raise self._unreadable(error) from error
        try:
            yield reader
        finally:
            reader.close()

    def _unreadable(self, error: Exception) -> CameraError:
        repairs = "`rosbag reindex`" if self._of_ros_1 else "`mcap recover` or `ros2 bag reindex`"
        why = "it is damaged" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".")
        return CameraError(
            f"{self._path} cannot be read as a bag: {why}. If its recorder did not close it, {repairs} may repair it."
        )


@contextmanager
def _as_rosbags_wants_it(path: Path) -> Iterator[Path]:
    """The bag itself; of a .zstd file, which rosbags takes in a bag's folder alone, what is in it; of .MCAP a .mcap."""
    name = path.name.lower()
    if path.is_dir() or path.name.endswith(PLAIN):
        yield path
        return
    with TemporaryDirectory(prefix="road_seg_bag_") as folder:
        file = Path(folder, name.removesuffix(ZSTD))
        if name.endswith(ZSTD):
            # Before Python 3.14 rosbags brings it.
            zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
            with zstd.open(path, "rb") as packed, file.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        else:
            file.symlink_to(path.resolve())
        yield file


def _messages(reader: Any, connections: list[Any]) -> Iterator[Any]:
    return reader.messages(connections) if connections else iter(())


def _chosen(path: Path, connections: list[Any], topic: str) -> str:
    """The image topic to play. Raises CameraError with those that there are."""
    found = {known.topic: known for known in connections if known.msgtype in TYPES and known.msgcount}
    there = ", ".join(f"{name} ({known.msgtype}, {known.msgcount} messages)" for name, known in sorted(found.items()))
    if not found:
        others = ", ".join(sorted({known.topic for known in connections})) or "nothing"
        raise CameraError(f"The bag {path} has no images; it has {others}.")
    if topic:
        wanted = topic if topic.startswith("/") else f"/{topic}"
        named = next((name for name in found if f"/{name.lstrip('/')}" == wanted), None)  # ROS 1 has some without slash
        if named is None:
            raise CameraError(f"The bag {path} has no images on {wanted}; it has {there}.")
        return named
    infos = {known.topic for known in connections if known.msgtype == INFO_TYPE}
    of_cameras = [name for name in found if camera_info_beside(name) in infos]  # the others are answers, such as masks
    names = of_cameras if len(of_cameras) == 1 else list(found)
    if len(names) > 1:
        raise TopicError(path, there)
    return names[0]
