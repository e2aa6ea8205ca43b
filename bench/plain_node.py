# SPDX-License-Identifier: Apache-2.0
"""The plainest road node that one would write, to be measured beside ours; bench/node.py starts it.

One callback converts as cv_bridge does, calls session.run and publishes the mask; queues have ROS's default depth.
Only the clock readings, and its end with a line of JSON and an alarm, are there for the measurement.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from road_seg_node.ros import program

THRESHOLD = 0.5


class PlainNode(Node):
    def __init__(self, model: str) -> None:
        super().__init__("road_seg")
        self.session = onnxruntime.InferenceSession(model)
        self.frames: list[tuple[int, dict[str, float]]] = []  # stamp in nanoseconds, seconds by stage
        self.mask = self.create_publisher(Image, "~/mask", 10)
        self.create_subscription(Image, "image", self.on_image, 10)

    def on_image(self, msg: Image) -> None:
        stamp = Time.from_msg(msg.header.stamp)
        transport = (self.get_clock().now() - stamp).nanoseconds / 1e9
        begun = time.monotonic()
        # cv_bridge: imgmsg_to_cv2(msg, "bgr8")
        image = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, : msg.width * 3]
        image = np.ascontiguousarray(image).reshape(msg.height, msg.width, 3)
        converted = time.monotonic()
        probability = self.session.run(None, {"image": image[np.newaxis]})[0][0]
        inferred = time.monotonic()
        mask = np.where(probability / 255 >= THRESHOLD, 255, 0).astype(np.uint8)
        # cv_bridge: cv2_to_imgmsg(mask, "mono8")
        answer = Image(header=msg.header, height=msg.height, width=msg.width, encoding="mono8", step=msg.width)
        answer.data.frombytes(mask.tobytes())
        self.mask.publish(answer)
        published = time.monotonic()
        seconds = {"transport": transport, "convert": converted - begun, "infer": inferred - converted}
        self.frames.append((stamp.nanoseconds, seconds | {"publish": published - inferred}))


def main() -> None:
    rclpy.init()
    node = PlainNode(sys.argv[1])
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    program.ignore_signals()
    print(json.dumps(node.frames), flush=True)


if __name__ == "__main__":
    main()
