# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: a camera and the node in processes of their own, a table, a sheet and a film."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import fork_server
import numpy as np
import pytest
from node_process import REPOSITORY, any_domain, write_weighted_model
from tiny_model import expected_probability, write_tiny_model

from road_seg_node.camera.sources import HEIGHT, WIDTH
from road_seg_node.demo.collector import Answer, Seen
from road_seg_node.demo.demo import RATE, Progress, keep_to_this_machine, road_iou
from road_seg_node.inference import providers
from road_seg_node.synthetic_road.scene import Road

LONG = 180.0  # seconds
NO_DISPLAY = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}


def start_demo(*arguments: str | Path) -> fork_server.Program:
    env = {**os.environ, **NO_DISPLAY, "ROS_DOMAIN_ID": str(any_domain())}
    return fork_server.ROS.start("-m", "road_seg_node.demo", *arguments, env=env)


def run_demo(*arguments: str | Path, within: Sequence[str] = ()) -> tuple[int, str]:
    """Its exit status, and what it said; `within` a command that starts commands."""
    command = [*within, sys.executable, "-m", "road_seg_node.demo", *map(str, arguments)]
    env = {**os.environ, "ROS_DOMAIN_ID": str(any_domain())}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    demo = subprocess.Popen(command, cwd=REPOSITORY, env=env, **pipes) if within else start_demo(*arguments)
    try:
        said, _ = demo.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        demo.terminate()
        raise
    return demo.wait(), said


def figure(said: str, name: str) -> str:
    found = re.search(rf"^  {re.escape(name)} +(.+)$", said, re.MULTILINE)
    assert found, f"the table has no line {name!r}:\n{said}"
    return found[1]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", threshold=0.8)


def test_with_little_shared_memory(tiny_model: Path, tmp_path: Path) -> None:
    """As Docker gives it: there three processes with the profile for large images cannot all have their segment."""
    docker = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*docker, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another /dev/shm cannot be mounted here: run it as root")
    status, said = run_demo("--frames", "20", "--model", tiny_model, "--output", tmp_path, within=docker)
    assert "/dev/shm has only 67 MB left" in said
    assert status == 0, said


def test_synthetic_drive(tiny_model: Path, tmp_path: Path) -> None:
    """The figures agree with each other, and the IoU with what the tiny model has to find on the same road."""
    frames = 20
    status, said = run_demo("synthetic:3", "--frames", str(frames), "--model", tiny_model, "--output", tmp_path)
    assert int(figure(said, "frames sent")) == frames
    answered, dropped = int(figure(said, "frames answered")), int(figure(said, "frames dropped"))
    assert answered + dropped == frames
    assert 0 < answered
    assert status == 0, said
    assert ("Warning: only" in said) == (answered < 0.95 * frames)
    assert figure(said, "provider") in providers.candidates("auto")
    p50 = float(figure(said, "latency, camera stamp to mask, p50").removesuffix(" ms"))
    assert 0 < p50 <= float(figure(said, "latency, camera stamp to mask, p99").removesuffix(" ms"))

    road = Road(3)
    both = either = 0
    for index in range(frames):
        bgr, truth = road.render(WIDTH, HEIGHT, index / RATE)
        found = expected_probability(bgr) >= 0.8 * 255
        both += np.count_nonzero(found & truth)
        either += np.count_nonzero(found | truth)
    off = 0.0006 if answered == frames else 0.05  # a dropped frame is not in the demo's figure
    assert float(figure(said, "road IoU against the truth")) == pytest.approx(both / either, abs=off)

    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 4 * 400  # image, overlay, mask, and the road on the ground
    film = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    overlays = 0
    while film.read()[0]:
        overlays += 1
    assert 0 < overlays <= frames
    assert not list(tmp_path.glob("*.part.*"))


def test_own_folder_has_no_truth(tiny_model: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    # Of two sizes, as in KITTI, whose frames are not all alike.
    for name, size in (("a.png", (60, 90)), ("b.png", (64, 88))):
        cv2.imwrite(str(pictures / name), np.full((*size, 3), 128, np.uint8))
    status, said = run_demo(pictures, "--frames", "10", "--model", tiny_model, "--output", tmp_path / "out")
    assert figure(said, "frames sent") == "10"
    assert status == 0, said
    assert "IoU" not in said
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0


@pytest.mark.parametrize("strict", [False, True])
def test_slow_machine_is_told(strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 GFLOP a frame, ten times a second, are more than any CPU can do."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    model = write_weighted_model(tmp_path / "slow.onnx", work=100)
    options = ["--frames", "30", "--model", model, "--output", tmp_path, *(["--strict"] if strict else [])]
    status, said = run_demo(*options)
    warning = re.search(r"Warning: only (\d+) of 30 frames were answered\. This machine is too slow", said)
    assert warning, said
    # A machine may be so slow that none is answered before the end, which is an error in any case.
    assert status == (1 if strict or warning[1] == "0" else 0)


def test_view_is_kept_as_a_recording(tiny_model: Path, tmp_path: Path) -> None:
    """rerun's own command line finds it whole, with every frame's pictures, grid and latency in it."""
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: make demo VIEW=1 installs it")
    status, said = run_demo("--view", "--frames", "10", "--model", tiny_model, "--output", tmp_path)
    assert status == 0, said
    recording = tmp_path / "demo.rrd"
    assert f"To see it elsewhere: rerun {recording}" in said
    assert not list(tmp_path.glob("*.part.*"))
    verified = rerun("rrd", "verify", recording)
    assert "1 file verified without error" in verified, verified
    told = rerun("rrd", "print", recording)
    for name in ("image", "overlay", "mask", "ground", "latency"):
        rows = sum(int(count) for count in re.findall(rf"with (\d+) rows .*/{name}\b", told))
        assert 0 < rows <= 10, told
    assert rows == int(figure(said, "frames answered"))


def rerun(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "rerun", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    return done.stdout + done.stderr


def test_iou_is_of_the_frames_answered(tmp_path: Path) -> None:
    """Lost frames do not shift the truth that the others are compared with."""
    road, seen = Road(4), Seen(sent=[1000 + 7 * index for index in range(6)])
    for index, stamp in enumerate(seen.sent):
        if index not in (0, 3):
            truth = road.render(160, 96, index / RATE)[1]
            seen.answers[stamp] = Answer(stamp + 5, np.packbits(truth), truth.shape)
    assert road_iou(seen, 4, Progress()) == 1.0
    assert road_iou(seen, 5, Progress()) < 0.95


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["/nowhere/at/all"], 2, "There is no folder, video or bag '/nowhere/at/all'"),
        (["synthetic:x"], 2, "must be a whole number"),
        (["--frames", "0"], 2, "--frames must be at least 1"),
        (["--model", "/nowhere/at/all.onnx"], 1, "/nowhere/at/all.onnx"),
        (["--output", __file__], 1, "test_demo.py cannot be written: File exists."),
        (["--output", "/nowhere/at/all"], 2, "there is no folder /nowhere/at to make --output in"),
    ],
)
def test_user_mistake_is_told_without_a_traceback(
    arguments: list[str], status: int, words: str, tmp_path: Path
) -> None:
    returned, said = run_demo("--output", tmp_path, *arguments)
    assert returned == status
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(number: signal.Signals, tiny_model: Path, tmp_path: Path) -> None:
    demo = start_demo("--frames", "1000", "--model", tiny_model, "--output", tmp_path)
    try:
        deadline = time.monotonic() + LONG
        while "answered" not in (line := demo.stdout.readline()):  # type: ignore[union-attr]
            assert line and time.monotonic() < deadline, "the demo showed no progress"
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        assert len(children) == 2
        demo.send_signal(number)
        demo.communicate(timeout=LONG)
        assert demo.returncode == (-number if number == signal.SIGKILL else 128 + number)
        while left := [child for child in children if Path(f"/proc/{child}").exists()]:
            assert time.monotonic() < deadline, f"processes {left} go on"
            time.sleep(0.05)
    finally:
        demo.kill()
        demo.communicate()


def test_what_keeps_ros_from_starting_is_told(tmp_path: Path) -> None:
    within = ["env", "-u", "HOME", "-u", "ROS_HOME", "-u", "ROS_LOG_DIR"]
    status, said = run_demo("--output", tmp_path, within=within)
    assert status == 2
    assert "The log has no place: the environment variable HOME is not set." in said
    assert "Traceback" not in said


def test_early_death_of_the_node_is_told(tiny_model: Path, tmp_path: Path) -> None:
    demo = start_demo("--frames", "1000", "--model", tiny_model, "--output", tmp_path)
    while "answered" not in (line := demo.stdout.readline()):  # type: ignore[union-attr]
        assert line, "the demo showed no progress"
    for child in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split():
        if b"road_seg_node.node.node" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    said, _ = demo.communicate(timeout=LONG)
    assert demo.returncode == 1
    assert "The node ended early, with status -9" in said
    assert "Waiting for images" in said  # what it last logged


def test_robots_on_the_network_are_left_alone() -> None:
    environ: dict[str, str] = {}
    keep_to_this_machine(environ)
    assert 1 <= int(environ["ROS_DOMAIN_ID"]) <= 101
    assert environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    own = {"ROS_DOMAIN_ID": "0", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    keep_to_this_machine(own)
    assert own == {"ROS_DOMAIN_ID": "0", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
