# SPDX-License-Identifier: Apache-2.0
"""What the demo sees of the camera and the node: it subscribes as a planner and RViz would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.demo.viewer import Viewer
from road_seg_node.ros.images import to_bgr

THUMBNAIL = 414  # pixels wide
COLUMNS = ("image", "overlay", "mask")
GROUND = "ground, ahead is right"  # one more column, where the camera's mounting is known
UNSEEN = 60  # grey of ground that the image does not show
ROWS = 6

Picture = NDArray[np.uint8]


def nanoseconds(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


@dataclass(frozen=True)
class Answer:
    """A mask that arrived: when, by the ROS clock, and its pixels, one bit each."""

    received: int  # nanoseconds
    bits: Picture
    shape: tuple[int, int]

    def road(self) -> NDArray[np.bool_]:
        """bool [height, width], True where the node saw road."""
        pixels = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=pixels).reshape(self.shape).astype(bool)


@dataclass
class Seen:
    """Everything collected, by the frames' stamps in nanoseconds."""

    sent: list[int] = field(default_factory=list)  # in the camera's order: the index is the frame's number
    answers: dict[int, Answer] = field(default_factory=dict)
    thumbnails: dict[int, dict[str, Picture]] = field(default_factory=dict)  # by stamp, then by column
    provider: str = "unknown"

    def answered(self) -> list[int]:
        """The stamps of the frames that were answered, in the camera's order."""
        return [stamp for stamp in self.sent if stamp in self.answers]

    def latencies(self) -> NDArray[np.float64]:
        """Seconds from the camera's stamp to the mask's arrival, one for each answered frame."""
        return np.array([self.answers[stamp].received - stamp for stamp in self.answered()]) / 1e9

    def frames_a_second(self) -> float:
        """How fast masks came; 0 where fewer than two did."""
        times = [answer.received for answer in self.answers.values()]
        return 1e9 * (len(times) - 1) / (max(times) - min(times)) if len(times) > 1 else 0.0


class Collector(Node):
    """Collects into `seen`, and writes each overlay into an MP4 file. It hears no image before watch_images()."""

    def __init__(
        self, film: Path, rate: float, grid: bool = False, viewer: Viewer | None = None, **options: Any
    ) -> None:
        super().__init__("road_seg_demo", **options)
        self.columns = columns(grid)
        self.seen = Seen()
        self._viewer = viewer
        self._path, self._rate = film, rate
        self._film: cv2.VideoWriter | None = None
        self._size = (0, 0)
        deep = QoSProfile(depth=100)
        # camera_info is reliable and small, so that it tells every frame's stamp even where images are lost.
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, deep)
        self.create_subscription(Image, "road_seg/mask", self._on_mask, QoSProfile(depth=5))
        self.create_subscription(Image, "road_seg/overlay", self._on_overlay, QoSProfile(depth=5))
        if grid:
            self.create_subscription(OccupancyGrid, "road_seg/road_grid", self._on_grid, QoSProfile(depth=5))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, deep)

    def node_is_ready(self) -> bool:
        """Whether the node has loaded its model and waits for images, and the camera is there."""
        topics = ("road_seg/mask", "road_seg/overlay", "camera_info")
        return bool(self.count_subscribers("image")) and all(map(self.count_publishers, topics))

    def watch_images(self) -> None:
        """Subscribes to the images, which is what the demo's camera waits for."""
        self.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)

    def close_film(self) -> bool:
        """Ends the MP4 file; False where no overlay came."""
        if self._film is None:
            return False
        self._film.release()
        return True

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self.seen.sent.append(nanoseconds(msg.header.stamp))

    def _on_mask(self, msg: Image) -> None:
        now = self.get_clock().now().nanoseconds
        mask = to_bgr(msg)[..., 0]
        answer = Answer(now, np.packbits(mask > 0), (msg.height, msg.width))
        stamp = nanoseconds(msg.header.stamp)
        self.seen.answers.setdefault(stamp, answer)
        if self._viewer:
            self._viewer.latency(stamp, (now - stamp) / 1e6)
        self._keep("mask", msg.header.stamp, mask)

    def _on_overlay(self, msg: Image) -> None:
        overlay = to_bgr(msg)
        if self._film is None:
            self._size = (msg.width, msg.height)
            self._film = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size
            )
        whole = overlay if (msg.width, msg.height) == self._size else cv2.resize(overlay, self._size)
        self._film.write(whole)
        self._keep("overlay", msg.header.stamp, overlay)

    def _on_image(self, msg: Image) -> None:
        self._keep("image", msg.header.stamp, to_bgr(msg))

    def _on_grid(self, msg: OccupancyGrid) -> None:
        cells = np.array(msg.data, np.int16).reshape(msg.info.height, msg.info.width)
        shade = np.where(cells < 0, UNSEEN, 255 - cells * 255 // 100).astype(np.uint8)
        self._keep(GROUND, msg.header.stamp, shade[::-1])  # left of the camera is up

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            for value in status.values:
                if value.key == "provider":
                    self.seen.provider = value.value

    def _keep(self, column: str, stamp: Time, picture: Picture) -> None:
        if self._viewer:
            self._viewer.show(column, nanoseconds(stamp), picture)
        size = (THUMBNAIL, max(1, round(THUMBNAIL * picture.shape[0] / picture.shape[1])))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        if small.ndim == 2:
            small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
        of_stamp = self.seen.thumbnails.setdefault(nanoseconds(stamp), {})
        of_stamp[column] = small.astype(np.uint8, copy=False)


def columns(grid: bool) -> tuple[str, ...]:
    """What pictures there are, and so the contact sheet's columns; grid: with the road on the ground."""
    return (*COLUMNS, GROUND) if grid else COLUMNS


def contact_sheet(seen: Seen, columns: Sequence[str] = COLUMNS) -> Picture | None:
    """The columns of up to six frames, evenly spread: uint8 [H, W, 3] BGR; None where no frame has all."""
    whole = [stamp for stamp in seen.sent if len(seen.thumbnails.get(stamp, ())) == len(columns)]
    if not whole:
        return None
    chosen = [whole[i] for i in np.unique(np.linspace(0, len(whole) - 1, ROWS).round().astype(int))]
    gap, title = 4, 24
    heading = np.full((title, len(columns) * (THUMBNAIL + gap) + gap, 3), 255, np.uint8)
    for number, column in enumerate(columns):
        at = (gap + number * (THUMBNAIL + gap), title - 7)
        cv2.putText(heading, column, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    rows = [heading]
    for stamp in chosen:
        pictures = [seen.thumbnails[stamp][column] for column in columns]
        row = np.full((max(len(picture) for picture in pictures) + gap, heading.shape[1], 3), 255, np.uint8)
        for number, picture in enumerate(pictures):
            left = gap + number * (THUMBNAIL + gap)
            row[: picture.shape[0], left : left + THUMBNAIL] = picture
        rows.append(row)
    return np.vstack(rows)
