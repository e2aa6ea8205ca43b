# SPDX-License-Identifier: Apache-2.0
"""The node as a robot has it: its own process, real DDS, this process as camera and planner."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import (
    NodeProcess,
    Planner,
    image,
    node_and_planner,
    pixels,
    scene,
    slow_scene,
    wait_until,
    weighted_probability,
    write_weighted_model,
)
from sensor_msgs.msg import Image

from road_seg_node.inference import RoadSegmenter, road_mask
from road_seg_node.overlay import tint

OUTPUTS = ("mask", "probability", "overlay")
THRESHOLD = 0.4  # the test model's own


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx", threshold=THRESHOLD)


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good part of a second for each slow scene."""
    return write_weighted_model(tmp_path_factory.mktemp("model") / "slow.onnx", work=25, least=255)


@pytest.fixture(scope="module")
def running(model: Path) -> Iterator[tuple[NodeProcess, Planner]]:
    """A node and a planner that listens to every output; the tests that use it leave it as they found it."""
    with node_and_planner(*OUTPUTS, model=model, provider="cpu") as both:
        yield both


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "rgba8", "mono8"])
def test_published_bytes_are_the_segmenters(running, model, encoding: str, padding: int) -> None:
    bgr = scene(95, 61)
    if encoding == "mono8":
        bgr = np.repeat(bgr[:, :, :1], 3, axis=2)
    answers = running[1].ask(image(bgr, encoding, padding))
    probability = RoadSegmenter(model, "cpu").probability(bgr)
    mask = road_mask(probability, THRESHOLD)
    np.testing.assert_array_equal(probability, weighted_probability(bgr))
    np.testing.assert_array_equal(pixels(answers["probability"]), probability)
    np.testing.assert_array_equal(pixels(answers["mask"]), mask)
    np.testing.assert_array_equal(pixels(answers["overlay"]), tint(bgr, mask))
    assert set(np.unique(pixels(answers["mask"]))) == {0, 255}


def test_answers_carry_the_images_stamp_frame_and_size(running) -> None:
    sent = image(scene(101, 47))
    answers = running[1].ask(sent)
    assert {output: answer.encoding for output, answer in answers.items()} == {
        "mask": "mono8",
        "probability": "mono8",
        "overlay": "bgr8",
    }
    for answer in answers.values():
        assert answer.header == sent.header
        assert (answer.width, answer.height) == (101, 47)
        assert not answer.is_bigendian


def test_size_and_encoding_may_change_with_every_frame(running) -> None:
    for turn, (width, height) in enumerate([(96, 64), (95, 64), (96, 64), (1, 1), (320, 200), (33, 128)] * 2):
        bgr = scene(width, height, seed=turn)
        answer = running[1].ask(image(bgr, "rgb8" if turn % 2 else "bgr8", padding=turn))["probability"]
        np.testing.assert_array_equal(pixels(answer), weighted_probability(bgr))


def test_newest_frame_wins_when_frames_come_too_fast(start, planner, slow_model) -> None:
    """Some may be lost before they are received, which the counts do not tell, and any may be overtaken."""
    start(model=slow_model, provider="cpu")
    planner.listen("probability")
    planner.wait_for_camera_link()
    sent: dict[int, np.ndarray] = {}  # the picture, by the second of its stamp

    def showing(picture: np.ndarray) -> Image:
        msg = planner.stamp(image(picture))
        sent[msg.header.stamp.sec] = picture
        return msg

    planner.ask_as_stamped(showing(scene()))
    before = planner.counts(accounted_for)
    answers = planner.received["probability"]
    answers.clear()
    planner.counts(in_work, sending=lambda: showing(slow_scene()))
    for seed in range(30):
        planner.publish(showing(scene(seed=seed)))
        time.sleep(0.01)
    newest = showing(scene(seed=30))
    planner.ask_as_stamped(newest)
    after = planner.counts(accounted_for)
    wait_until(lambda: len(answers) == after["answered"] - before["answered"], "the answers")
    answered = [answer.header.stamp.sec for answer in answers]
    assert answered[-1] == newest.header.stamp.sec
    once = answered[: answered.index(newest.header.stamp.sec)]  # which alone may have been sent again
    assert once == sorted(set(once)), "in order, none twice"
    for answer in answers:
        np.testing.assert_array_equal(pixels(answer), weighted_probability(sent[answer.header.stamp.sec]))
    counted = {fate: after[fate] - before[fate] for fate in ("received", "answered", "superseded")}
    assert counted["superseded"] > 0
    assert counted["received"] == counted["answered"] + counted["superseded"]


def accounted_for(counts: dict[str, int]) -> bool:
    """Whether every frame received has its fate, so none is in work."""
    return counts["pending"] == 0


def in_work(counts: dict[str, int]) -> bool:
    return counts["pending"] > 0


def test_parameters_answer_while_a_frame_is_in_work(start, planner, tmp_path) -> None:
    """The executor stays free: the service answers before a frame that takes minutes is done."""
    node = start(model=write_weighted_model(tmp_path / "very_slow.onnx", work=10_000, least=255), provider="cpu")
    planner.listen("mask")
    planner.wait_for_camera_link()
    planner.counts(in_work, sending=lambda: planner.stamp(image(slow_scene())))
    assert planner.set_parameter("threshold", "0.25").successful
    assert not planner.received["mask"], "the frame was done first, which shows nothing: give it more work"
    node.send(signal.SIGKILL)  # or it would finish the frame


def test_nothing_is_inferred_while_nobody_listens(start, planner, model) -> None:
    start(model=model, provider="cpu")
    planner.wait_for_camera_link()
    counts = planner.counts(
        lambda counts: counts["unwatched"] + counts["superseded"] >= 3,
        sending=lambda: planner.stamp(image(scene())),
    )
    assert counts["answered"] == 0
    assert planner.diagnostics()["infer p50 [ms]"] == "-"
    planner.listen("overlay")
    planner.ask(image(scene()))
    assert planner.counts(lambda counts: counts["answered"] > 0)["answered"] >= 1


def test_diagnostics_name_the_provider_and_the_model(running) -> None:
    running[1].ask(image(scene()))
    values = running[1].diagnostics()
    assert values["name"] == "road_seg: segmentation"
    assert values["provider"] == "cpu"
    assert values["model"] == "weighted"
    assert values["checkpoint"] == "0" * 12
    assert float(values["infer p50 [ms]"]) > 0


def test_the_start_is_logged(running, model) -> None:
    node, _ = running
    assert node.logged("Model weighted (grey is road) on cpu in fp32, threshold 0.400; its golden answer differs by 0")
    assert node.logged("Waiting for images on /image; answers on /road_seg/mask, /road_seg/probability")


def test_threshold_changes_while_running(running) -> None:
    _, planner = running
    bgr = scene()
    probability = weighted_probability(bgr)
    try:
        assert planner.set_parameter("threshold", "0.7").successful
        mask = pixels(planner.ask(image(bgr))["mask"])
        np.testing.assert_array_equal(mask, road_mask(probability, 0.7))
        for value in ("1.5", "-0.5", ".nan"):
            result = planner.set_parameter("threshold", value)
            assert not result.successful
            assert "threshold" in result.reason
        assert "must be a number from 0.0 to 1.0 or -1.0, not -0.5" in planner.set_parameter("threshold", "-0.5").reason
        np.testing.assert_array_equal(pixels(planner.ask(image(bgr))["mask"]), mask)
    finally:
        assert planner.set_parameter("threshold", "-1.0").successful
    mask = pixels(planner.ask(image(bgr))["mask"])
    np.testing.assert_array_equal(mask, road_mask(probability, THRESHOLD))


@pytest.mark.parametrize("name", ["model", "provider"])
def test_what_is_loaded_at_start_cannot_be_changed(running, name: str) -> None:
    assert not running[1].set_parameter(name, "cpu").successful


def test_silence_is_reported_with_the_topic_awaited(start, model) -> None:
    node = start("-r", "image:=/front/image_raw", model=model, provider="cpu")
    node.wait_for("expected on /front/image_raw (sensor_msgs/msg/Image; nobody publishes there)")
    assert node.stop() == 0


def test_names_follow_the_namespace(start, domain, model) -> None:
    start("-r", "__ns:=/robot", "-r", "image:=/image", model=model, provider="cpu")
    planner = Planner(domain, "robot/road_seg")
    try:
        planner.listen("mask")
        planner.wait_for_camera_link()
        planner.ask(image(scene()))
    finally:
        planner.close()


def test_a_model_that_cannot_be_used_ends_the_node_with_a_sentence(start, tmp_path) -> None:
    missing, garbage = tmp_path / "missing.onnx", tmp_path / "garbage.onnx"
    garbage.write_bytes(b"this is no model " * 1000)
    for path in (missing, garbage):
        node = start(model=path, provider="cpu")
        assert node.exit_code() == 2
        assert str(path) in node.lines[-1]
        assert "FATAL" in node.lines[-1]
        assert "Traceback" not in node.log


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has an NVIDIA driver")
def test_cuda_asked_for_where_there_is_none_ends_the_node(start, model) -> None:
    node = start(model=model, provider="cuda")
    assert node.exit_code() == 2
    assert "cuda" in node.lines[-1]
    assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["-p", "provider:=gpu"],
            "The parameter provider must be one of auto, tensorrt, cuda, openvino, cpu, not 'gpu'",
        ),
        (
            ["-p", "threshold:=1.5"],
            "The parameter threshold must be a number from 0.0 to 1.0 or -1.0, not 1.5",
        ),
        (["-p", "threshold:=high"], "The parameter threshold must be a number"),
        (["-p", "model:=3"], "The parameter model must be text, not 3"),
        (["-p", "qos_overrides./image.subscription.reliability:=perfect"], "perfect"),
        (["--params-file", "/no/such/file.yaml"], "The command line cannot be used"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_a_sentence(start, model, arguments: list[str], sentence: str) -> None:
    given = {} if "model:=3" in arguments else {"model": model}
    node = start(*arguments, **given)
    assert node.exit_code() == 2
    assert sentence in node.lines[-1]
    assert "Traceback" not in node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_idle_node_cleanly(start, model, number: signal.Signals) -> None:
    node = start(model=model, provider="cpu")
    node.wait_for("Waiting for images")
    node.send(number)
    assert node.exit_code() == 0
    assert "Traceback" not in node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_inference_ends_the_node_cleanly(start, planner, slow_model, number) -> None:
    node = start(model=slow_model, provider="cpu")
    planner.listen("mask")
    planner.wait_for_camera_link()
    planner.ask(image(scene()))
    planner.counts(in_work, sending=lambda: planner.stamp(image(slow_scene())))
    node.send(number)
    time.sleep(0.05)
    node.send(number)  # an impatient second one
    assert node.exit_code() == 0
    assert "Traceback" not in node.log
    assert "ERROR" not in node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_the_node_cleanly(start, planner, tmp_path, number) -> None:
    """At once, though loading goes on for longer than the test waits; till then diagnostics say what it is doing."""
    node = start(model=write_weighted_model(tmp_path / "slow.onnx", work=10_000), provider="cpu")
    wait_until(lambda: planner.diagnostics()["state"] == "configuring", "diagnostics while the model loads")
    node.send(number)
    assert node.exit_code() == 0
    assert "Traceback" not in node.log
    assert "could not be" not in node.log
    assert not node.logged("Waiting for images"), "the model was loaded first, which shows nothing: give it more work"


def test_after_a_signal_of_any_kind_a_new_node_is_back_in_service(start, planner, model) -> None:
    """While the planner and its camera stay, which have to find each of the new ones."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None):
        node = start(model=model, provider="cpu")
        if not planner.received:
            planner.listen("mask")
        planner.ask(image(scene()))
        assert not Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text(), "nothing that it could leave behind"
        if number:
            node.send(number)
            assert node.exit_code() == (-number if number == signal.SIGKILL else 0)
