# SPDX-License-Identifier: Apache-2.0
"""What a robot's network may do to the node for a while, by what it is; each is called with a Rig."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from hostile_messages import MOST
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_process import PATIENCE, image, pixels, scene, wait_until, weighted_probability
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rig import Rig, png
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from tiny_model import edit, write_tiny_model


@contextmanager
def other_participant(rig: Rig) -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=rig.planner.domain)
    node = rclpy.create_node("other_camera", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def four_cameras_at_once(rig: Rig) -> None:
    """Of different sizes, on one topic; each answer has to be that of its own image."""
    node, sent = rig.planner.node, {}
    cameras = [node.create_publisher(Image, "image", qos_profile_sensor_data) for _ in range(4)]
    for camera in cameras:
        wait_until(camera.get_subscription_count, "the node to subscribe")
    turns = itertools.count()

    def answers() -> list[Image]:
        return [answer for answer in rig.planner.received["probability"] if answer.header.stamp.sec in sent]

    def forty_turns() -> bool:
        turn = next(turns)
        for number, camera in enumerate(cameras):
            bgr = scene(40 + 10 * number, 30 + turn, seed=turn)
            msg = rig.planner.stamp(image(bgr))
            sent[msg.header.stamp.sec] = bgr
            camera.publish(msg)
        return turn >= 40 and bool(answers())

    wait_until(forty_turns, "an answer")
    rig.planner.counts(lambda counts: counts["pending"] == 0)
    for answer in answers():
        np.testing.assert_array_equal(pixels(answer), weighted_probability(sent[answer.header.stamp.sec]))
    for camera in cameras:
        node.destroy_publisher(camera)


def a_camera_that_restarts(rig: Rig) -> None:
    for _ in range(5):
        with other_participant(rig) as node:
            camera = node.create_publisher(Image, "image", qos_profile_sensor_data)
            wait_until(camera.get_subscription_count, "the node to subscribe")
            for _ in range(5):
                camera.publish(rig.planner.stamp(image(scene())))


def a_burst_of_500_images(rig: Rig) -> None:
    msg = image(scene())
    for _ in range(500):
        rig.planner.publish(rig.planner.stamp(msg))


def an_image_of_another_type(rig: Rig) -> None:
    with other_participant(rig) as node:
        camera = node.create_publisher(CompressedImage, "image", qos_profile_sensor_data)
        for seed in range(20):
            camera.publish(png(seed))
            time.sleep(0.02)


def a_camera_info_of_rubbish(rig: Rig) -> None:
    received: list[CameraInfo] = []
    listener = rig.planner.node.create_subscription(CameraInfo, "/road_seg/camera_info", received.append, 10)
    camera = rig.planner.node.create_publisher(CameraInfo, "camera_info", 10)
    wait_until(camera.get_subscription_count, "the node to subscribe")
    rubbish = CameraInfo(width=MOST, height=0, distortion_model="\x07" * 1000, d=[float("nan")] * 1000)
    rubbish.k = [float("inf")] * 9

    def republished() -> bool:
        camera.publish(rubbish)
        rig.planner.ask(image(scene()))
        return any(info.distortion_model == rubbish.distortion_model for info in received)

    wait_until(republished, "the camera_info")
    rig.planner.node.destroy_publisher(camera)
    rig.planner.node.destroy_subscription(listener)


def a_clock_that_runs_wild(rig: Rig) -> None:
    clock = rig.planner.node.create_publisher(Clock, "/clock", 10)
    for second in (2**31 - 1, -(2**31), 0, -1, 5, 1):
        assert rig.planner.set_parameter("use_sim_time", "true").successful
        wait_until(clock.get_subscription_count, "the node to subscribe to /clock")
        msg = Clock()
        msg.clock.sec = second
        clock.publish(msg)
        rig.planner.ask(image(scene()))
        assert rig.planner.set_parameter("use_sim_time", "false").successful
    rig.planner.node.destroy_publisher(clock)


def bad_model(rig: Rig, spoil: Callable[[Path], object], words: str) -> None:
    """What reload says of a file spoilt; afterwards the good one is there again."""
    whole = rig.model.read_bytes()
    spoil(rig.model)
    try:
        found = rig.reload()
        assert not found.success
        assert re.search(words, found.message), found.message
        rig.planner.ask(image(scene()))
    finally:
        if rig.model.is_dir():
            shutil.rmtree(rig.model)
        rig.model.write_bytes(whole)
    assert rig.reload().success


def a_model_file_that_is_gone(rig: Rig) -> None:
    bad_model(rig, Path.unlink, "no such file|does not exist|cannot be read|There is no")


def a_model_file_of_rubbish(rig: Rig) -> None:
    bad_model(rig, lambda path: path.write_bytes(b"this is no model " * 1000), str(rig.model))


def a_model_file_cut_in_the_middle(rig: Rig) -> None:
    bad_model(rig, lambda path: path.write_bytes(path.read_bytes()[:1000]), str(rig.model))


def a_model_file_with_one_bit_flipped(rig: Rig) -> None:
    data = bytearray(rig.model.read_bytes())
    data[len(data) // 2] ^= 1
    bad_model(rig, lambda path: path.write_bytes(data), str(rig.model))


def a_folder_for_a_model_file(rig: Rig) -> None:
    bad_model(rig, lambda path: (path.unlink(), path.mkdir()), str(rig.model))


def a_model_of_another_contract(rig: Rig) -> None:
    bad_model(
        rig,
        lambda path: edit(write_tiny_model(path), b"road_seg.contract\x12\x011", b"road_seg.contract\x12\x019"),
        "9",
    )


def a_storm_of_parameters(rig: Rig) -> None:
    """A thousand, ten at a time: right ones, wrong ones, of wrong types, and unknown ones."""
    kinds = [
        ("threshold", ParameterValue(type=3, double_value=0.3), True),
        ("threshold", ParameterValue(type=2, integer_value=1), True),
        ("threshold", ParameterValue(type=3, double_value=float("nan")), False),
        ("threshold", ParameterValue(type=4, string_value="high"), False),
        ("threshold", ParameterValue(), False),
        ("overlay_color", ParameterValue(type=4, string_value="#zzzzzz"), False),
        ("max_rate", ParameterValue(type=3, double_value=-1.0), False),
        ("image_timeout", ParameterValue(type=3, double_value=1e300), False),
        ("model", ParameterValue(type=4, string_value="/nowhere"), False),
        ("no_such_parameter", ParameterValue(type=1, bool_value=True), False),
    ]
    client = rig.planner.node.create_client(SetParameters, "/road_seg/set_parameters")
    assert client.wait_for_service(PATIENCE)
    for _ in range(100):
        requests = [SetParameters.Request(parameters=[Parameter(name=name, value=value)]) for name, value, _ in kinds]
        futures = [client.call_async(request) for request in requests]
        wait_until(lambda futures=futures: all(future.done() for future in futures), "the parameter service")
        assert [future.result().results[0].successful for future in futures] == [right for _, _, right in kinds]
    assert rig.planner.set_parameter("threshold", "-1.0").successful
    rig.planner.node.destroy_client(client)


def a_parameter_of_no_type(rig: Rig) -> None:
    """rclpy cannot read it, so that nothing is answered; the node says so and goes on."""
    client = rig.planner.node.create_client(SetParameters, "/road_seg/set_parameters")
    assert client.wait_for_service(PATIENCE)
    parameter = Parameter(name="threshold", value=ParameterValue(type=77))
    for _ in range(5):
        client.call_async(SetParameters.Request(parameters=[parameter]))
    sentence = "A request or message could not be worked on: ValueError: 77 is not"
    rig.node.wait_for(sentence)
    assert sum(sentence in line for line in rig.node.lines) == 1
    rig.planner.node.destroy_client(client)


def a_storm_of_set_enabled(rig: Rig) -> None:
    for turn in range(300):
        assert rig.planner.call(SetBool, "set_enabled", SetBool.Request(data=turn % 2 == 1)).success


def a_storm_of_reload_model(rig: Rig) -> None:
    """Forty, eight at a time: each is answered, by a model or by a sentence."""
    client = rig.planner.node.create_client(Trigger, "/road_seg/reload_model")
    assert client.wait_for_service(PATIENCE)
    for _ in range(5):
        futures = [client.call_async(Trigger.Request()) for _ in range(8)]
        wait_until(lambda futures=futures: all(future.done() for future in futures), "the reload service")
        answers = [future.result() for future in futures]
        assert any(answer.success for answer in answers)
        for answer in answers:
            assert "runs now" in answer.message if answer.success else "already" in answer.message
    rig.planner.node.destroy_client(client)


def transitions_that_do_not_exist(rig: Rig) -> None:
    for transition in (Transition(id=0), Transition(id=99), Transition(id=255), Transition(label="explode")):
        request = ChangeState.Request(transition=transition)
        assert not rig.planner.call(ChangeState, "change_state", request).success
    assert rig.planner.state() == "active"


def listeners_that_come_and_go(rig: Rig) -> None:
    """200 times on each output, while images come."""
    node, done = rig.planner.node, threading.Event()

    def camera() -> None:
        while not done.is_set():
            rig.planner.publish(rig.planner.stamp(image(scene())))
            time.sleep(0.01)

    thread = threading.Thread(target=camera)
    thread.start()
    try:
        for _ in range(200):
            listeners = [
                node.create_subscription(Image, f"/road_seg/{output}", lambda msg: None, 1)
                for output in ("mask", "overlay", "probability")
            ]
            for listener in listeners:
                node.destroy_subscription(listener)
    finally:
        done.set()
        thread.join()


STORMS = {
    storm.__name__.replace("_", " "): storm
    for storm in (
        four_cameras_at_once,
        a_camera_that_restarts,
        a_burst_of_500_images,
        an_image_of_another_type,
        a_camera_info_of_rubbish,
        a_clock_that_runs_wild,
        a_model_file_that_is_gone,
        a_model_file_of_rubbish,
        a_model_file_cut_in_the_middle,
        a_model_file_with_one_bit_flipped,
        a_folder_for_a_model_file,
        a_model_of_another_contract,
        a_storm_of_parameters,
        a_parameter_of_no_type,
        a_storm_of_set_enabled,
        a_storm_of_reload_model,
        transitions_that_do_not_exist,
        listeners_that_come_and_go,
    )
}
