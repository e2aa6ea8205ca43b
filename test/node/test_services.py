# SPDX-License-Identifier: Apache-2.0
"""`~/set_enabled`, `~/reload_model` and `watch_model`, on the running node over real DDS."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import (
    PATIENCE,
    NodeProcess,
    Planner,
    image,
    node_and_planner,
    pixels,
    scene,
    wait_until,
    weighted_probability,
    write_weighted_model,
)
from rcl_interfaces.srv import GetParameters
from std_srvs.srv import SetBool, Trigger
from tiny_model import expected_probability, write_tiny_model

from road_seg_node.inference import road_mask

THRESHOLD, NEW_THRESHOLD = 0.4, 0.75


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_weighted_model(tmp_path / "model.onnx", threshold=THRESHOLD)


@pytest.fixture
def running(path: Path) -> Iterator[tuple[NodeProcess, Planner]]:
    with node_and_planner("probability", "mask", model=path, provider="cpu") as (node, planner):
        planner.ask(image(scene()))
        yield node, planner


def replace(path: Path, write: object = write_tiny_model) -> None:
    """Exchanges the model file as the exporter does: beside it, then renamed."""
    write(path.with_suffix(".new"), threshold=NEW_THRESHOLD).replace(path)  # type: ignore[operator]


def reload(planner: Planner) -> Trigger.Response:
    return planner.call(Trigger, "reload_model", Trigger.Request())


def assert_answers(planner: Planner, new: bool) -> None:
    answers = planner.ask(image(scene()))
    probability = expected_probability(scene()) if new else weighted_probability(scene())
    np.testing.assert_array_equal(pixels(answers["probability"]), probability)
    mask = road_mask(probability, NEW_THRESHOLD if new else THRESHOLD)
    np.testing.assert_array_equal(pixels(answers["mask"]), mask)


def test_disabled_it_counts_the_frames_and_answers_none(running) -> None:
    _, planner = running
    before = planner.counts(lambda counts: counts["pending"] == 0)
    assert planner.call(SetBool, "set_enabled", SetBool.Request(data=False)).success
    after = planner.counts(lambda counts: counts["disabled"] >= 3, sending=lambda: planner.stamp(image(scene())))
    assert after["received"] - before["received"] == after["disabled"]
    assert after["answered"] == before["answered"]
    (value,) = planner.call(GetParameters, "get_parameters", GetParameters.Request(names=["enabled"])).values
    assert not value.bool_value
    said = planner.call(SetBool, "set_enabled", SetBool.Request(data=True))
    assert (said.success, said.message) == (True, "enabled is true; the node is active.")
    assert_answers(planner, new=False)


def test_a_new_model_is_taken_between_two_frames(running, path: Path) -> None:
    """While images come: each answer is the old model's with its threshold, or the new one's with its own."""
    node, planner = running
    replace(path)
    done = threading.Event()

    def camera() -> None:
        while not done.is_set():
            planner.publish(planner.stamp(image(scene())))
            time.sleep(0.01)

    thread = threading.Thread(target=camera)
    thread.start()
    try:
        found = reload(planner)
        seen = len(planner.received["mask"])
        wait_until(lambda: len(planner.received["mask"]) > seen + 3, "answers of the new model")
    finally:
        done.set()
        thread.join()
    assert found.success
    assert found.message.startswith("The model tiny, SHA-256 ")
    node.wait_for("Model tiny (grey is road) on cpu in fp32, threshold 0.750")
    old = road_mask(weighted_probability(scene()), THRESHOLD)
    new = road_mask(expected_probability(scene()), NEW_THRESHOLD)
    kinds = []
    for answer in planner.received["mask"]:
        kinds.append("old" if np.array_equal(pixels(answer), old) else "new")
        np.testing.assert_array_equal(pixels(answer), old if kinds[-1] == "old" else new)
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"old", "new"}
    assert planner.diagnostics()["model"] == "tiny"
    assert planner.counts(lambda counts: counts["pending"] == 0)["inference error"] == 0


def test_a_bad_file_leaves_the_old_model(running, path: Path) -> None:
    node, planner = running
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    for data in (b"this is no model " * 1000, bytes(damaged), None):
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        found = reload(planner)
        assert not found.success
        assert str(path) in found.message
        assert "the old one goes on" in found.message
        assert_answers(planner, new=False)
        wait_until(lambda said=found.message: planner.diagnostics()["message"] == said, "the reason in diagnostics")
    assert planner.diagnostics()["level"] == "WARN"
    replace(path)
    assert reload(planner).success
    assert_answers(planner, new=True)
    wait_until(lambda: planner.diagnostics()["level"] == "OK", "the reason to go")
    assert "Traceback" not in node.log


def test_the_node_answers_while_it_loads(running, path: Path, tmp_path: Path) -> None:
    """Frames and services, for as long as it takes; a second wish to load is refused with a sentence."""
    node, planner = running
    write_weighted_model(tmp_path / "slow.onnx", work=10_000, threshold=THRESHOLD).replace(path)
    clients = [planner.node.create_client(Trigger, "/road_seg/reload_model") for _ in range(2)]
    assert all(client.wait_for_service(PATIENCE) for client in clients)
    loading = clients[0].call_async(Trigger.Request())
    assert planner.set_parameter("threshold", "0.25").successful
    assert planner.set_parameter("threshold", "-1.0").successful
    second = clients[1].call_async(Trigger.Request())
    wait_until(second.done, "the second answer")
    assert_answers(planner, new=False)
    assert not loading.done(), "it was loaded first, which shows nothing: give it more work"
    assert not second.result().success
    assert "already" in second.result().message
    node.send(signal.SIGKILL)


def test_there_is_nothing_to_load_before_configure(start, planner, path: Path) -> None:
    start(model=path, provider="cpu", autostart=False)
    found = reload(planner)
    assert (found.success, found.message) == (False, "The node is unconfigured: configure loads the model.")


def test_a_watched_file_is_loaded_once_it_stands_still(running, path: Path) -> None:
    node, planner = running
    assert planner.set_parameter("watch_model", "true").successful
    path.write_bytes(b"this is no model " * 1000)
    node.wait_for("could not be loaded again")
    replace(path)
    node.wait_for("Model tiny")
    assert_answers(planner, new=True)
    planner.diagnostics(), planner.diagnostics(), planner.diagnostics()
    assert sum("could not be loaded again" in line for line in node.lines) == 1, "each file is tried once"
    assert sum("Model tiny" in line for line in node.lines) == 1


def test_a_signal_while_the_model_is_loaded_again_ends_the_node_cleanly(running, path: Path, tmp_path: Path) -> None:
    node, planner = running
    write_weighted_model(tmp_path / "slow.onnx", work=10_000).replace(path)
    client = planner.node.create_client(Trigger, "/road_seg/reload_model")
    assert client.wait_for_service(PATIENCE)
    client.call_async(Trigger.Request())
    planner.set_parameter("max_rate", "5")  # answered after the other was taken
    assert node.stop() == 0
    assert "Traceback" not in node.log
