# SPDX-License-Identifier: Apache-2.0
"""`~/label_info`: what the classes of ~/label_mask are called, for Nav2's semantic segmentation layer and its like.

vision_msgs is in every ROS distribution, but not on PyPI, so it is imported when needed; without it there is no topic.
"""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile

CLASSES = ("background", "road")  # by the value that a pixel of ~/label_mask has


class LabelInfoPublisher:
    """Transient local: whoever subscribes later gets the last one too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher: Publisher | None = None
        self._threshold: float | None = None  # as it was last told
        try:
            self._messages: Any = importlib.import_module("vision_msgs.msg")
        except ImportError:
            return
        lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(self._messages.LabelInfo, "~/label_info", lasting)

    def tell(self, threshold: float) -> None:
        """Publishes the classes with the threshold in use, unless that was the last one too. Any thread may call."""
        if self._publisher is None or threshold == self._threshold:
            return
        self._threshold = threshold
        classes = [self._messages.VisionClass(class_id=number, class_name=name) for number, name in enumerate(CLASSES)]
        msg = self._messages.LabelInfo(class_map=classes, threshold=threshold)
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(msg)

    def close(self) -> None:
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
