# SPDX-License-Identifier: Apache-2.0
"""Where cameras are above the ground, and which frame a grid of the ground is in.

With the parameter ground_frame empty, the frame lies on the ground straight below the camera, x where it looks; it is
named after the camera's frame and broadcast, so that RViz and planners find it. Otherwise it is a frame of the robot's,
such as base_footprint, and TF knows the camera in it.

tf2_ros and tf2_msgs come with every ROS installation that has RViz or a planner, but are not on PyPI, so they are
imported when needed.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Header

from road_seg_node.ground import GroundError, Pose, mounted
from road_seg_node.node.parameters import ParameterError, Values

SUFFIX = "_ground"
FRAMES = 16  # that are broadcast, the last ones, for whoever comes late gets the last message alone


class CameraMounting:
    """Knows where each camera is. close() it before another one is made for the same node."""

    def __init__(self, node: Node, ground_frame: str) -> None:
        """Raises ParameterError where a ground_frame is named and there is no tf2_ros."""
        self._node, self._frame = node, ground_frame
        self._tf2: Any = None
        self._listener: Any = None
        self._broadcaster: Publisher | None = None
        self._broadcast: dict[str, TransformStamped] = {}  # by the ground's frame
        if ground_frame:
            try:
                self._tf2 = importlib.import_module("tf2_ros")
            except ImportError as error:
                raise ParameterError(
                    f"The parameter ground_frame is {ground_frame}, but TF cannot be used here ({error}): install "
                    "tf2_ros_py, or leave ground_frame empty and set camera_height and camera_tilt."
                ) from error
            self._buffer = self._tf2.Buffer()
            self._listener = self._tf2.TransformListener(self._buffer, node)
            return
        try:
            self._message: Any = importlib.import_module("tf2_msgs.msg").TFMessage
        except ImportError:  # then there is nobody here who would use it
            return
        # Not tf2_ros' StaticTransformBroadcaster: Jazzy's never sends another transform to the same frame.
        lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._broadcaster = node.create_publisher(self._message, "/tf_static", lasting)

    def find(self, camera_frame: str, values: Values) -> tuple[str, Pose]:
        """(the ground's frame, float64 [3, 4] that takes points from the camera's frame to it), as they are now.

        Raises GroundError with a sentence where that is not known.
        """
        if not camera_frame:
            raise GroundError("~/road_grid needs the images' frame_id, which is empty: set it in the camera's driver.")
        if self._frame:
            return self._frame, self._from_tf(camera_frame)
        if not values.camera_height:
            raise GroundError(
                "~/road_grid needs to know how the camera is mounted: set the parameters camera_height (metres) and "
                "camera_tilt (radians, downwards), or ground_frame where TF knows it."
            )
        pose = mounted(values.camera_height, values.camera_tilt, values.camera_roll)
        frame = camera_frame.lstrip("/") + SUFFIX
        transform = below(camera_frame, frame, pose)
        if self._broadcaster is not None and transform != self._broadcast.get(frame):
            kept = [other for other in self._broadcast.values() if other.child_frame_id != frame][1 - FRAMES :]
            self._broadcast = {other.child_frame_id: other for other in (*kept, transform)}
            self._broadcaster.publish(self._message(transforms=list(self._broadcast.values())))
        return frame, pose

    def close(self) -> None:
        if self._listener is not None:
            self._listener.unregister()
        if self._broadcaster is not None:
            self._node.destroy_publisher(self._broadcaster)

    def _from_tf(self, camera_frame: str) -> Pose:
        try:
            found = self._buffer.lookup_transform(self._frame, camera_frame, Time()).transform
        except self._tf2.TransformException as error:
            raise GroundError(
                f"~/road_grid needs the transform from the camera's frame {camera_frame} to {self._frame}, and TF has "
                f"none: {error}"
            ) from error
        q, t = found.rotation, found.translation
        axis, angle = np.array([q.x, q.y, q.z]), 2 * math.atan2(math.hypot(q.x, q.y, q.z), q.w)
        turned = cv2.Rodrigues(axis / (np.linalg.norm(axis) or 1.0) * angle)[0]
        return np.column_stack([turned, [t.x, t.y, t.z]])


def below(camera_frame: str, ground_frame: str, pose: Pose) -> TransformStamped:
    """Where the ground's frame is in the camera's, as TF wants it; pose: as in CameraMounting.find."""
    turned, place = pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]
    turn = cv2.Rodrigues(turned)[0].ravel()
    angle = float(np.linalg.norm(turn))
    x, y, z = (turn / (angle or 1.0) * math.sin(angle / 2)).tolist()
    rotation = Quaternion(x=x, y=y, z=z, w=math.cos(angle / 2))
    across, down, ahead = place.tolist()
    return TransformStamped(
        header=Header(frame_id=camera_frame.lstrip("/")),
        child_frame_id=ground_frame,
        transform=Transform(translation=Vector3(x=across, y=down, z=ahead), rotation=rotation),
    )
