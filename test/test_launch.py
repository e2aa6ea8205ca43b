# SPDX-License-Identifier: Apache-2.0
"""The launch file as users start it: built by colcon into a folder of its own, then `ros2 launch`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from node_process import PATIENCE, REPOSITORY, Planner, any_domain, pixels, wait_until
from tiny_model import expected_probability, write_tiny_model

if importlib.util.find_spec("launch_ros") is None or shutil.which("ros2") is None:
    pytest.skip("ROS's launch is not here: source a ROS 2 installation", allow_module_level=True)
if shutil.which("colcon") is None:
    pytest.skip("colcon is not here: pip install colcon-common-extensions", allow_module_level=True)

ARGUMENTS = ("image_topic", "model", "provider", "threshold", "params_file", "namespace", "rviz", "camera")
PROFILE = "fastdds_large_images.xml"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which colcon has built this package."""
    folder = tmp_path_factory.mktemp("workspace")
    built = subprocess.run(
        ["colcon", "build", "--base-paths", str(REPOSITORY)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def launch(workspace: Path, *arguments: str, domain: int = 0, **environ: str) -> subprocess.Popen[str]:
    """`ros2 launch` in a shell that has sourced the workspace."""
    command = 'source install/setup.bash && exec ros2 launch road_seg_node seg.launch.py "$@"'
    clean = {name: value for name, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in name}
    return subprocess.Popen(
        ["bash", "-c", command, "bash", *arguments],
        cwd=workspace,
        env={**clean, "ROS_DOMAIN_ID": str(domain), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(parent: int) -> dict[str, dict[str, str]]:
    """The environment of each program of ours that the launch has started."""
    found = {}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        for name in ("road_seg_node", "road_seg_camera"):
            if any(word.endswith(f"/lib/road_seg_node/{name}".encode()) for word in words):
                pairs = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
                found[name] = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return found


def end(launched: subprocess.Popen[str]) -> str:
    """Ctrl-C, and what was logged."""
    if launched.poll() is None:
        launched.send_signal(signal.SIGINT)
    try:
        return launched.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        launched.terminate()
        return launched.communicate(timeout=PATIENCE)[0]


def test_every_argument_is_described(workspace: Path) -> None:
    said, _ = launch(workspace, "--show-args").communicate(timeout=PATIENCE)
    for name in ARGUMENTS:
        description = said.partition(f"'{name}':\n")[2].partition("\n")[0].strip()
        assert description.endswith(".") or "Valid choices" in description, f"{name}: {description!r}"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A camera's folder with one picture of every brightness and some colour, and a space in its name."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    picture = np.random.default_rng(1).integers(100, 160, (375, 1242, 3), np.uint8)
    cv2.imwrite(str(folder / "noise.png"), picture)
    return folder


def test_arguments_reach_the_node_and_the_camera(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    """Masks under the namespace, of the model and at the threshold asked for, from images on the asked topic."""
    picture = cv2.imread(str(pictures / "noise.png"))
    model = write_tiny_model(tmp_path / "tiny.onnx", threshold=0.1)
    domain = any_domain()
    launched = launch(
        workspace,
        f"camera:={pictures}",
        f"model:={model}",
        "threshold:=0.6",
        "provider:=cpu",
        "namespace:=car",
        "image_topic:=front/image_raw",
        domain=domain,
    )
    planner = Planner(domain, "car/road_seg")
    try:
        planner.listen("mask")
        wait_until(lambda: len(planner.received["mask"]) >= 3 or launched.poll() is not None, "three masks")
        topics = dict(planner.node.get_topic_names_and_types())
        assert "/car/front/image_raw" in topics
        for program in ("road_seg_node", "road_seg_camera"):
            environ = children(launched.pid)[program]
            assert Path(environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).name == PROFILE
            assert Path(environ["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    finally:
        planner.close()
        said = end(launched)
    masks = planner.received["mask"]
    assert len(masks) >= 3, said
    expected = np.where(expected_probability(picture) >= 0.6 * 255, 255, 0)
    assert 0 < (expected == 255).mean() < 1
    for mask in masks:
        assert (mask.encoding, mask.header.frame_id) == ("mono8", "camera")
        np.testing.assert_array_equal(pixels(mask), expected)
    stamps = [(mask.header.stamp.sec, mask.header.stamp.nanosec) for mask in masks]
    assert len(set(stamps)) == len(stamps)
    assert launched.returncode == 0, said
    assert "Traceback" not in said


def test_params_file_counts_where_an_argument_is_empty(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    params = tmp_path / "params.yaml"
    params.write_text(f'/**:\n  ros__parameters:\n    model: "{model}"\n    threshold: 0.125\n')
    profile = tmp_path / "own.xml"
    shutil.copy(REPOSITORY / "config" / PROFILE, profile)
    domain = any_domain()
    launched = launch(
        workspace, f"params_file:={params}", domain=domain, FASTRTPS_DEFAULT_PROFILES_FILE=str(profile)
    )
    planner = Planner(domain)
    try:
        planner.wait_for_camera_link()
        assert set(children(launched.pid)) == {"road_seg_node"}
        # The user's own profile stays the only one.
        environ = children(launched.pid)["road_seg_node"]
        assert environ["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(profile)
        assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environ
    finally:
        planner.close()
        said = end(launched)
    assert "Model tiny" in said
    assert "threshold 0.125" in said


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("params_file:=/nowhere/params.yaml", "There is no params_file /nowhere/params.yaml"),
        ("threshold:=half", "threshold must be a number, not 'half'"),
        ("provider:=tpu", "cuda"),
    ],
)
def test_wrong_argument_is_told(workspace: Path, argument: str, words: str) -> None:
    launched = launch(workspace, argument, domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert words in said
    assert "process started" not in said


def test_node_that_fails_leaves_its_sentence(workspace: Path) -> None:
    domain = any_domain()
    launched = launch(workspace, "model:=/nowhere/road.onnx", domain=domain)
    deadline = time.monotonic() + PATIENCE
    said = ""
    for line in launched.stdout or ():
        said += line
        if "process has died" in line or time.monotonic() > deadline:
            break
    said += end(launched)
    assert "/nowhere/road.onnx" in said
    assert "Traceback" not in said
