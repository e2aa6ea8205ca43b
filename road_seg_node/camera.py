# SPDX-License-Identifier: Apache-2.0
"""A camera made of a folder of pictures, a video or the synthetic road; for the demo, tests and benchmarks."""

from __future__ import annotations

import math
import queue
import signal
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from road_seg_node.images import to_message
from road_seg_node.scene import Road

NODE_NAME = "camera"
SYNTHETIC = "synthetic"
DEFAULT_SEED = 7  # two lanes with marks, a pavement and grass, by day
PICTURES = (".png", ".jpg", ".jpeg")
WIDTH, HEIGHT = 1242, 375  # KITTI's
FOCAL = 0.58  # of the width: KITTI's colour cameras, which see about 81 degrees
SHUTDOWN = 10  # seconds after which SIGALRM ends a shutdown that hangs, as in the node
LINGER = 1.0  # seconds that a camera stays after its last frame, so that what is under way arrives
AHEAD = 4  # frames made ready before they are due

Picture = NDArray[np.uint8]
Frames = Generator[Picture, None, None]


class CameraError(ValueError):
    """The camera's source or a parameter cannot be used; the message is a sentence."""


def synthetic_seed(spec: str) -> int | None:
    """The seed in "synthetic[:SEED]" (DEFAULT_SEED where none is given), or None where `spec` is something else.

    Raises CameraError where the seed is no whole number.
    """
    name, colon, seed = spec.partition(":")
    if name != SYNTHETIC:
        return None
    if colon and not (seed.isascii() and seed.isdigit()):
        raise CameraError(f"The seed in {spec!r} must be a whole number, as in {SYNTHETIC}:7.")
    return int(seed) if colon else DEFAULT_SEED


def open_frames(spec: str, width: int = WIDTH, height: int = HEIGHT, rate: float = 10.0) -> Frames:
    """Opens a source of pictures that never ends, each uint8 [H, W, 3] in BGR.

    spec: "synthetic[:SEED]", a folder of PNG or JPEG pictures (by name, again and again; of a KITTI folder its
    image_2), or a video file (again and again). Of the synthetic road, frame i is what is seen at i / rate seconds,
    width x height pixels; the other sources keep their own size. Raises CameraError where the source cannot be
    opened, and from the iterator where a later picture cannot be read.
    """
    seed = synthetic_seed(spec)
    if seed is not None:
        return _drive(Road(seed), width, height, rate)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        # A folder of KITTI Road (training, testing) has its pictures in image_2.
        pictures = _pictures(path) or _pictures(path / "image_2")
        if not pictures:
            raise CameraError(f"The folder {path} has no pictures; it should hold PNG or JPEG files.")
        _read(pictures[0])
        return _album(pictures)
    if not spec or not path.is_file():
        raise CameraError(
            f"There is no folder or video {spec!r}; give a folder of pictures, a video file, or {SYNTHETIC}[:SEED]."
        )
    video = cv2.VideoCapture(str(path))
    read, _ = video.read()
    if not read:
        raise CameraError(f"{path} cannot be read as a video; give a video that OpenCV can decode, such as MP4.")
    return _film(video, path)


def _drive(road: Road, width: int, height: int, rate: float) -> Frames:
    index = 0
    while True:
        yield road.render(width, height, index / rate)[0]
        index += 1


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES)


def _read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise CameraError(f"{path} cannot be read as a picture; replace or remove it.")
    return picture.astype(np.uint8, copy=False)


def _album(pictures: list[Path]) -> Frames:
    while True:
        for path in pictures:
            yield _read(path)


def _film(video: cv2.VideoCapture, path: Path) -> Frames:
    while True:
        video.open(str(path))  # anew rather than by seeking, which not every format can
        read, frame = video.read()
        if not read:
            raise CameraError(f"{path} could be read once, but not again; it was removed or changed.")
        while read:
            yield frame.astype(np.uint8, copy=False)
            read, frame = video.read()


class Camera(Node):
    """Publishes `image` as a camera driver does (bgr8, best effort) and `camera_info` (reliable), stamps alike.

    It begins once `wait_for_subscribers` subscribe to `image`. After `count` frames (0: never) `done` becomes True.
    Takes the keyword arguments of rclpy's Node. Raises CameraError, also from the executor that spins it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        self._source = self._parameter(
            "source", SYNTHETIC, f"{SYNTHETIC}[:SEED], a folder of PNG or JPEG pictures, or a video file."
        )
        self._rate = self._parameter("rate", 10.0, "Frames a second.")
        self._frame_id = self._parameter("frame_id", "camera", "The frame_id in the headers.")
        width = self._parameter("width", WIDTH, "Width of the synthetic road's pictures, in pixels.")
        height = self._parameter("height", HEIGHT, "Height of the synthetic road's pictures, in pixels.")
        self._count = self._parameter("count", 0, "How many frames to publish before ending; 0: without end.")
        self._wait_for = self._parameter("wait_for_subscribers", 0, "Begin once this many subscribe to the images.")
        if not (math.isfinite(self._rate) and 0 < self._rate <= 1000):
            raise CameraError(f"The parameter rate must be above 0 and at most 1000 frames a second, not {self._rate}.")
        if width < 16 or height < 16:
            raise CameraError(f"The parameters width and height must be at least 16, not {width} and {height}.")
        if self._count < 0 or self._wait_for < 0:
            raise CameraError("The parameters count and wait_for_subscribers must be 0 or more.")

        self.done = False
        self._published = 0
        self._last = 0.0  # when the last frame was published
        frames = open_frames(self._source, width, height, self._rate)
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        # Reliable, so that a subscriber who asks for that misses no frame's stamp; best-effort ones match it too.
        self._infos = self.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=100))
        # Rendering and decoding take a while, now and then longer than a frame's time.
        self._ready: queue.Queue[Picture | CameraError] = queue.Queue(AHEAD)
        threading.Thread(target=self._make_ready, args=(frames,), name="frames", daemon=True).start()
        # Not the ROS clock, which may be a simulation's that waits for the first frame.
        self.create_timer(1 / self._rate, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"{self._source} at {self._rate:g} Hz on {self._images.topic_name}.")

    def _parameter(self, name: str, default: Any, description: str) -> Any:
        # Declared without a type, because rclpy's own refusal of another type is no sentence.
        descriptor = ParameterDescriptor(description=description, dynamic_typing=True, read_only=True)
        value = self.declare_parameter(name, default, descriptor).value
        if isinstance(default, float) and type(value) is int:  # rate:=10
            value = float(value)
        if type(value) is not type(default):
            raise CameraError(f"The parameter {name} must be like {default!r}, not {value!r}. {description}")
        return value

    def _make_ready(self, frames: Frames) -> None:
        try:
            for frame in frames:
                self._ready.put(frame)
        except CameraError as error:
            self._ready.put(error)

    def _tick(self) -> None:
        if self._count and self._published == self._count:
            self.done = time.monotonic() - self._last >= LINGER
            return
        if not self._published and self._images.get_subscription_count() < self._wait_for:
            return
        frame = self._ready.get()
        if isinstance(frame, CameraError):
            raise frame
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._images.publish(to_message(frame, "bgr8", header))
        self._infos.publish(camera_info(frame.shape[1], frame.shape[0], header))
        self._published += 1
        self._last = time.monotonic()


def camera_info(width: int, height: int, header: Header) -> CameraInfo:
    """A pinhole without distortion, KITTI's angle of view and the optical centre in the middle of the picture."""
    focal, x, y = FOCAL * width, (width - 1) / 2, (height - 1) / 2
    info = CameraInfo(header=header, width=width, height=height, distortion_model="plumb_bob")
    info.d = [0.0] * 5
    info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def main(args: list[str] | None = None) -> int:
    """Publishes until `count` frames are out, Ctrl-C or SIGTERM (0); 2 when the source or a parameter is at fault."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # what rclpy's errors about --ros-args have in common
        get_logger(NODE_NAME).fatal(f"The command line cannot be used: {error}")
        return 2
    camera = None
    try:
        camera = Camera()
        while not camera.done:
            rclpy.spin_once(camera)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except CameraError as error:
        get_logger(NODE_NAME).fatal(str(error))
        return 2
    except Exception:
        if rclpy.ok():  # else a call that SIGTERM's shutdown of the context broke off
            raise
    finally:
        signal.alarm(SHUTDOWN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C while it ends
        if camera is not None:
            camera.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
