# SPDX-License-Identifier: Apache-2.0
"""Takes masks as a planner does, and /diagnostics, until Ctrl-C, then prints what came.

bench/node.py and bench/cameras.py start it; its arguments are the masks' topics, else /road_seg/mask.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from road_seg_node.ros import program


class MaskListener(Node):
    def __init__(self, topics: list[str]) -> None:
        super().__init__("listener")
        self.masks: list[tuple[int, float]] = []  # stamp in nanoseconds, seconds from then to the mask's arrival
        self.reports: list[tuple[float, dict[str, str]]] = []  # when, by time.time(), and what
        for topic in topics:
            self.create_subscription(Image, topic, self._on_mask, QoSProfile(depth=10))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10))

    def _on_mask(self, msg: Image) -> None:
        stamp = Time.from_msg(msg.header.stamp)
        self.masks.append((stamp.nanoseconds, (self.get_clock().now() - stamp).nanoseconds / 1e9))

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        values = {item.key: item.value for status in msg.status for item in status.values}
        self.reports.append((time.time(), values))


def main() -> None:
    rclpy.init()
    listener = MaskListener(sys.argv[1:] or ["/road_seg/mask"])
    try:
        rclpy.spin(listener)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    program.ignore_signals()
    print(json.dumps({"masks": listener.masks, "reports": listener.reports}), flush=True)


if __name__ == "__main__":
    main()
