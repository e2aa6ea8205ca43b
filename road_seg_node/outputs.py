# SPDX-License-Identifier: Apache-2.0
"""What the node publishes of each frame, made only while somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from road_seg_node.images import to_message
from road_seg_node.overlay import tint
from road_seg_node.parameters import Values
from road_seg_node.segmenter import road_mask


@dataclass(frozen=True)
class Answer:
    """What is known of one frame once it has been inferred.

    header: the image's own. bgr: uint8 [H, W, 3]. probability: uint8 [H, W], round(255 * P(road)). threshold: 0 to 1.
    values: the parameters. camera_info: the newest that came, or None.
    """

    header: Header
    bgr: np.ndarray
    probability: np.ndarray
    threshold: float
    values: Values
    camera_info: CameraInfo | None

    @cached_property
    def mask(self) -> np.ndarray:
        """uint8 [H, W]: 255 road, 0 not."""
        return road_mask(self.probability, self.threshold)


def _mask(answer: Answer) -> Image:
    return to_message(answer.mask, "mono8", answer.header)


def _probability(answer: Answer) -> Image:
    return to_message(answer.probability, "mono8", answer.header)


def _overlay(answer: Answer) -> Image:
    values = answer.values
    picture = tint(answer.bgr, answer.mask, values.overlay_colour, values.overlay_opacity)
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
    Output("overlay", Image, _overlay),
    Output("camera_info", CameraInfo, _camera_info),
)


class Outputs:
    """The publishers of OUTPUTS: reliable, which is what RViz asks for by default, and of depth 1."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers: dict[Output, Publisher] = {
            output: node.create_publisher(output.type, f"~/{output.name}", QoSProfile(depth=1)) for output in OUTPUTS
        }

    @property
    def topics(self) -> list[str]:
        return [publisher.topic_name for publisher in self._publishers.values()]

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
