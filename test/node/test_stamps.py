# SPDX-License-Identifier: Apache-2.0
"""Stamps and clocks that lie, jump or stand still, and the parameters that look at time: max_age and max_rate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from node_process import (
    NodeProcess,
    Planner,
    any_domain,
    image,
    node_and_planner,
    pixels,
    scene,
    wait_until,
    weighted_probability,
    write_weighted_model,
)
from rclpy.context import Context
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from road_seg_node.node import parameters
from road_seg_node.node.frame_accounts import Fate
from road_seg_node.node.stream import Frame, Stream
from road_seg_node.node.worker import Worker

NOW = 1_700_000_000  # the simulated second at which these tests begin


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


@pytest.fixture(scope="module", params=[False, True], ids=["wall time", "simulated time"])
def running(request: pytest.FixtureRequest, model: Path) -> Iterator[tuple[NodeProcess, Planner]]:
    with node_and_planner("probability", model=model, provider="cpu", use_sim_time=request.param) as both:
        yield both


def stamped(sec: int, nanosec: int = 0, seed: int = 1) -> Image:
    msg = image(scene(seed=seed))
    msg.header.stamp.sec, msg.header.stamp.nanosec = sec, nanosec
    return msg


def more_stale(before: int, counts: dict[str, int]) -> bool:
    return counts["stale"] > before


@pytest.mark.parametrize("max_age", ["0.0", "3600.0"])
@pytest.mark.parametrize(
    ("sec", "nanosec"),
    [(0, 0), (2**31 - 1, 999_999_999), (2**31 - 1, 2**32 - 1), (2_000_000_000, 0), (1_999_999_999, 0)],
    ids=["none", "the last", "with too many nanoseconds", "the future", "before the one before"],
)
def test_a_stamp_from_nowhere_comes_back_as_it_was(running, sec: int, nanosec: int, max_age: str) -> None:
    """Simulated time stands at 0 here: the node has not heard any /clock."""
    _, planner = running
    assert planner.set_parameter("max_age", max_age).successful
    answer = planner.ask_as_stamped(stamped(sec, nanosec, seed=7))["probability"]
    np.testing.assert_array_equal(pixels(answer), weighted_probability(scene(seed=7)))
    assert planner.set_parameter("max_age", "0.0").successful


def test_a_stamp_from_long_ago_is_stale_only_where_age_counts(start, planner, model) -> None:
    node = start(model=model, provider="cpu", max_age=3600.0)
    planner.listen("probability")
    planner.wait_for_camera_link()
    long_ago = [(-(2**31), 0), (-1, 999_999_999), (1, 0)]
    found = {"stale": 0, "answered": 0}
    for stamp in long_ago:
        found = planner.counts(partial(more_stale, found["stale"]), sending=partial(stamped, *stamp))
    assert found["answered"] == 0
    assert node.logged("so max_age leaves it out: do the clocks agree, is use_sim_time set")
    assert planner.set_parameter("max_age", "0.0").successful
    for stamp in long_ago:
        planner.ask_as_stamped(stamped(*stamp))
    assert planner.diagnostics()["transport p50 [ms]"] == "-", "an age of years is no transport"


def test_ages_are_told_by_the_simulators_clock_also_when_it_jumps(start, planner, model) -> None:
    node = start(model=model, provider="cpu", use_sim_time=True, max_age=1.0)
    clock = planner.node.create_publisher(Clock, "/clock", 10)
    wait_until(clock.get_subscription_count, "the node to subscribe to /clock")
    planner.listen("probability")
    planner.wait_for_camera_link()

    def set_clock(second: int) -> None:
        """Diagnostics are stamped by the node's clock, which tells when it has arrived."""
        stamps: list[int] = []
        planner.stamps = stamps
        msg = Clock()
        msg.clock.sec = second

        def arrived() -> bool:
            clock.publish(msg)
            time.sleep(0.05)
            return stamps[-1:] == [second]

        wait_until(arrived, "the clock's time in diagnostics")

    for second in (NOW, NOW + 1000, NOW - 1000, 5):  # on, forward, back, and from the start as a bag does
        set_clock(second)
        planner.ask_as_stamped(stamped(second))
        planner.ask_as_stamped(stamped(second, 500_000_000))  # ahead by half a second
        planner.ask_as_stamped(stamped(second - 1, 500_000_000))
        before = planner.counts(lambda counts: counts["pending"] == 0)["stale"]
        planner.counts(partial(more_stale, before), sending=partial(stamped, second - 2))
    assert node.stop() == 0
    assert "Traceback" not in node.log


@pytest.fixture
def worker() -> Iterator[Worker]:
    """One that is not started, so that frames only wait; of a node with a single stream."""
    context = Context()
    rclpy.init(context=context, domain_id=any_domain())
    node = rclpy.create_node("road_seg", context=context)
    worker = Worker(None, parameters.declare(node), context)
    worker.stream = Stream(node, "image")
    yield worker
    node.destroy_node()
    rclpy.shutdown(context=context)


def fates_at(worker: Any, max_rate: float, arrivals: Iterable[float]) -> dict[Fate, int]:
    """What became of frames that came at these seconds."""
    worker.values = replace(worker.values, max_rate=max_rate)
    for arrival in arrivals:
        worker.offer(Frame(worker.stream, Image(), arrival, None, lambda: None))
    return worker.stream.accounts.report(0.0).fates


@pytest.mark.parametrize(
    ("max_rate", "answered"), [(0.0, 300), (10.0, 100), (20.0, 200), (7.0, 70), (0.5, 5), (29.9, 299), (90.0, 300)]
)
def test_max_rate_is_reached_and_not_passed(worker: Any, max_rate: float, answered: int) -> None:
    """Of ten seconds of a camera of 30 Hz, also where its rate is no multiple."""
    fates = fates_at(worker, max_rate, (1000.0 + index / 30 + 0.004 * (index % 3) for index in range(300)))
    assert 300 - fates[Fate.RATE_LIMITED] == pytest.approx(answered, abs=1)
    assert fates[Fate.SUPERSEDED] == 300 - fates[Fate.RATE_LIMITED] - 1


def test_after_a_pause_max_rate_does_not_catch_up(worker: Any) -> None:
    fates = fates_at(worker, 10.0, (second + index / 30 for second in (1000.0, 1060.0) for index in range(30)))
    assert 60 - fates[Fate.RATE_LIMITED] == pytest.approx(20, abs=2)


def test_nor_does_it_let_two_frames_through_at_once(worker: Any) -> None:
    fates = fates_at(worker, 1.0, (second + index / 30 for second in (1000.0, 1060.0) for index in range(25)))
    assert 50 - fates[Fate.RATE_LIMITED] == 2


def test_a_higher_max_rate_counts_at_once(worker: Any) -> None:
    fates_at(worker, 0.01, (1000.0 + index / 30 for index in range(30)))
    fates = fates_at(worker, 10.0, (1000.0 + index / 30 for index in range(30, 60)))
    assert 60 - fates[Fate.RATE_LIMITED] == pytest.approx(2 + 10, abs=2)
