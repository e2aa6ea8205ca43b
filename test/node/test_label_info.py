# SPDX-License-Identifier: Apache-2.0
"""What Nav2's semantic segmentation layer takes, by its source: subscribed as it does, held against what it asks for.

It indexes mask and confidence by row * width + column, with a point cloud of the camera's size beside them; pairs them
by stamp; and takes a class only where LabelInfo names its number and the costmap's parameters its name.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from node_process import (
    REPOSITORY,
    Planner,
    image,
    pixels,
    scene,
    wait_until,
    weighted_probability,
    write_weighted_model,
)
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image

THRESHOLD = 0.4
HAS_MESSAGES = importlib.util.find_spec("vision_msgs") is not None
needs_messages = pytest.mark.skipif(
    not HAS_MESSAGES, reason="needs vision_msgs: apt install ros-$ROS_DISTRO-vision-msgs, or build it from its source"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx", threshold=THRESHOLD)


@pytest.fixture(scope="module")
def layer() -> dict[str, Any]:
    """The layer's parameters in docs/nav2.md."""
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/nav2.md").read_text(), re.DOTALL)
    found = [yaml.safe_load(block) for block in blocks]
    return next(block["semantic_segmentation_layer"] for block in found if "semantic_segmentation_layer" in block)


def labels_of(planner: Planner) -> list[Any]:
    """Where LabelInfo messages come in, subscribed as nav2::qos::LatchedSubscriptionQoS(5)."""
    from vision_msgs.msg import LabelInfo

    came: list[Any] = []
    latched = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    planner.node.create_subscription(LabelInfo, "/road_seg/label_info", came.append, latched)
    return came


def test_mask_and_confidence_are_what_the_layer_indexes_and_pairs(start, planner, model, layer) -> None:
    start(model=model, provider="cpu")
    came: dict[str, list[Image]] = {"segmentation_topic": [], "confidence_topic": []}
    for key, messages in came.items():
        planner.node.create_subscription(Image, layer["camera"][key], messages.append, qos_profile_sensor_data)
    planner.wait_for_camera_link()
    bgr = scene(97, 61)  # an odd width, which rows that are padded would show
    sent = planner.stamp(image(bgr, padding=5))

    def paired() -> bool:
        planner.publish(sent)
        return all(messages for messages in came.values())

    wait_until(paired, "a mask and a confidence")
    mask, confidence = (messages[-1] for messages in came.values())
    for msg in (mask, confidence):
        assert msg.header == sent.header
        assert (msg.encoding, msg.width, msg.height, msg.step) == ("mono8", 97, 61, 97)
        assert len(msg.data) == 97 * 61
    probability = weighted_probability(bgr)
    road = probability / 255 >= THRESHOLD
    np.testing.assert_array_equal(pixels(mask), road)  # classes 0 and 1; 255 would mean unlabelled
    np.testing.assert_array_equal(pixels(confidence), np.where(road, probability, 255 - probability))


def test_the_documented_layer_knows_both_classes_and_no_other(layer) -> None:
    from road_seg_node.node.label_info import CLASSES

    camera = layer["camera"]
    named = [name for kind in camera["class_types"] for name in camera[kind]["classes"]]
    assert sorted(named) == sorted(CLASSES)
    assert camera["road"]["max_cost"] == 0 and camera["off_road"]["max_cost"] == 254
    assert "road" in camera["road"]["classes"]
    # A tile gets max_cost only where its mean confidence is above mark_confidence, a byte.
    assert all(0 <= camera[kind]["mark_confidence"] < 255 for kind in camera["class_types"])
    assert camera["labels_topic"] == "/road_seg/label_info"


@needs_messages
def test_labels_come_to_who_subscribes_late_and_again_when_the_threshold_changes(start, planner, model) -> None:
    start(model=model, provider="cpu").wait_for("Waiting for images")
    came = labels_of(planner)
    wait_until(lambda: came, "LabelInfo")
    assert [(item.class_id, item.class_name) for item in came[0].class_map] == [(0, "background"), (1, "road")]
    assert came[0].threshold == pytest.approx(THRESHOLD)
    assert planner.set_parameter("threshold", "0.25").successful
    wait_until(lambda: len(came) > 1, "LabelInfo with the new threshold")
    assert came[1].threshold == pytest.approx(0.25)
    assert planner.set_parameter("overlay_opacity", "0.5").successful
    late = labels_of(planner)
    wait_until(lambda: late, "LabelInfo for the late subscriber")
    assert (len(came), len(late)) == (2, 1)


@pytest.mark.skipif(HAS_MESSAGES, reason="vision_msgs is installed here")
def test_without_vision_msgs_the_node_does_without_labels(start, planner, model) -> None:
    start(model=model, provider="cpu").wait_for("Waiting for images")
    planner.listen("label_mask", "confidence")
    planner.ask(image(scene()))
    assert not planner.node.count_publishers("/road_seg/label_info")
