# SPDX-License-Identifier: Apache-2.0
"""What the node publishes of each frame, made only while somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.ground import GroundError
from road_seg_node.node.answer import Answer
from road_seg_node.node.road_grid import RoadGrid
from road_seg_node.overlay import tint
from road_seg_node.ros.images import to_message
from road_seg_node.ros.throttled_log import ThrottledLog


def _mask(answer: Answer) -> Image:
    return to_message(answer.mask, "mono8", answer.header)


def _probability(answer: Answer) -> Image:
    return to_message(answer.probability, "mono8", answer.header)


def _label_mask(answer: Answer) -> Image:
    return to_message(answer.label_mask, "mono8", answer.header)


def _confidence(answer: Answer) -> Image:
    return to_message(answer.confidence, "mono8", answer.header)


def _overlay(answer: Answer) -> Image:
    values = answer.values
    picture = tint(answer.bgr, answer.mask, values.overlay_color, values.overlay_opacity)
    return to_message(picture, "bgr8", answer.header)


def _camera_info(answer: Answer) -> CameraInfo | None:
    """The camera's own with the image's header, so that RViz's Camera display pairs it with ~/mask."""
    if answer.camera_info is None:
        return None
    fields = {name: getattr(answer.camera_info, name) for name in CameraInfo.get_fields_and_field_types()}
    return CameraInfo(**(fields | {"header": answer.header}))


@dataclass(frozen=True)
class Output:
    """A topic `~/name`. `make` returns its message, or None where there is none of this frame."""

    name: str
    type: type
    make: Callable[[Answer], Any | None]


OUTPUTS = (
    Output("mask", Image, _mask),
    Output("probability", Image, _probability),
    Output("label_mask", Image, _label_mask),
    Output("confidence", Image, _confidence),
    Output("overlay", Image, _overlay),
    Output("camera_info", CameraInfo, _camera_info),
)


class Outputs:
    """The publishers of OUTPUTS and of ~/road_grid: reliable, which RViz asks for by default, and of depth 1.

    Those of a camera with a name are below it: ~/front/mask.
    """

    def __init__(self, node: Node, camera: str, grid: RoadGrid, log: ThrottledLog) -> None:
        self._node, self._grid, self._log = node, grid, log
        self._gridless = ""  # why the last frame for which a grid was wanted has none
        road_grid = Output("road_grid", OccupancyGrid, self._road_grid)
        below = f"~/{camera}" if camera else "~"
        self._publishers: dict[Output, Publisher] = {
            output: node.create_publisher(output.type, f"{below}/{output.name}", QoSProfile(depth=1))
            for output in (*OUTPUTS, road_grid)
        }
        self._grids = self._publishers[road_grid]

    @property
    def topics(self) -> list[str]:
        return [publisher.topic_name for publisher in self._publishers.values()]

    @property
    def complaint(self) -> str:
        """Why the last frame has no grid, though somebody listens for it, or "". Any thread may ask."""
        return self._gridless if self._grids.get_subscription_count() else ""

    def wanted(self) -> list[Output]:
        """Those that somebody listens to now."""
        return [output for output, publisher in self._publishers.items() if publisher.get_subscription_count()]

    def publish(self, answer: Answer, wanted: list[Output]) -> None:
        for output in wanted:
            msg = output.make(answer)
            if msg is not None:
                self._publishers[output].publish(msg)

    def close(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _road_grid(self, answer: Answer) -> OccupancyGrid | None:
        try:
            grid = self._grid.message(answer)
        except GroundError as error:
            self._gridless = str(error)
            self._log.warn("road_grid", self._gridless)
            return None
        self._gridless = ""
        return grid
