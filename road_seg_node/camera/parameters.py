# SPDX-License-Identifier: Apache-2.0
"""The camera's parameters: read once, as it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from road_seg_node.camera.shots import CameraError
from road_seg_node.camera.sources import HEIGHT, SYNTHETIC, WIDTH

LARGEST = 8192  # pixels
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
CHOICES = {"stamps": ("now", "recorded"), "image_transport": ("raw", "compressed")}
DESCRIPTIONS = {
    "source": f"{SYNTHETIC}[:SEED], a folder of PNG or JPEG pictures, a video file, or a bag (.mcap, .db3, its folder, "
    "or ROS 1's .bag).",
    "topic": "The image topic, if a bag has several.",
    "rate": "Frames a second. 0: as recorded in a bag, a video's own, 10 for other sources.",
    "loop": "Start again after the last frame; otherwise exit.",
    "count": "How many frames to publish before exiting. 0: no limit.",
    "wait_for_subscribers": "Start once this many nodes subscribe to the images.",
    "stamps": "The stamps in the headers: now, or recorded: those in the bag.",
    "frame_id": "The frame_id in the headers. Empty: a bag's own, camera for other sources.",
    "image_transport": "raw: sensor_msgs/Image on image. compressed: sensor_msgs/CompressedImage on image/compressed.",
    "width": "Width of the synthetic road's pictures, in pixels.",
    "height": "Height of the synthetic road's pictures, in pixels.",
}


@dataclass(frozen=True)
class CameraValues:
    """What DESCRIPTIONS says."""

    source: str = SYNTHETIC
    topic: str = ""
    rate: float = 0.0
    loop: bool = True
    count: int = 0
    wait_for_subscribers: int = 0
    stamps: str = "now"
    frame_id: str = ""
    image_transport: str = "raw"
    width: int = WIDTH
    height: int = HEIGHT


def declare(node: Node) -> CameraValues:
    """Declares every parameter on `node`. Raises CameraError where a value is refused."""
    given = CameraValues(**{field.name: _declared(node, field.name, field.default) for field in fields(CameraValues)})
    if not (math.isfinite(given.rate) and 0 <= given.rate <= 1000):
        raise CameraError(f"The parameter rate must be from 0 to 1000 frames a second, not {given.rate}.")
    if not (16 <= given.width <= LARGEST and 16 <= given.height <= LARGEST):
        raise CameraError(
            f"The parameters width and height must be from 16 to {LARGEST}, not {given.width} and {given.height}."
        )
    if given.count < 0 or given.wait_for_subscribers < 0:
        raise CameraError("The parameters count and wait_for_subscribers must be 0 or more.")
    for name, choices in CHOICES.items():
        value = getattr(given, name)
        if value not in choices:
            raise CameraError(f"The parameter {name} must be one of {', '.join(choices)}, not {value!r}.")
    return given


def _declared(node: Node, name: str, default: Any) -> Any:
    # Declared without a type, because rclpy's own refusal of another type is no sentence.
    descriptor = ParameterDescriptor(description=DESCRIPTIONS[name], dynamic_typing=True, read_only=True)
    value = node.declare_parameter(name, default, descriptor).value
    if isinstance(default, float) and type(value) is int:  # rate:=10
        value = float(value)
    if type(value) is not type(default):
        raise CameraError(f"The parameter {name} must be {KINDS[type(default)]}, not {value!r}. {DESCRIPTIONS[name]}")
    return value
