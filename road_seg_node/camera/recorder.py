# SPDX-License-Identifier: Apache-2.0
"""Records what the camera sends and the node answers into an MCAP file, without rosbag2.

The file is there once it is whole: until then it grows in a folder beside it, NAME.part, which a recorder that is
killed leaves behind (`mcap recover` reads such a file).
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.ros import program, start, unused
from road_seg_node.ros.topics import TYPES, camera_info_topic, image_topic

NODE_NAME = "recorder"
SUFFIX = ".mcap"
DEPTH = 10  # messages that may wait while the disk is busy
LOOK = 0.5  # seconds between two looks at whether to end: a signal just before spinning would wake nobody
PARAMETERS = (  # name, default, description
    ("output", "", "The file to record into, ending in .mcap. It must not be there yet, and its folder must."),
    ("image_transport", "raw", "The images to record: raw or compressed."),
    ("node", "road_seg", "The name of the node whose outputs are recorded."),
)
ABOUT = start.About(
    "road_seg_recorder",
    NODE_NAME,
    "Records the images, camera_info, the node's mask, probability and grid, and /diagnostics into an MCAP file.",
    PARAMETERS,
)


class RecorderError(RuntimeError):
    """It cannot be recorded; the message is a sentence."""


class UnwritableError(RecorderError):
    """What was to be recorded cannot be written any more."""

    exit_status = 1


def checked_file(output: str) -> Path:
    """The file of that name, once it is known that it can be recorded into. Raises RecorderError where it cannot."""
    if not output:
        raise RecorderError("Name the file to record into: output:=drive.mcap.")
    file = Path(os.path.expanduser(output))  # which leaves ~nobody as it is
    if file.suffix != SUFFIX:
        raise RecorderError(f"The file to record into must end in {SUFFIX}: {output!r} does not.")
    # Not made here: it may be mistyped, and a drive that is recorded elsewhere is as good as lost.
    if not file.parent.is_dir():
        raise RecorderError(f"There is no folder {file.parent} to record {file.name} into: make it, or name another.")
    if file.exists():
        raise RecorderError(f"{file} is there already: record into another file, or move it away.")
    if part_of(file).exists():
        raise RecorderError(
            f"{part_of(file)} was left by a recording that was not closed: `mcap recover` reads the file in it. "
            f"Move it away to record into {file}."
        )
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise RecorderError(f"{file} cannot be written: you have no permission to write in its folder.")
    try:
        importlib.import_module("rosbags.rosbag2")
    except ImportError as error:
        raise RecorderError(f"To record install rosbags: pip install rosbags ({error}).") from error
    return file


def part_of(file: Path) -> Path:
    return file.with_suffix(".part")


class Recorder(Node):
    """Writes every message of the topics to `output` until close(). Takes the keyword arguments of rclpy's Node.

    Listening makes the node produce those outputs: mask, probability and grid (the overlay can be made of them again).
    Raises RecorderError where the file or a parameter cannot be used, and from the executor where it cannot be written.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        output, transport, name = (self._parameter(*parameter) for parameter in PARAMETERS)
        unused.warn_of_parameters(self)
        if transport not in TYPES:
            raise RecorderError(f"The parameter image_transport must be one of {', '.join(TYPES)}, not {transport!r}.")
        self._file = checked_file(output)
        self._part = part_of(self._file)
        self._counts: Counter[str] = Counter()
        try:
            validate_topic_name(f"{name}/mask")
        except InvalidTopicNameException as error:
            raise RecorderError(f"The parameter node must be the name of a node, not {name!r}.") from error
        store = importlib.import_module("rosbags.typesys")
        self._types = store.get_typestore(store.Stores.ROS2_JAZZY)
        images = "image" if transport == "raw" else image_topic(self, transport)
        sent, answered = (
            QoSProfile(depth=DEPTH, reliability=reliability)
            for reliability in (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE)
        )
        self._record(images, TYPES[transport], sent)
        self._record(camera_info_topic(self, transport), CameraInfo, sent)
        for topic, of in (("mask", Image), ("probability", Image), ("road_grid", OccupancyGrid)):
            self._record(f"{name}/{topic}", of, answered)
        self._record("/diagnostics", DiagnosticArray, answered)
        self._writer = self._begin()  # last: what fails before leaves no file behind
        self.get_logger().info(f"Recording into {self._file}, which is {self._part} until it is closed.")

    def close(self) -> str:
        """Ends the file and gives it its name; a sentence that says what is in it. Raises RecorderError."""
        try:
            self._writer.close()
            if self._file.exists():
                raise UnwritableError(
                    f"{self._file} was created by something else in the meantime. What was recorded is in {self._part}."
                )
            (self._part / f"{self._part.name}{SUFFIX}").replace(self._file)
            (self._part / "metadata.yaml").unlink()
            self._part.rmdir()
        except OSError as error:
            raise self._unwritable(error) from error
        counts = ", ".join(f"{topic} {count}" for topic, count in sorted(self._counts.items()))
        return f"Recorded {self._file}: {counts or 'no message'}."

    def _parameter(self, name: str, default: str, description: str) -> str:
        descriptor = ParameterDescriptor(description=description, dynamic_typing=True, read_only=True)
        value = self.declare_parameter(name, default, descriptor).value
        if not isinstance(value, str):
            raise RecorderError(f"The parameter {name} must be text, not {value!r}. {description}")
        return value

    def _begin(self) -> Any:
        """rosbags' writer, opened."""
        rosbag2 = importlib.import_module("rosbags.rosbag2")
        try:
            writer = rosbag2.Writer(self._part, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
            writer.open()
        except OSError as error:
            raise RecorderError(f"{self._part} cannot be written: {error.strerror or error}.") from error
        return writer

    def _record(self, topic: str, of: type, qos: QoSProfile) -> None:
        name = f"{of.__module__.split('.')[0]}/msg/{of.__name__}"
        connection = None

        def write(data: bytes) -> None:
            nonlocal connection
            try:
                if connection is None:
                    connection = self._writer.add_connection(full, name, typestore=self._types)
                self._writer.write(connection, self.get_clock().now().nanoseconds, data)
            except OSError as error:
                raise self._unwritable(error) from error
            self._counts[full] += 1

        # Raw: what is written are the bytes as they came.
        full = self.create_subscription(of, topic, write, qos, raw=True).topic_name

    def _unwritable(self, error: OSError) -> UnwritableError:
        why = error.strerror or error
        return UnwritableError(f"{self._file} cannot be written: {why}. What was recorded is in {self._part}.")


def main(args: list[str] | None = None) -> int:
    """Records until Ctrl-C or SIGTERM (0); 2 when a parameter is at fault, 1 when the file can no more be written."""
    return program.carry_out(ABOUT, args, (RecorderError, ParameterException), record)


def record(executor: SingleThreadedExecutor) -> None:
    recorder = Recorder()
    executor.add_node(recorder)
    with program.until_shut_down(RecorderError):
        while rclpy.ok():
            executor.spin_once(timeout_sec=LOOK)
    program.ignore_signals()
    recorded = recorder.close()
    recorder.destroy_node()  # its logger would try to publish, and complain that nothing can be any more
    get_logger(NODE_NAME).info(recorded)


if __name__ == "__main__":
    program.leave(main())
