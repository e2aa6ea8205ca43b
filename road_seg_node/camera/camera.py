# SPDX-License-Identifier: Apache-2.0
"""A camera made of the synthetic road, a folder of pictures, a video or a bag; for the demo, tests and benchmarks."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from road_seg_node.camera import parameters
from road_seg_node.camera.shots import RATE, CameraError, Shot, Source
from road_seg_node.camera.sources import open_source
from road_seg_node.ros import program, start, unused
from road_seg_node.ros.images import ImageError, decode_compressed, to_bgr, to_message
from road_seg_node.ros.throttled_log import ThrottledLog
from road_seg_node.ros.topics import TYPES, ImageMessage, camera_info_topic, image_topic

NODE_NAME = "camera"
FRAME_ID = "camera"
LINGER = 1.0  # seconds that a camera stays after its last frame, so that what is under way arrives
LONGEST_PAUSE = 5.0  # seconds between two frames of a bag: longer is a clock that was set, or nothing to wait for
AHEAD = 4  # frames made ready before they are due
PATIENCE = 0.1  # seconds between two looks at whether there is something to do
ABOUT = start.About(
    "road_seg_camera",
    NODE_NAME,
    "A camera made of pictures, a video, a bag or a synthetic road: publishes image (or image/compressed) and "
    "camera_info.",
    [(field.name, field.default, parameters.DESCRIPTIONS[field.name]) for field in fields(parameters.CameraValues)],
)


class Camera(Node):
    """Publishes `image`, or `image/compressed`, as a camera driver does (best effort) and `camera_info` (reliable).

    Both have the same header. Once it is added to an executor, step() is to be called until `done`. Takes the keyword
    arguments of rclpy's Node. Raises CameraError, step() too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        self._values = values = parameters.declare(self)
        unused.warn_of_parameters(self)
        self.done = False
        self._published = 0
        self._next: Shot | None = None
        self._ended = False  # there is no further frame
        self._due = 0.0  # when the next frame is to be published, by time.monotonic()
        self._time: int | None = None  # when the last one was recorded
        self._log = ThrottledLog(self.get_logger())
        source = open_source(
            values.source,
            values.width,
            values.height,
            values.rate or RATE,
            values.topic,
            tell=lambda sentence: self._log.warn("source", sentence),
        )
        self._period = 1 / (values.rate or source.rate)
        name = "image" if values.image_transport == "raw" else image_topic(self, values.image_transport)
        self._images = self.create_publisher(TYPES[values.image_transport], name, qos_profile_sensor_data)
        # Reliable, so that a subscriber who asks for that misses no frame's stamp; best-effort ones match it too.
        beside = camera_info_topic(self, values.image_transport)
        self._infos = self.create_publisher(CameraInfo, beside, QoSProfile(depth=100))
        # Reading and rendering take a while, now and then longer than a frame's time.
        self._ready: queue.Queue[Shot | CameraError | None] = queue.Queue(AHEAD)
        threading.Thread(target=self._make_ready, args=(source,), name="frames", daemon=True).start()
        self.get_logger().info(f"{values.source} on {self._images.topic_name}.")

    def step(self) -> None:
        """Publishes the next frame when it is due, and does what the node is asked meanwhile; returns soon."""
        waiting = not self._published and self._images.get_subscription_count() < self._values.wait_for_subscribers
        if not waiting and self._next is None and not self.done:
            self._fetch()
        pause = PATIENCE if waiting or self._next is None else self._due - time.monotonic()
        assert self.executor is not None
        self.executor.spin_once(timeout_sec=min(max(pause, 0.0), PATIENCE))
        if self._next is not None and time.monotonic() >= self._due:
            self._publish(self._next)
            self._next = None

    def _fetch(self) -> None:
        """Takes the next frame and says when it is due; after the last one, waits until the camera may go."""
        self._ended |= 0 < self._values.count == self._published
        if self._ended:
            self.done = time.monotonic() - self._due >= LINGER
            return
        try:
            shot = self._ready.get(timeout=PATIENCE)
        except queue.Empty:
            return
        if isinstance(shot, CameraError):
            raise shot
        if shot is None:
            self._ended = True
            return
        pause = self._period
        if not self._values.rate and shot.time is not None and self._time is not None and shot.time >= self._time:
            pause = (shot.time - self._time) / 1e9
            if pause > LONGEST_PAUSE:
                self._log.warn("pause", f"A pause of {pause:.0f} s in the recording is cut to {LONGEST_PAUSE:.0f} s.")
                pause = LONGEST_PAUSE
        now = time.monotonic()
        self._due = max(self._due + pause, now) if self._published else now
        self._time, self._next = shot.time, shot

    def _make_ready(self, source: Source) -> None:
        try:
            while True:
                for shot in source.shots():
                    self._ready.put(shot)
                if not self._values.loop:
                    break
            self._ready.put(None)
        except CameraError as error:
            self._ready.put(error)
        except Exception as error:  # noqa: BLE001 - else nothing would come any more, and nobody would say why
            self._ready.put(CameraError(f"{self._values.source} cannot be read any further: {error}"))

    def _publish(self, shot: Shot) -> None:
        recorded = None if isinstance(shot.picture, np.ndarray) else shot.picture.header
        header = Header(frame_id=self._values.frame_id or (recorded.frame_id if recorded else FRAME_ID))
        header.stamp = self.get_clock().now().to_msg()
        if recorded and self._values.stamps == "recorded":
            header.stamp = recorded.stamp
        try:
            msg = _message(shot, self._values.image_transport)
        except ImageError as error:
            self._log.warn(error.reason, f"A recorded image is left out: {error}")
            return
        msg.header = header
        info = shot.info or CameraInfo(width=getattr(msg, "width", 0), height=getattr(msg, "height", 0))
        info.header = header
        self._infos.publish(info)  # first, so that who takes up the image has it
        self._images.publish(msg)
        self._published += 1


def _message(shot: Shot, transport: str) -> ImageMessage:
    """The picture as it is to be published, without a header. What was recorded so is not touched."""
    picture = shot.picture
    if isinstance(picture, TYPES[transport]):
        return picture
    if transport == "raw":
        bgr = decode_compressed(picture) if isinstance(picture, CompressedImage) else picture
        return to_message(bgr, "bgr8", Header())
    bgr = to_bgr(picture) if isinstance(picture, Image) else picture
    msg = CompressedImage(format="bgr8; jpeg compressed bgr8")
    msg.data.frombytes(cv2.imencode(".jpg", bgr)[1].tobytes())
    return msg


def main(args: list[str] | None = None) -> int:
    """Publishes until `count` frames are out, Ctrl-C or SIGTERM (0); 2 when the source or a parameter is at fault."""
    return program.carry_out(ABOUT, args, (CameraError,), publish)


def publish(executor: SingleThreadedExecutor) -> None:
    camera = Camera()
    executor.add_node(camera)
    while not camera.done and rclpy.ok():
        camera.step()


if __name__ == "__main__":
    program.leave(main())
