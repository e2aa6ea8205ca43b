# SPDX-License-Identifier: Apache-2.0
"""What the topics of images and camera_info are named, and their types."""

from __future__ import annotations

from typing import TypeAlias

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

ImageMessage: TypeAlias = Image | CompressedImage
TYPES: dict[str, type] = {"raw": Image, "compressed": CompressedImage}


def image_topic(node: Node, image_transport: str, name: str = "image") -> str:
    """The full name of the images' topic. As everywhere in ROS, the compressed ones lie below the raw ones' name.

    Where `name` itself was remapped to the compressed ones' full name, it is meant.
    """
    image = node.resolve_topic_name(name)
    if image_transport == "raw":
        return image
    below = image if image.endswith("/compressed") else f"{image}/compressed"
    return _resolved(node, f"{name}/compressed", below)


def camera_info_topic(node: Node, image_transport: str, name: str = "image") -> str:
    """The full name: beside the images of that `name`, as camera drivers publish it."""
    namespace = name.rpartition("/")[0]
    beside = camera_info_beside(image_topic(node, image_transport, name))
    return _resolved(node, f"{namespace}/camera_info" if namespace else "camera_info", beside)


def camera_info_beside(images: str) -> str:
    """Where camera drivers publish the camera_info of the images on that topic, raw or compressed."""
    return images.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"


def camera_name(images: str) -> str:
    """Of the camera with images on that topic: "front" of front/image_raw, also compressed, and "" of image."""
    return images.removesuffix("/compressed").strip("/").rpartition("/")[0]


def _resolved(node: Node, name: str, otherwise: str) -> str:
    """Where the user has remapped `name` to, or else `otherwise`."""
    resolved = node.resolve_topic_name(name)
    return otherwise if resolved == node.resolve_topic_name(name, only_expand=True) else resolved
