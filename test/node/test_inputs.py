# SPDX-License-Identifier: Apache-2.0
"""What the node subscribes to, and what it says where no image comes, in its own process over real DDS."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rclpy
from node_process import NodeProcess, Planner, image, pixels, scene, wait_until, weighted_probability
from node_process import write_weighted_model as write_model
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from road_seg_node.node.inputs import Inputs
from road_seg_node.ros.throttled_log import ThrottledLog


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


@pytest.mark.parametrize(
    ("remapping", "topic", "info"),
    [
        ((), "/image/compressed", "/camera_info"),
        (("-r", "image:=/front/image_raw"), "/front/image_raw/compressed", "/front/camera_info"),
        (("-r", "image/compressed:=/front/raw/compressed"), "/front/raw/compressed", "/front/camera_info"),
        (("-r", "image/compressed:=/front/jpeg"), "/front/jpeg", "/front/camera_info"),
        (("-r", "image:=/front/image_raw/compressed"), "/front/image_raw/compressed", "/front/camera_info"),
    ],
)
def test_compressed_images_are_answered(
    start, planner, model, remapping: tuple[str, ...], topic: str, info: str
) -> None:
    node = start(*remapping, model=model, provider="cpu", image_transport="compressed")
    node.wait_for(f"Waiting for images on {topic};")
    planner.listen("probability")
    planner.camera = planner.node.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
    planner.wait_for_camera_link()
    wait_until(lambda: planner.node.count_subscribers(info), f"the node to subscribe to {info}")
    msg = CompressedImage(format="png")
    msg.data.frombytes(cv2.imencode(".png", scene())[1].tobytes())
    answer = planner.ask(msg)["probability"]
    assert answer.header == msg.header
    np.testing.assert_array_equal(pixels(answer), weighted_probability(scene()))


def test_camera_info_comes_with_the_images_stamp(start, planner, model) -> None:
    start("-r", "image:=/front/image_raw", model=model, provider="cpu")
    camera = planner.node.create_publisher(Image, "/front/image_raw", qos_profile_sensor_data)
    infos = planner.node.create_publisher(CameraInfo, "/front/camera_info", 1)
    received: list[CameraInfo] = []
    planner.node.create_subscription(CameraInfo, "/road_seg/camera_info", received.append, 10)
    for publisher in (camera, infos):
        wait_until(publisher.get_subscription_count, "the node to subscribe")
    sent = CameraInfo(width=96, height=64, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    sent.k[0] = sent.k[4] = 70.0
    sent.header.stamp.sec = 5
    msg = planner.stamp(image(scene()))

    def answered() -> bool:
        infos.publish(sent)
        camera.publish(msg)
        try:
            wait_until(lambda: received, "", 0.2)
        except AssertionError:
            return False
        return True

    wait_until(answered, "~/camera_info")
    assert received[-1].header == msg.header
    received[-1].header = sent.header
    assert received[-1] == sent


def test_publishers_whose_qos_does_not_fit_are_named_with_both_sides(start, planner, model) -> None:
    """The test's camera is best effort, as drivers are."""
    node = start(
        "-p", "qos_overrides./image.subscription.reliability:=reliable", model=model, provider="cpu", image_timeout=0.0
    )
    node.wait_for("do not agree on the QoS of /image")
    (line,) = [line for line in node.lines if "do not agree" in line]
    assert "/planner offers best_effort, volatile (" in line
    assert "this node asks for reliable, volatile:" in line
    assert "qos_overrides./image.subscription" in line
    wait_until(lambda: "do not agree" in planner.diagnostics()["message"], "the warning in diagnostics")
    assert planner.diagnostics()["level"] == "WARN"
    fitting = planner.node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    wait_until(fitting.get_subscription_count, "the node to subscribe")


def test_images_that_the_middleware_loses_are_counted_and_told(start, planner, model) -> None:
    """Without the Fast DDS profile, most of such large ones are."""
    node = start(model=model, provider="cpu")
    planner.wait_for_camera_link()
    large = image(scene(1242, 375))
    lost: dict[str, str] = {}

    def told() -> bool:
        for _ in range(20):
            planner.publish(planner.stamp(large))
        lost.update(planner.diagnostics())
        return "were lost between the camera and this node" in lost["message"]

    wait_until(told, "the warning in diagnostics")
    assert lost["level"] == "WARN"
    assert int(lost["lost before arrival"]) > 0
    assert node.logged("need the Fast DDS profile of config/fastdds_large_images.xml, in the camera's process too.")


def test_images_that_are_lost_are_asked_for_reliably_of_cameras_that_offer_it(start, planner, model) -> None:
    """Without the Fast DDS profile nearly all of such large ones are lost at first, and none once they are sent again.

    A camera that comes later and is best effort is heard all the same.
    """
    planner.node.destroy_publisher(planner.camera)
    planner.camera = planner.node.create_publisher(Image, "image", QoSProfile(depth=10))
    node = start(model=model, provider="cpu")
    planner.listen("mask")
    planner.wait_for_camera_link()
    large = image(scene(1242, 375))

    def send(count: int) -> None:
        for _ in range(count):
            planner.publish(planner.stamp(large))
            time.sleep(0.1)

    def lost() -> bool:
        send(10)
        return node.logged("asks for them reliably from now on")

    assert planner.diagnostics()["image reliability"] == "best_effort"
    wait_until(lost, "the node to ask for them reliably")
    wait_until(lambda: planner.diagnostics()["image reliability"] == "reliable", "the same in diagnostics")
    planner.wait_for_camera_link()
    planner.ask(large)  # the two know each other
    before = planner.counts(lambda counts: counts["pending"] == 0)
    send(30)
    after = planner.counts(lambda counts: counts["pending"] == 0 and counts["received"] >= before["received"] + 29)
    assert after["answered"] + after["superseded"] - before["answered"] - before["superseded"] >= 29

    planner.camera = planner.node.create_publisher(Image, "image", qos_profile_sensor_data)
    wait_until(lambda: planner.diagnostics()["image reliability"] == "best_effort", "the node to take what is offered")
    planner.ask(image(scene()))
    assert not node.logged("do not agree on the QoS")


def test_a_single_lost_image_is_not_many(domain: int) -> None:
    """Of a slow camera it is more than one in twenty of a second's images."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("road_seg", context=context)
    inputs = Inputs(node, "image", "raw", lambda msg: None, lambda count: None, ThrottledLog(node.get_logger()))

    def second(came: int, lost: int) -> str:
        for _ in range(came):
            inputs._on_message(Image())
        inputs._on_message_lost(SimpleNamespace(total_count_change=lost))
        return inputs.complaint(0.0)

    assert [second(10, 1), *(second(10, 0) for _ in range(3))] == [""] * 4
    assert "Of the last 20 images on /image 2 were lost" in [second(9, 1), second(9, 1)][-1]
    assert "2 were lost" in second(10, 0)  # until as many have come again
    assert second(10, 0) == ""
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_reliability_that_the_user_chose_stays(start, planner, model) -> None:
    planner.node.destroy_publisher(planner.camera)
    planner.camera = planner.node.create_publisher(Image, "image", QoSProfile(depth=10))
    chosen = ("-p", "qos_overrides./image.subscription.reliability:=best_effort")
    node = start(*chosen, model=model, provider="cpu")
    planner.wait_for_camera_link()
    large = image(scene(1242, 375))

    def told() -> bool:
        for _ in range(20):
            planner.publish(planner.stamp(large))
        return "were lost between" in planner.diagnostics()["message"]

    wait_until(told, "the warning in diagnostics")
    assert planner.diagnostics()["image reliability"] == "best_effort"
    assert not node.logged("asks for them reliably")


def hears_silence(node: NodeProcess, planner: Planner, words: str) -> None:
    """The warning about images that do not come has `words` at its end, in the log and in diagnostics."""
    wait_until(lambda: any("No image has arrived" in line and line.endswith(words) for line in node.lines), words)
    wait_until(lambda: planner.diagnostics()["message"].endswith(words), f"{words} in diagnostics")
    assert planner.diagnostics()["level"] == "WARN"


def test_silence_names_topics_of_the_right_type(start, planner, model) -> None:
    """Not the node's own outputs, nor a topic to which nobody publishes."""
    planner.node.create_publisher(Image, "/front/image_raw", 1)
    planner.node.create_subscription(Image, "/front/image", print, 1)
    node = start("-r", "image:=/frnt/image_raw", model=model, provider="cpu", image_timeout=1)
    awaited = "expected on /frnt/image_raw (sensor_msgs/msg/Image; nobody publishes there)."
    hears_silence(node, planner, f"{awaited} Remap image to one of that type: /front/image_raw, /image.")


def test_silence_tells_of_compressed_images(start, planner, model) -> None:
    planner.node.destroy_publisher(planner.camera)
    planner.node.create_publisher(CompressedImage, "/front/compressed", 1)
    node = start(model=model, provider="cpu", image_timeout=1.0)
    hears_silence(node, planner, "No topic has that type; with image_transport:=compressed: /front/compressed.")


def test_silence_tells_of_the_other_transport(start, planner, model) -> None:
    planner.node.create_publisher(CompressedImage, "/front/compressed", 1)
    node = start("-r", "image:=/front/compressed", model=model, provider="cpu", image_timeout=1.0)
    hears_silence(node, planner, "of sensor_msgs/msg/CompressedImage). Set image_transport to compressed.")


def test_silence_tells_of_another_type(start, planner, model) -> None:
    planner.node.create_publisher(CameraInfo, "/front", 1)
    node = start("-r", "image:=/front", model=model, provider="cpu", image_timeout=1.0)
    similar = "Remap image to one of that type: /image."
    hears_silence(node, planner, f"1 publisher(s) of sensor_msgs/msg/CameraInfo). {similar}")


def test_no_silence_is_reported_while_images_come_or_none_are_wanted(start, planner, model) -> None:
    node = start(model=model, provider="cpu", image_timeout=0.0)
    node.wait_for("Waiting for images")
    assert planner.set_parameter("enabled", "false").successful
    assert planner.set_parameter("image_timeout", "1").successful
    planner.wait_for_camera_link()
    found = [planner.diagnostics() for _ in range(3)]
    assert [values["message"] for values in found] == ["disabled"] * 3
    assert not node.logged("No image has arrived")
