# SPDX-License-Identifier: Apache-2.0
"""One camera's way through the node: what is subscribed to, what is published, and what became of its frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from road_seg_node.node.camera_mounting import CameraMounting
from road_seg_node.node.diagnostics import CameraCondition
from road_seg_node.node.frame_accounts import FrameAccounts
from road_seg_node.node.inputs import Inputs
from road_seg_node.node.outputs import Outputs
from road_seg_node.node.parameters import Values
from road_seg_node.node.rate_limit import RateLimit
from road_seg_node.node.road_grid import RoadGrid
from road_seg_node.ros.throttled_log import ThrottledLog
from road_seg_node.ros.topics import ImageMessage, camera_info_topic, camera_name


@dataclass(frozen=True)
class Frame:
    """An image as it came. arrival: by time.monotonic(). age: seconds from its stamp till then, None without a stamp.

    camera_info: gives the one that belongs to it, else the newest, or None. Its own may come later than the image, and
    is not kept for ever: to be asked early and, where it had not come, late.
    """

    stream: Stream
    msg: ImageMessage
    arrival: float
    age: float | None
    camera_info: Callable[[], CameraInfo | None]


class Stream:
    """From one of the parameter image_topics to the outputs of its camera.

    name: the camera's, "front" of front/image_raw, whose outputs are ~/front/mask and so on; empty of image, whose
    outputs are ~/mask and so on. outputs and inputs are there between their open and close.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self.name = camera_name(topic)
        self.accounts, self.rate = FrameAccounts(), RateLimit()
        self.size: tuple[int, int] | None = None  # of the last image that was answered: height, width
        self.outputs: Outputs | None = None
        self.inputs: Inputs | None = None
        self.logger = node.get_logger().get_child(self.name.replace("/", ".")) if self.name else node.get_logger()
        self.log = ThrottledLog(self.logger)
        self._node, self._topic = node, topic

    def open_outputs(self, image_transport: str, mounting: CameraMounting) -> None:
        info_topic = camera_info_topic(self._node, image_transport, self._topic)
        self.outputs = Outputs(self._node, self.name, RoadGrid(mounting, info_topic), self.log)

    def close_outputs(self) -> None:
        if self.outputs is not None:
            self.outputs.close()
            self.outputs = None

    def open_inputs(self, image_transport: str, offer: Callable[[Frame], None]) -> None:
        """From now on `offer` gets each frame, in the executor's thread. Raises ParameterError."""
        receive = partial(self._on_image, offer)
        self.inputs = Inputs(self._node, self._topic, image_transport, receive, self.accounts.lose, self.log)

    def close_inputs(self) -> None:
        if self.inputs is not None:
            self.inputs.close()
            self.inputs = None

    def described(self) -> str:
        """What comes from where, as a sentence; while both are open."""
        assert self.inputs is not None and self.outputs is not None
        return f"Waiting for images on {self.inputs.topic}; answers on {', '.join(self.outputs.topics)}."

    def condition(self, values: Values) -> CameraCondition:
        """What /diagnostics says of this camera; to be called once a second."""
        report, inputs, outputs = self.accounts.report(time.monotonic()), self.inputs, self.outputs
        if inputs is None or outputs is None:
            return CameraCondition(self.name, report)
        complaint = inputs.complaint(values.image_timeout) if values.enabled else ""
        return CameraCondition(self.name, report, complaint, outputs.complaint, inputs.reliability)

    def _on_image(self, offer: Callable[[Frame], None], msg: ImageMessage) -> None:
        if self.inputs is None:
            return
        stamp = msg.header.stamp
        nanoseconds = stamp.sec * 1_000_000_000 + stamp.nanosec  # 0 from a driver that does not stamp
        age = (self._node.get_clock().now().nanoseconds - nanoseconds) / 1e9 if nanoseconds else None
        offer(Frame(self, msg, time.monotonic(), age, partial(self.inputs.camera_info, stamp)))
