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
from nav_msgs.msg import OccupancyGrid
from node_process import PATIENCE, REPOSITORY, Planner, any_domain, pixels, wait_until
from rcl_interfaces.srv import GetParameters
from tiny_model import expected_probability, write_tiny_model

from road_seg_node.synthetic_road.scene import Road

if importlib.util.find_spec("launch_ros") is None or shutil.which("ros2") is None:
    pytest.skip("ROS's launch is not here: source a ROS 2 installation", allow_module_level=True)
if shutil.which("colcon") is None:
    pytest.skip("colcon is not here: pip install colcon-common-extensions", allow_module_level=True)
Reader = pytest.importorskip("rosbags.rosbag2", reason="rosbags is not here: pip install rosbags").Reader

ARGUMENTS = """image_topic image_topics image_transport model provider threshold camera_height camera_tilt ground_frame
    params_file namespace name autostart respawn log_level dds_profile rviz fixed_frame camera camera_topic
    record""".split()
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


def launch(
    workspace: Path, *arguments: str, domain: int = 0, file: Path | None = None, **environ: str
) -> subprocess.Popen[str]:
    """`ros2 launch` of seg.launch.py, or of `file`, in a shell that has sourced the workspace."""
    what = "road_seg_node seg.launch.py" if file is None else str(file)
    command = f'source install/setup.bash && exec ros2 launch {what} "$@"'
    clean = {name: value for name, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in name}
    return subprocess.Popen(
        ["bash", "-c", command, "bash", *arguments],
        cwd=workspace,
        env={**clean, "ROS_DOMAIN_ID": str(domain), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes(parent: int) -> dict[str, int]:
    """The process of each program of ours that the launch has started."""
    found = {}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        for name in ("road_seg_node", "road_seg_camera", "road_seg_recorder"):
            if any(word.endswith(f"/lib/road_seg_node/{name}".encode()) for word in words):
                found[name] = int(child)
    return found


def environment(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


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
            environ = environment(processes(launched.pid)[program])
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
        assert set(processes(launched.pid)) == {"road_seg_node"}
        # The user's own profile stays the only one.
        environ = environment(processes(launched.pid)["road_seg_node"])
        assert environ["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(profile)
        assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environ
    finally:
        planner.close()
        said = end(launched)
    assert "Model tiny" in said
    assert "threshold 0.125" in said


def test_the_camera_sends_as_the_params_file_has_it(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    params = tmp_path / "params.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    provider: cpu\n"
        f'car:\n  seg:\n    ros__parameters:\n      image_transport: compressed\n      model: "{model}"\n'
        "/**/other:\n  ros__parameters:\n    image_transport: raw\n"
    )
    domain = any_domain()
    launched = launch(
        workspace, f"params_file:={params}", f"camera:={pictures}", "namespace:=car", "name:=seg", domain=domain
    )
    planner = Planner(domain, "car/seg")
    try:
        planner.listen("mask")
        wait_until(lambda: planner.received["mask"] or launched.poll() is not None, "a mask")
        assert "/car/image/compressed" in dict(planner.node.get_topic_names_and_types())
    finally:
        planner.close()
        said = end(launched)
    assert planner.received["mask"], said


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("params_file:=/nowhere/params.yaml", "There is no params_file /nowhere/params.yaml"),
        pytest.param(
            "rviz:=true",
            "RViz is not installed here",
            marks=pytest.mark.skipif(shutil.which("rviz2") is not None, reason="RViz is installed"),
        ),
        ("threshold:=half", "threshold must be a number, not 'half'"),
        ("provider:=tpu", "cuda"),
        ("dds_profile:=/nowhere/profile.xml", "There is no dds_profile /nowhere/profile.xml"),
        ("camera:=/nowhere/pictures", "There is no folder, video or bag '/nowhere/pictures'"),
    ],
)
def test_wrong_argument_is_told(workspace: Path, argument: str, words: str) -> None:
    launched = launch(workspace, argument, domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert words in said
    assert "process started" not in said


@pytest.mark.parametrize("text", ["/**: [", "- provider", "/**:\n  provider: cpu\n"])
def test_a_params_file_that_is_none_is_told(workspace: Path, tmp_path: Path, text: str) -> None:
    (params := tmp_path / "params.yaml").write_text(text)
    launched = launch(workspace, f"params_file:={params}", domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert f"The params_file {params} cannot be read" in said
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


TWO_CAMERAS = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    def side(namespace, pictures, threshold):
        arguments = dict(
            namespace=namespace, camera=pictures, threshold=threshold, model="{model}", provider="cpu",
            image_topic="image_raw",
        )
        file = [FindPackageShare("road_seg_node"), "/launch/seg.launch.py"]
        return GroupAction([IncludeLaunchDescription(file, launch_arguments=arguments.items())])

    return LaunchDescription([side("left", "{left}", "0.45"), side("right", "{right}", "0.55")])
"""


def test_two_cameras_side_by_side(workspace: Path, tmp_path: Path) -> None:
    """Each node answers the images of its own namespace, at its own threshold."""
    pictures = {}
    for index, side in enumerate(("left", "right")):
        (tmp_path / side).mkdir()
        pictures[side] = np.random.default_rng(index).integers(100, 160, (60, 80, 3), np.uint8)
        cv2.imwrite(str(tmp_path / side / "one.png"), pictures[side])
    file = tmp_path / "two.launch.py"
    model = write_tiny_model(tmp_path / "tiny.onnx")
    file.write_text(TWO_CAMERAS.format(model=model, left=tmp_path / "left", right=tmp_path / "right"))
    domain = any_domain()
    launched = launch(workspace, file=file, domain=domain)
    planner = Planner(domain, "left/road_seg")
    try:
        for side, threshold in (("left", 0.45), ("right", 0.55)):
            planner.node_name = f"{side}/road_seg"
            planner.received.clear()
            planner.listen("mask")
            wait_until(lambda: len(planner.received["mask"]) >= 3 or launched.poll() is not None, "three masks")
            expected = np.where(expected_probability(pictures[side]) >= threshold * 255, 255, 0)
            for mask in planner.received["mask"]:
                np.testing.assert_array_equal(pixels(mask), expected)
    finally:
        planner.close()
        said = end(launched)
    assert "Traceback" not in said


def test_a_killed_node_is_started_again_and_answers(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    domain = any_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    launched = launch(
        workspace, f"camera:={pictures}", f"model:={model}", "provider:=cpu", "respawn:=true", domain=domain
    )
    planner = Planner(domain)
    try:
        planner.listen("mask")
        wait_until(lambda: planner.received["mask"], "a mask")
        first = processes(launched.pid)["road_seg_node"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: processes(launched.pid).get("road_seg_node", first) != first, "another process")
        planner.received["mask"].clear()
        wait_until(lambda: planner.received["mask"], "a mask of the new node")
    finally:
        planner.close()
        said = end(launched)
    assert "Traceback" not in said
    assert not [process for process in processes_of(workspace) if process != os.getpid()]


def processes_of(workspace: Path) -> list[int]:
    """The processes that run programs of the workspace, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(workspace / "install").encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


def test_without_autostart_it_waits_for_ros2_lifecycle(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    """The node's name, its level of logging and Fast DDS as it comes are tried here too."""
    domain = any_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    launched = launch(
        workspace,
        f"camera:={pictures}",
        f"model:={model}",
        "provider:=cpu",
        "autostart:=false",
        "name:=seg",
        "namespace:=car",
        "log_level:=error",
        "dds_profile:=none",
        domain=domain,
        FASTRTPS_DEFAULT_PROFILES_FILE=str(REPOSITORY / "config" / PROFILE),
    )
    planner = Planner(domain, "car/seg")
    try:
        assert planner.state() == "unconfigured"
        environ = environment(processes(launched.pid)["road_seg_node"])
        assert not [name for name in environ if name.endswith("DEFAULT_PROFILES_FILE")]
        for transition in ("configure", "activate"):
            done = subprocess.run(
                ["ros2", "lifecycle", "set", "--no-daemon", "--spin-time", "5", "/car/seg", transition],
                env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert "Transitioning successful" in done.stdout, done.stdout + done.stderr
        planner.listen("mask")
        wait_until(lambda: planner.received["mask"], "a mask")
    finally:
        planner.close()
        said = end(launched)
    assert "Model tiny" not in said  # which is logged at the level info


def test_a_known_camera_gives_a_grid_and_all_is_recorded(workspace: Path, tmp_path: Path) -> None:
    """Compressed images too: the camera sends what the node and the recorder take."""
    domain = any_domain()
    model, file = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "drive.mcap"
    launched = launch(
        workspace,
        "camera:=synthetic:3",
        f"model:={model}",
        "provider:=cpu",
        "image_transport:=compressed",
        f"record:={file}",
        domain=domain,
    )
    planner = Planner(domain)
    grids: list[OccupancyGrid] = []
    try:
        planner.node.create_subscription(OccupancyGrid, "/road_seg/road_grid", grids.append, 1)
        wait_until(lambda: len(grids) >= 5 or launched.poll() is not None, "five grids")
        asked = GetParameters.Request(names=["camera_height"])
        height = planner.call(GetParameters, "get_parameters", asked).values[0].double_value
    finally:
        planner.close()
        said = end(launched)
    assert grids[0].header.frame_id == "camera_ground"
    assert height == Road(3).camera(1242, 375)[1]
    assert "Traceback" not in said
    with Reader(file) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
    assert counts["/image/compressed"] and counts["/road_seg/road_grid"] >= 5 and counts["/camera_info"], said
