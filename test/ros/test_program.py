# SPDX-License-Identifier: Apache-2.0
"""However a signal hits the package's programs, they end at once, in order and with 0."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_process import REPOSITORY, any_domain, image, scene, write_weighted_model

PATIENCE = 20.0  # seconds
# As colcon's scripts start them, but with a line as soon as signals wait; it comes long before rclpy is imported.
START = """
import sys
from road_seg_node import programs
from road_seg_node.ros import program
hold = program.hold_signals
program.hold_signals = lambda: (hold(), print("held", flush=True))
getattr(programs, sys.argv.pop(1))()
"""


def start(name: str, *arguments: str, domain: int | None = None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", START, name, "--ros-args", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(any_domain() if domain is None else domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def arguments(name: str, folder: Path) -> list[str]:
    match name:
        case "node":
            return ["-p", f"model:={write_weighted_model(folder / 'weighted.onnx')}", "-p", "provider:=cpu"]
        case "camera":
            return ["-p", "rate:=100.0"]
        case _:
            return ["-p", f"output:={folder / 'drive.mcap'}"]


def end(process: subprocess.Popen[str], *signals: signal.Signals) -> str:
    """Sends the signals right after each other; what the process said until it ended, with 0."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.01)
    try:
        said = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
@pytest.mark.parametrize("name", ["node", "camera", "recorder"])
def test_a_signal_ends_it_as_it_starts_and_as_it_works(name: str, signals: tuple, tmp_path: Path) -> None:
    for delay in (0.0, 0.4, 1.2):
        folder = tmp_path / str(delay)
        folder.mkdir()
        process = start(name, *arguments(name, folder))
        time.sleep(delay)
        end(process, *signals)
        if name == "recorder":
            assert not list(folder.glob("*.part"))


def test_the_camera_ends_while_it_draws(tmp_path: Path) -> None:
    """Its thread is in a library nearly all the time: the frames are large, and wanted at once."""
    for attempt in range(4):
        process = start("camera", "-p", "width:=4000", "-p", "height:=2000", "-p", "rate:=100.0")
        assert process.stdout
        while "synthetic on" not in process.stdout.readline():
            pass
        time.sleep(0.05 + attempt / 20)
        end(process, signal.SIGTERM)


def test_the_node_ends_while_it_makes_an_engine_for_the_cameras_size(planner, domain) -> None:
    """The shipped model on OpenVINO, where there is one: that takes it a second, in a thread of its own."""
    for attempt in range(3):
        process = start("node", domain=domain)
        assert process.stdout
        while "Waiting for images" not in process.stdout.readline():
            assert process.poll() is None
        if not planner.received:
            planner.listen("mask")
        planner.ask(image(scene(160 + 32 * attempt, 128)))
        for _ in range(3):
            planner.publish(planner.stamp(image(scene(160 + 32 * attempt, 128))))
            time.sleep(0.1)
        end(process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "mistyped", "meant", "working"),
    [
        ("node", "camera_hight:=1.6", "camera_height", "Waiting for images"),
        ("camera", "sources:=drive.mcap", "source", "synthetic on"),
        ("recorder", "nodes:=seg", "node", "Recording into"),
    ],
)
def test_what_is_not_used_is_told(name: str, mistyped: str, meant: str, working: str, tmp_path: Path) -> None:
    topic = ("-p", "qos_overrides./video.subscription.depth:=5")  # the node's is /image
    process = start(name, *arguments(name, tmp_path), "-p", mistyped, "-p", "colour:=red", *topic, "--", "model")
    assert process.stdout
    said = ""
    while working not in said:
        assert process.poll() is None, said
        said += process.stdout.readline()
    end(process, signal.SIGTERM)
    assert "Not used: model. What is for ROS comes after --ros-args" in said
    told = "".join(re.findall("no such parameters, and does not use them: (.*)", said))
    for words in (f"{mistyped.partition(':')[0]} ({meant}?)", "colour", "qos_overrides./video.subscription.depth"):
        assert words in told


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("node", ("-p", "use_sim_time:=abc"), "use_sim_time"),
        ("node", ("-p", "model:=~nobody_at_all/road.onnx"), "~nobody_at_all/road.onnx does not exist"),
        ("camera", ("-p", "source:=~nobody_at_all/drive"), "There is no folder, video or bag '~nobody_at_all/drive'"),
        ("camera", ("-p", "width:=999999"), "from 16 to 8192"),
        ("recorder", ("-p", "output:=drive.mcap", "-p", "node:=a b"), "must be the name of a node, not 'a b'"),
    ],
)
def test_a_wrong_value_is_a_sentence(name: str, given: tuple[str, ...], words: str) -> None:
    process = start(name, *given)
    said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2, said
    assert words in said and "Traceback" not in said
