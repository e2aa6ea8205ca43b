# SPDX-License-Identifier: Apache-2.0
"""What a robot's network may throw at the node: all of it at one running node, or one for each image_transport.

After each the node goes on, has said once what was wrong and counted it, has lost no frame from its accounts, and
answers the next good frame right. docs/hostile_inputs.md tells what it does about each.
"""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_process import (
    PATIENCE,
    REPOSITORY,
    NodeProcess,
    Planner,
    any_domain,
    image,
    pixels,
    scene,
    wait_until,
    weighted_probability,
    write_weighted_model,
)
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from tiny_model import edit, write_tiny_model

SEEDS = itertools.count(100)


@dataclass
class Rig:
    """A node with the planner that plays camera, and the model file that it runs."""

    node: NodeProcess
    planner: Planner
    model: Path
    good: Callable[[int], Image | CompressedImage]  # an image of scene(seed=...)
    counts: dict[str, int]  # of frames, as last heard while none was pending

    def assert_goes_on(self) -> dict[str, int]:
        """The next good frame is answered right, and none is without its fate. Returns the counts since last time."""
        seed = next(SEEDS)
        answer = self.planner.ask(self.good(seed))["probability"]
        np.testing.assert_array_equal(pixels(answer), weighted_probability(scene(seed=seed)))
        before = self.counts
        self.counts = self.planner.counts(lambda counts: counts["pending"] == 0)
        assert self.counts["inference error"] == 0
        assert "Traceback" not in self.node.log
        return {fate: count - before[fate] for fate, count in self.counts.items()}

    def reload(self) -> Trigger.Response:
        return self.planner.call(Trigger, "reload_model", Trigger.Request())


def png(seed: int) -> CompressedImage:
    return coded(cv2.imencode(".png", scene(seed=seed))[1].tobytes())


def running(folder: Path, transport: str) -> Iterator[Rig]:
    compressed = transport == "compressed"
    domain, model = any_domain(), write_weighted_model(folder / "weighted.onnx")
    node = NodeProcess(domain, model=model, provider="cpu", image_transport=transport)
    planner = Planner(domain, compressed=compressed)
    try:
        node.wait_for("Waiting for images")
        planner.listen("probability")
        planner.wait_for_camera_link()
        counts = planner.counts(lambda counts: counts["received"] == 0)
        yield Rig(node, planner, model, png if compressed else lambda seed: image(scene(seed=seed)), counts)
    finally:
        planner.close()
        assert node.stop() == 0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from running(tmp_path_factory.mktemp("raw"), "raw")


@pytest.fixture(scope="module")
def compressed_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from running(tmp_path_factory.mktemp("compressed"), "compressed")


def changed(**fields: object) -> Image:
    """A good image but for `fields`."""
    msg = image(scene())
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


def coded(data: bytes, format: str = "bgr8; png compressed bgr8") -> CompressedImage:
    msg = CompressedImage(format=format)
    msg.data.frombytes(data)
    return msg


def wire(old: bytes, new: bytes) -> bytes:
    """A good image as it goes over the wire, but for some of its bytes."""
    msg = changed()
    msg.header.frame_id = "front_camera"
    data = serialize_message(msg)
    assert data.count(old) == 1
    return data.replace(old, new)


LENGTH = (96 * 64 * 3).to_bytes(4, "little")
MOST = 2**32 - 1
JPEG, PNG = (cv2.imencode(suffix, scene())[1].tobytes() for suffix in (".jpg", ".png"))
FRAME_HEADER = JPEG.index(b"\xff\xc0") + 5  # of the JPEG: where its height and width are

# What is sent, and what the log has to say of it.
MALFORMED: dict[str, tuple[Image | bytes, str]] = {
    "too few bytes": (changed(data=b"\0" * 100), "must hold 18432 bytes, this one holds 100"),
    "no bytes": (changed(data=b""), "must hold 18432 bytes, this one holds 0"),
    "one byte too many": (changed(data=b"\0" * 18433), "must hold 18432 bytes, this one holds 18433"),
    "no rows": (changed(height=0), "of 96x0 bgr8 has no pixels"),
    "no columns": (changed(width=0), "of 0x64 bgr8 has no pixels"),
    "nothing but a header": (Image(), "encoding '' cannot be read"),
    "65535x65535 with few bytes": (changed(width=65535, height=65535), "of 65535x65535 bgr8 is larger than"),
    "as wide as a number can say": (changed(width=MOST), f"of {MOST}x64 bgr8 is larger than"),
    "as high as a number can say": (changed(height=MOST), f"of 96x{MOST} bgr8 is larger than"),
    "a row shorter than its pixels": (changed(step=287), "needs rows of 288 bytes or more, its step says 287"),
    "rows of no bytes": (changed(step=0), "its step says 0"),
    "rows of 4 GiB": (changed(step=MOST), f"with step {MOST} must hold"),
    "an encoding that does not exist": (changed(encoding="8UC5"), "encoding '8UC5' cannot be read"),
    "distances for colours": (changed(encoding="32FC1"), "encoding '32FC1' cannot be read"),
    "an encoding of 100,000 letters": (changed(encoding="x" * 100_000), f"encoding '{'x' * 40}' cannot be read"),
    "an encoding that rings the bell": (changed(encoding="\x07\x1b[2J"), "encoding '??[2J' cannot be read"),
    "an encoding that is no UTF-8": (wire(b"bgr8\0", b"\xff\xfe\xfd8\0"), "encoding '???8' cannot be read"),
    "an odd size where pairs are needed": (changed(encoding="nv12", height=63), "an even number of rows and columns"),
    "16 bits announced, 8 sent": (changed(encoding="rgb16"), "needs rows of 576 bytes or more, its step says 288"),
}

MALFORMED_COMPRESSED: dict[str, tuple[CompressedImage, str]] = {
    "a JPEG cut in the middle": (coded(JPEG[: len(JPEG) // 2], "jpeg"), "JPEG image of 96x64 is cut short"),
    "a JPEG cut in its header": (coded(JPEG[:30], "jpeg"), "JPEG image is cut short in its header: 30 bytes"),
    "a PNG cut in the middle": (coded(PNG[: len(PNG) // 2]), "PNG image of 96x64 is cut short"),
    "a PNG with damaged pixels": (coded(PNG[:5000] + b"x" * 50 + PNG[5050:]), "PNG image of 96x64 cannot be decoded"),
    "a JPEG of 65535x65535": (
        coded(JPEG[:FRAME_HEADER] + b"\xff\xff\xff\xff" + JPEG[FRAME_HEADER + 4 :], "jpeg"),
        "JPEG image of 65535x65535 claims more than",
    ),
    "a PNG of 4 billion columns and rows": (
        coded(PNG[:16] + b"\xff" * 8 + PNG[24:]),
        f"PNG image of {MOST}x{MOST} claims more than",
    ),
    "a PNG of no columns": (coded(PNG[:16] + bytes(4) + PNG[20:]), "PNG image of 0x64 has no pixels"),
    "a small bomb": (coded(PNG[:16] + b"\0\0\x20\0\0\0\x20\0" + PNG[24:]), "PNG image of 8192x8192"),
    "no data": (coded(b""), "compressed image is empty"),
    "a text": (coded(b"this is no picture"), "is no JPEG or PNG: it begins with 74 68 69 73"),
    "a GIF": (coded(b"GIF89a" + bytes(200), "gif"), "is no JPEG or PNG: it begins with 47 49 46 38"),
    "distances, compressed": (coded(PNG, "16UC1; compressedDepth png"), "holds distances, no colours"),
}


def assert_said_and_counted(rig: Rig, msg: Image | CompressedImage | bytes, words: str) -> None:
    said = sum(words in line for line in rig.node.lines)
    for _ in range(10):
        rig.planner.publish(msg)
        time.sleep(0.02)  # or one would only supersede the other
    rig.node.wait_for(words)
    counted = rig.assert_goes_on()
    assert counted["malformed"] >= 2
    assert counted["answered"] >= 1
    assert sum(words in line for line in rig.node.lines) == said + 1, rig.node.log


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_image_is_named_once_and_counted(rig: Rig, what: str) -> None:
    assert_said_and_counted(rig, *MALFORMED[what])


@pytest.mark.parametrize("what", MALFORMED_COMPRESSED)
def test_a_malformed_compressed_image_is_named_once_and_counted(compressed_rig: Rig, what: str) -> None:
    assert_said_and_counted(compressed_rig, *MALFORMED_COMPRESSED[what])


# Images that are no worse for it. What their answer has to be, test_stamps.py and test_node.py tell of others.
ODD: dict[str, Image | bytes] = {
    "a byte order that is no order": changed(is_bigendian=255),
    "no frame_id": changed(),
    "a frame_id of 100,000 letters": changed(header=Header(frame_id="x" * 100_000)),
    "a frame_id that is no UTF-8": wire(b"front_camera\0", b"front\xff\xfeamera\0"),
    "a frame_id with a zero in it": wire(b"front_camera\0", b"front\0camera\0"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_image_is_answered(rig: Rig, what: str) -> None:
    answers = rig.planner.received["probability"]
    answers.clear()

    def answered() -> bool:
        rig.planner.publish(ODD[what])
        return bool(answers)

    wait_until(answered, "an answer")
    np.testing.assert_array_equal(pixels(answers[-1]), weighted_probability(scene()))
    assert rig.assert_goes_on()["malformed"] == 0


# Bytes that the middleware cannot make an image of, and keeps to itself: no frame is received.
NO_MESSAGE: dict[str, bytes] = {
    "rubbish for a message": b"\0\1\0\0" + b"\xff" * 300,
    "a message cut in its header": wire(b"bgr8\0", b"bgr8\0")[:20],
    "a message cut in its pixels": wire(b"bgr8\0", b"bgr8\0")[:9000],
    "a message of no bytes": b"",
    "a message of an unknown coding": b"\x77\x77\x77\x77" + wire(b"bgr8\0", b"bgr8\0")[4:],
    "a length of pixels past the end": wire(LENGTH, (2**31).to_bytes(4, "little")),
}


@pytest.mark.parametrize("what", NO_MESSAGE)
def test_what_is_no_message_harms_nothing(rig: Rig, what: str) -> None:
    for _ in range(20):
        rig.planner.publish(NO_MESSAGE[what])
    rig.assert_goes_on()


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
    for turn in range(40):
        for number, camera in enumerate(cameras):
            bgr = scene(40 + 10 * number, 30 + turn, seed=turn)
            msg = rig.planner.stamp(image(bgr))
            sent[msg.header.stamp.sec] = bgr
            camera.publish(msg)
        time.sleep(0.005)
    rig.planner.counts(lambda counts: counts["pending"] == 0)
    answers = [answer for answer in rig.planner.received["probability"] if answer.header.stamp.sec in sent]
    assert answers
    for answer in answers:
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


@pytest.mark.parametrize("what", STORMS)
def test_the_node_outlives_it(rig: Rig, what: str) -> None:
    STORMS[what](rig)
    rig.assert_goes_on()


def test_the_table_of_hostile_inputs_is_complete() -> None:
    rows = re.findall(r"^\| ([^|]+?) +\|", (REPOSITORY / "docs" / "hostile_inputs.md").read_text(), re.MULTILINE)
    told = set(rows) - {"input"} - {row for row in rows if set(row) == {"-"}}
    assert told == {*MALFORMED, *MALFORMED_COMPRESSED, *ODD, *NO_MESSAGE, *STORMS}
