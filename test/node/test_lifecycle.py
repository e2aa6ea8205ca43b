# SPDX-License-Identifier: Apache-2.0
"""The states that `ros2 lifecycle` moves the node through, over its services, in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node_process import image, pixels, scene, slow_scene, wait_until, weighted_probability, write_weighted_model

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
SHUTDOWN = Transition.TRANSITION_ACTIVE_SHUTDOWN


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


def test_the_whole_way_and_back_twice(start, planner, model) -> None:
    node = start(model=model, provider="cpu", autostart=False)
    assert planner.state() == "unconfigured"
    assert planner.diagnostics()["model"] == "none"
    for _ in range(2):
        assert not planner.node.count_publishers("/road_seg/mask")
        assert planner.change_state(CONFIGURE)
        assert planner.state() == "inactive"
        assert not planner.node.count_subscribers("/image")
        assert planner.change_state(ACTIVATE)
        planner.listen("probability")
        planner.wait_for_camera_link()
        answer = planner.ask(image(scene()))["probability"]
        np.testing.assert_array_equal(pixels(answer), weighted_probability(scene()))
        assert planner.change_state(DEACTIVATE)
        wait_until(lambda: not planner.node.count_subscribers("/image"), "the subscription to end")
        assert planner.diagnostics()["model"] == "weighted"
        assert planner.change_state(CLEANUP)
        wait_until(lambda: not planner.node.count_publishers("/road_seg/probability"), "the publisher to end")
        assert planner.diagnostics()["model"] == "none"
    assert node.stop() == 0
    assert "Traceback" not in node.log


def test_every_frame_is_accounted_for_over_deactivation(start, planner, tmp_path) -> None:
    """The one in work is answered, the one that waits behind it is counted, and nothing is answered afterwards."""
    start(model=write_weighted_model(tmp_path / "slow.onnx", work=25, least=255), provider="cpu")
    planner.listen("mask")
    planner.wait_for_camera_link()
    planner.ask(image(scene()))
    before = planner.counts(lambda counts: counts["pending"] == 0)
    # Stopped and started between frames, until it once happens while one waits.
    while True:
        for _ in range(3):
            planner.publish(planner.stamp(image(slow_scene())))
        planner.counts(lambda counts, seen=before: counts["received"] > seen["received"])
        assert planner.change_state(DEACTIVATE)
        after = planner.counts(lambda counts: True)
        assert after["pending"] == 0
        if after["answered"] > before["answered"]:
            break
        assert planner.change_state(ACTIVATE)
        planner.wait_for_camera_link()
    masks = len(planner.received["mask"])
    planner.publish(planner.stamp(image(scene())))
    assert planner.counts(lambda counts: True)["received"] == after["received"]
    assert len(planner.received["mask"]) == masks


def test_what_cannot_be_configured_stays_unconfigured_and_says_why(start, planner, tmp_path) -> None:
    path = tmp_path / "late.onnx"
    path.write_bytes(b"this is no model " * 1000)
    node = start(model=path, provider="cpu", autostart=False)
    assert not planner.change_state(CONFIGURE)
    assert planner.state() == "unconfigured"
    node.wait_for("The node could not be configured")
    assert str(path) in node.lines[-1]
    found = planner.diagnostics()
    assert (found["level"], found["state"]) == ("ERROR", "unconfigured")
    assert str(path) in found["message"]
    write_weighted_model(path)
    assert planner.change_state(CONFIGURE)
    assert planner.change_state(ACTIVATE)
    assert planner.diagnostics()["level"] == "OK"
    assert "Traceback" not in node.log


@pytest.mark.parametrize("topic", ["image", "camera_info"])
def test_what_cannot_be_activated_stays_inactive_and_says_why(start, planner, model, topic: str) -> None:
    wrong = f"qos_overrides./{topic}.subscription.reliability:=perfect"
    node = start("-p", wrong, model=model, provider="cpu", autostart=False)
    assert planner.change_state(CONFIGURE)
    assert not planner.change_state(ACTIVATE)
    assert planner.state() == "inactive"
    node.wait_for("The node could not be activated: The topic ")
    assert node.logged(f"{topic} cannot be subscribed to")
    for left in ("/image", "/camera_info"):
        wait_until(lambda left=left: not planner.node.count_subscribers(left), f"nothing of {left} to be left")
    assert planner.diagnostics()["level"] == "ERROR"
    assert planner.change_state(CLEANUP)
    assert planner.diagnostics()["level"] == "OK"


def test_a_transition_that_the_state_does_not_have_changes_nothing(start, planner, model) -> None:
    node = start(model=model, provider="cpu")
    node.wait_for("Waiting for images")
    for transition in (CONFIGURE, ACTIVATE, CLEANUP, 99, 255):
        assert not planner.change_state(transition)
    assert planner.state() == "active"
    node.wait_for("The node is active, from where there is no transition 99.")
    planner.listen("mask")
    planner.wait_for_camera_link()
    planner.ask(image(scene()))


def test_shut_down_it_answers_nothing_and_ends_on_a_signal(start, planner, model) -> None:
    node = start(model=model, provider="cpu")
    node.wait_for("Waiting for images")
    assert planner.change_state(SHUTDOWN)
    assert planner.state() == "finalized"
    wait_until(lambda: not planner.node.count_subscribers("/image"), "the subscription to end")
    assert node.stop() == 0
    assert "Traceback" not in node.log
