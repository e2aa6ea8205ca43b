# SPDX-License-Identifier: Apache-2.0
"""The camera in a process of its own, and a listener that collects everything it publishes."""

from __future__ import annotations

import json
import time
from typing import Any

import fork_server
import rclpy
from node_process import PATIENCE, any_domain, environment, quick_discovery
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image


def start_camera(domain: int, **parameters: Any) -> fork_server.Program:
    arguments = [text for key, value in parameters.items() for text in ("-p", f"{key}:={json.dumps(value)}")]
    command = ["-m", "road_seg_node.camera.camera", "--ros-args", *arguments]
    return fork_server.ROS.start(*command, env=environment(domain))


class Listener:
    """Subscribes to `topic` and to camera_info, in a domain of its own. Images are best effort, so some may lack."""

    def __init__(self, topic: str) -> None:
        self.domain, self._topic = any_domain(), topic
        self.images: list[Any] = []
        self.infos: list[CameraInfo] = []
        self.said = ""
        self.began = time.time()
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        with quick_discovery():
            self._node = rclpy.create_node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(CameraInfo, "camera_info", self.infos.append, QoSProfile(depth=100))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def collect(self, camera: fork_server.Program) -> None:
        """Until the camera ends; it has to wait for a subscriber, so that it is found before it begins."""
        deadline = time.monotonic() + PATIENCE
        try:
            while not self._node.count_publishers("camera_info"):
                assert time.monotonic() < deadline, "the camera did not come up"
                self._executor.spin_once(timeout_sec=0.1)
            for _ in range(20):  # it would begin now, if it did not wait for someone to watch the images
                self._executor.spin_once(timeout_sec=0.05)
            assert not self.infos
            of = CompressedImage if self._topic.endswith("compressed") else Image
            self._node.create_subscription(of, self._topic, self.images.append, qos_profile_sensor_data)
            while camera.poll() is None:
                assert time.monotonic() < deadline, "the camera did not end after its last frame"
                self._executor.spin_once(timeout_sec=0.1)
        finally:
            camera.kill()
            self.said = camera.communicate()[0]
