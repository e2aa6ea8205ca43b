# SPDX-License-Identifier: Apache-2.0
"""Publishes prepared 1242x375 frames on image at a steady rate; the benchmarks of the node start it.

The frames are drawn before the first is due, so that the camera costs next to nothing while a node is measured. It is
reliable with depth 10, because the plain node of bench/plain_node.py hears nothing from a best-effort camera. Prints a
line of JSON when it begins to count, after the warm-up, and one at its end; with --hold one more after the warm-up, and
then waits for a line on its standard input. --ros-args may follow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rclpy
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from road_seg_node.camera.sources import HEIGHT, WIDTH, Drive
from road_seg_node.ros import program
from road_seg_node.ros.images import to_message
from road_seg_node.synthetic_road.scene import Road

PICTURES = 30
WARM_UP = 60  # frames that come before those that count, in which the node makes its engine for their size
PAUSE = 3.0  # seconds between the two: the node reports once a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="frames a second")
    parser.add_argument("--seconds", type=float, required=True, help="for how long")
    parser.add_argument("--hold", action="store_true", help="begin to count at a line on standard input")
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init()
    node = rclpy.create_node("camera")
    images = node.create_publisher(Image, "image", QoSProfile(depth=10))
    infos = node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=10))
    shots = list(itertools.islice(Drive(Road(0), WIDTH, HEIGHT, options.rate).shots(), PICTURES))
    frames = [(to_message(shot.picture, "bgr8", Header()), shot.info) for shot in shots]

    def publish(count: int) -> int:
        """Publishes so many frames; returns how many of them left more than half a period late."""
        begin, late = time.monotonic(), 0
        for index in range(count):
            due = begin + index / options.rate
            time.sleep(max(0.0, due - time.monotonic()))
            late += time.monotonic() - due > 0.5 / options.rate
            msg, info = frames[index % PICTURES]
            msg.header = info.header = Header(stamp=node.get_clock().now().to_msg(), frame_id="camera")
            images.publish(msg)
            infos.publish(info)
        return late

    while not images.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)  # the listener has to be known to the node too
    publish(WARM_UP)
    time.sleep(PAUSE)
    if options.hold:
        print(json.dumps({"warm": True}), flush=True)
        sys.stdin.readline()
    print(json.dumps({"begun": node.get_clock().now().nanoseconds}), flush=True)
    count = round(options.rate * options.seconds)
    late = publish(count)
    print(json.dumps({"sent": count, "late": late}), flush=True)
    time.sleep(1.0)  # what is under way still arrives
    program.ignore_signals()
    rclpy.try_shutdown()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
