# SPDX-License-Identifier: Apache-2.0
"""One node for several cameras: each is answered below its own name, in turn, and accounted for by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from node_process import Planner, image, pixels, scene, wait_until, weighted_probability, write_weighted_model
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.node.newest_frame import NewestFrames
from road_seg_node.ros.topics import camera_name

FRONT_AND_REAR = "[/front/image_raw, rear/image]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


class Camera:
    """Sends its own picture and camera_info, and hears the node's answers to them."""

    def __init__(self, planner: Planner, topic: str, bgr: np.ndarray) -> None:
        name = camera_name(topic)
        self.name, self.bgr = name, bgr
        self._planner, node = planner, planner.node
        self.images = node.create_publisher(Image, topic, qos_profile_sensor_data)
        self.infos = node.create_publisher(CameraInfo, f"{name}/camera_info", 1)
        self.masks: list[Image] = []
        self.probabilities: list[Image] = []
        self.answered_infos: list[CameraInfo] = []
        for of, output, messages in (
            (Image, "mask", self.masks),
            (Image, "probability", self.probabilities),
            (CameraInfo, "camera_info", self.answered_infos),
        ):
            node.create_subscription(of, f"/road_seg/{name}/{output}", messages.append, QoSProfile(depth=50))

    def show(self) -> None:
        msg = self._planner.stamp(image(self.bgr), frame_id=f"{self.name}_camera")
        info = CameraInfo(header=msg.header, width=msg.width, height=msg.height)
        info.header.frame_id = msg.header.frame_id
        self.infos.publish(info)
        self.images.publish(msg)


@pytest.fixture
def cameras(planner: Planner) -> list[Camera]:
    return [
        Camera(planner, "front/image_raw", scene(96, 64, seed=1)),
        Camera(planner, "rear/image", scene(80, 48, seed=2)),
    ]


def statuses(planner: Planner) -> dict[str, dict[str, str]]:
    """The values of the next diagnostics, by name."""
    came: list[DiagnosticStatus] = []
    subscription = planner.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda msg: came.extend(msg.status), 10
    )
    wait_until(lambda: came, "/diagnostics")
    planner.node.destroy_subscription(subscription)
    return {status.name: {item.key: item.value for item in status.values} for status in came}


def test_each_camera_has_its_own_answers_and_accounts(start, planner, model, cameras) -> None:
    node = start(model=model, provider="cpu", image_topics=FRONT_AND_REAR)

    def answered() -> bool:
        for camera in cameras:
            camera.show()
        return all(camera.masks and camera.probabilities and camera.answered_infos for camera in cameras)

    wait_until(answered, "an answer to each camera")
    assert node.logged("Waiting for images on /front/image_raw; answers on /road_seg/front/mask, ")
    assert node.logged("Waiting for images on /rear/image; answers on /road_seg/rear/mask, ")
    for camera in cameras:
        np.testing.assert_array_equal(pixels(camera.probabilities[-1]), weighted_probability(camera.bgr))
        assert {msg.header.frame_id for msg in (*camera.masks, *camera.answered_infos)} == {f"{camera.name}_camera"}
        assert {(msg.width, msg.height) for msg in camera.answered_infos} == {camera.bgr.shape[1::-1]}
    wait_until(
        lambda: all(int(values["frames answered"]) for values in statuses(planner).values()), "frames in both accounts"
    )
    assert set(statuses(planner)) == {"road_seg: front segmentation", "road_seg: rear segmentation"}
    assert not planner.node.count_publishers("/road_seg/mask")


def test_a_fast_camera_leaves_the_slow_one_its_turn(start, planner, tmp_path, cameras) -> None:
    """The front camera always has a newer frame; each of the rear one's is answered all the same."""
    slow = write_weighted_model(tmp_path / "slow.onnx", work=25)
    start(model=slow, provider="cpu", image_topics=FRONT_AND_REAR)
    front, rear = cameras

    def rear_answered(count: int) -> bool:
        front.show()
        return len(rear.masks) >= count

    wait_until(lambda: front.images.get_subscription_count() and rear.images.get_subscription_count(), "the node")
    for count in range(1, 4):
        rear.show()
        wait_until(lambda count=count: rear_answered(count), "the rear camera's turn")
    assert len(front.masks) >= 2
    values = statuses(planner)
    assert int(values["road_seg: front segmentation"]["frames superseded"]) > 0
    assert values["road_seg: rear segmentation"]["frames superseded"] == "0"


def test_what_is_said_names_the_camera(start, planner, model, cameras) -> None:
    node = start(model=model, provider="cpu", image_topics=FRONT_AND_REAR)
    broken = image(scene())
    broken.step = 1
    wait_until(lambda: cameras[1].images.get_subscription_count(), "the node")

    def told() -> bool:
        cameras[1].images.publish(planner.stamp(broken))
        return any("[road_seg.rear]" in line and "The node continues" in line for line in node.lines)

    wait_until(told, "the warning")
    assert not any("[road_seg.front]" in line and "WARN" in line for line in node.lines)


def test_where_one_camera_cannot_be_subscribed_to_none_is(start, planner, model) -> None:
    override = ["-p", "qos_overrides./rear/image.subscription.reliability:=perfect"]
    start(*override, model=model, provider="cpu", image_topics=FRONT_AND_REAR, autostart=False)
    assert planner.change_state(Transition.TRANSITION_CONFIGURE)
    assert not planner.change_state(Transition.TRANSITION_ACTIVATE)
    assert planner.state() == "inactive"
    wait_until(lambda: not planner.node.count_subscribers("/front/image_raw"), "the front camera to be left")


@pytest.mark.parametrize(
    "topics", ["[front/image, front/image_raw]", "[/image, image]", "['~/image']", "[front//image]"]
)
def test_topics_that_name_no_cameras_end_the_node_with_a_sentence(start, model, topics: str) -> None:
    node = start(model=model, provider="cpu", image_topics=topics)
    assert node.exit_code() == 2
    assert (
        "The parameter image_topics must be one topic or several, each in a namespace of its own" in node.lines[-1]
    )
    assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("image", ""),
        ("/image", ""),
        ("front/image_raw", "front"),
        ("/robot/front/image_raw", "robot/front"),
        ("/front/image_raw/compressed", "front"),
        ("image/compressed", ""),
    ],
)
def test_a_camera_is_named_by_what_stands_before_its_topics_last_part(topic: str, name: str) -> None:
    assert camera_name(topic) == name


def test_the_newest_frame_of_each_camera_is_taken_and_the_cameras_in_turn() -> None:
    frames: NewestFrames[str] = NewestFrames()
    assert frames.put("front", "front 1") is None
    assert frames.put("rear", "rear 1") is None
    assert frames.put("front", "front 2") == "front 1"
    assert frames.take() == "front 2"
    assert frames.put("front", "front 3") is None
    assert [frames.take(), frames.take()] == ["rear 1", "front 3"]
    frames.put("front", "front 4")
    frames.put("rear", "rear 2")
    assert frames.close() == ["front 4", "rear 2"]
    assert frames.take() is None
    assert frames.put("front", "front 5") == "front 5"
