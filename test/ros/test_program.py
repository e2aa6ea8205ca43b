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

from road_seg_node.ros.dds_profile import VARIABLES
from road_seg_node.shipped import version

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
@pytest.mark.parametrize("name", ["node", "camera", pytest.param("recorder", marks=pytest.mark.needs("rosbags"))])
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
        pytest.param("recorder", "nodes:=seg", "node", "Recording into", marks=pytest.mark.needs("rosbags")),
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


NAMES = ["node", "camera", "recorder"]


def run(name: str, *arguments: str, within: tuple[str, ...] = (), **environ: str) -> tuple[int, str]:
    """The program as colcon's and pip's scripts start it, to its end; exit code and what it said."""
    code = f"import sys; sys.argv[0] = 'road_seg_{name}'; from road_seg_node import programs; programs.{name}()"
    done = subprocess.run(
        [*within, sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(any_domain()), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_and_version_are_answered(name: str) -> None:
    parameter = {"node": 'model ("")', "camera": "loop (true)", "recorder": "node (road_seg)"}[name]
    for option in ("-h", "--help"):
        code, said = run(name, option)
        assert code == 0
        assert said.startswith(f"usage: road_seg_{name} [-h]")
        assert parameter in said
    assert run(name, "--version") == (0, f"road_seg_{name} {version()}\n")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ROS_DOMAIN_ID": "300"}, "The environment variable ROS_DOMAIN_ID must be a number from 0 to 232, not '300'."),
        ({"ROS_DOMAIN_ID": "car"}, "The environment variable ROS_DOMAIN_ID must be a number from 0 to 232, not 'car'."),
        ({"RCUTILS_COLORIZED_OUTPUT": "yes"}, "RCUTILS_COLORIZED_OUTPUT must be 0 or 1, not 'yes'."),
        ({"RMW_IMPLEMENTATION": "rmw_none"}, "RMW_IMPLEMENTATION is rmw_none, which cannot be loaded here"),
        ({"ROS_LOG_DIR": "/dev/null/log"}, "The log cannot be written: "),
        ({"ROS_LOG_DIR": "", "ROS_HOME": "", "HOME": "/dev/null"}, "Set ROS_LOG_DIR to a folder that can be written."),
        ({"ROS_LOG_DIR": "", "ROS_HOME": "", "HOME": ""}, "The log has no place: the environment variable HOME is not"),
        ({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}, "cannot start. ROS_SECURITY_ENABLE is"),
    ],
)
def test_what_keeps_ros_from_starting_is_told_by_its_cause(environ: dict[str, str], words: str) -> None:
    for name in NAMES if "ROS_DOMAIN_ID" in environ else ["node"]:
        code, said = run(name, **environ)
        assert code == 2
        assert words in said
        assert "command line" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("node", ("--nonsense",)),
        ("node", ("-p",)),
        ("camera", ("--params-file", "/nowhere.yaml")),
        ("recorder", ("--log-level", "loud")),
    ],
)
def test_a_command_line_that_ros_cannot_read_is_told(name: str, arguments: tuple[str, ...]) -> None:
    code, said = run(name, "--ros-args", *arguments)
    assert code == 2
    assert "The command line cannot be used: " in said and arguments[0] in said
    assert "Traceback" not in said


def test_a_middleware_that_cannot_start_is_told(tmp_path: Path) -> None:
    """Fast DDS with shared memory alone, where no shared memory can be made."""
    within = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"', "sh")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another /dev/shm cannot be mounted here: run it as root")
    profile = (REPOSITORY / "config" / "fastdds_large_images.xml").read_text()
    shared, udp = re.findall(r"( +<transport_id>\w+</transport_id>\n)", profile[profile.index("<userTransports>") :])
    assert "shm" in shared and "udp" in udp
    (tmp_path / "shm.xml").write_text(profile.replace(udp, ""))
    environ = dict.fromkeys(VARIABLES, str(tmp_path / "shm.xml"))
    for name in NAMES:
        arguments = ("--ros-args", "-p", f"output:={tmp_path / 'drive.mcap'}") if name == "recorder" else ()
        code, said = run(name, *arguments, within=within, **environ)
        assert code == 2
        assert "ROS 2 cannot start: error creating node" in said
        assert "Traceback" not in said


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    """In an environment without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=60)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}
    for code, words in {
        "from road_seg_node import programs; programs.node()": "[FATAL] [road_seg_node]: ROS 2 is not here: ",
        "import road_seg_node.demo.__main__": "cannot import cv2: pip install opencv-python-headless",
    }.items():
        done = subprocess.run(
            [tmp_path / "bare" / "bin" / "python", "-c", code],
            cwd=REPOSITORY,
            env=clean,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    answer = [tmp_path / "bare" / "bin" / "python", "-c", "from road_seg_node import programs; programs.node()"]
    said = subprocess.check_output([*answer, "--version"], cwd=REPOSITORY, env=clean, text=True, timeout=PATIENCE)
    assert said == f"road_seg_node {version()}\n"


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("node", ("-p", "use_sim_time:=abc"), "use_sim_time"),
        ("node", ("-p", "model:=ful"), "there is no model 'ful': the shipped ones are compact and full"),
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
