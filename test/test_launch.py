# SPDX-License-Identifier: Apache-2.0
"""The launch file as users start it: built by colcon into a folder of its own, then `ros2 launch`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from launch_process import end, environment, launch, processes, skip_without_launch
from nav_msgs.msg import OccupancyGrid
from node_process import PATIENCE, REPOSITORY, Planner, any_domain, pixels, wait_until
from rcl_interfaces.srv import GetParameters
from tiny_model import expected_probability, write_tiny_model

from road_seg_node.synthetic_road.scene import Road

skip_without_launch()
Reader = pytest.importorskip("rosbags.rosbag2", reason="rosbags is not here: pip install rosbags").Reader

ARGUMENTS = """image_topic image_topics image_transport model provider threshold camera_height camera_tilt ground_frame
    params_file namespace name autostart respawn respawn_max_retries required use_sim_time log_level dds_profile rviz
    fixed_frame camera camera_topic record""".split()
PROFILE = "fastdds_large_images.xml"


def test_every_argument_is_described(workspace: Path) -> None:
    said, _ = launch(workspace, "--show-args").communicate(timeout=PATIENCE)
    for name in ARGUMENTS:
        description = said.partition(f"'{name}':\n")[2].partition("\n")[0].strip()
        assert description.endswith(".") or "Valid choices" in description, f"{name}: {description!r}"


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


def test_one_node_answers_several_cameras(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    domain = any_domain()
    launched = launch(
        workspace,
        f"camera:={pictures}",
        f"model:={write_tiny_model(tmp_path / 'tiny.onnx')}",
        "provider:=cpu",
        "image_topic:=front/image",
        "image_topics:=front/image rear/image",
        f"record:={tmp_path / 'drive.mcap'}",
        domain=domain,
    )
    planner = Planner(domain)
    try:
        planner.listen("front/mask")
        wait_until(lambda: planner.received["front/mask"] or launched.poll() is not None, "a mask of the front camera")
        recorded = "/road_seg/front/mask"
        wait_until(lambda: planner.node.count_subscribers(recorded) == 2 or launched.poll() is not None, "the recorder")
        assert planner.node.count_subscribers(recorded) == 2
        assert "/road_seg/rear/mask" in dict(planner.node.get_topic_names_and_types())
    finally:
        planner.close()
        said = end(launched)
    assert planner.received["front/mask"], said


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
        ("camra:=synthetic", "There is no argument camra (camera?); --show-args lists them."),
        ("speed:=5", "There is no argument speed; --show-args lists them."),
        ("record:=/nowhere/drive.mcap", "record: There is no folder /nowhere to record drive.mcap into"),
        ("record:=drive.bag", "record: The file to record into must end in .mcap: 'drive.bag' does not."),
        ("respawn_max_retries:=often", "respawn_max_retries must be a whole number, not 'often'."),
        ("respawn_max_retries:=nan", "respawn_max_retries must be a whole number, not 'nan'."),
        ("respawn_max_retries:=2.7", "respawn_max_retries must be a whole number, not '2.7'."),
        ("threshold:=nan", "The parameter threshold must be a number from 0.0 to 1.0 or -1.0, not nan."),
        ("camera_height:=-1", "The parameter camera_height must be a number from 0.05 to 100.0 or 0.0, not -1.0."),
        ("image_topics:= ", "The parameter image_topics must be one topic or several"),
        ("image_topics:=front/image,rear/image", "not ['front/image,rear/image']."),
        ("image_topic:=/camera/", "image_topic must be a topic, such as /camera/image_raw, not '/camera/'."),
        ("image_topic:=my topic", "image_topic must be a topic, such as /camera/image_raw, not 'my topic'."),
        (f"dds_profile:={__file__}", f"The dds_profile {__file__} cannot be read as XML: "),
        ("camera:=/nowhere/pictures", "There is no folder, video or bag '/nowhere/pictures'"),
    ],
)
def test_wrong_argument_is_told(workspace: Path, argument: str, words: str) -> None:
    launched = launch(workspace, argument, domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert words in said
    assert "process started" not in said


@pytest.mark.parametrize("argument", ["image_topic:=image_raw", "camera:=synthetic", "record:=drive.mcap"])
def test_what_is_for_one_of_several_cameras_is_for_one_that_the_node_has(workspace: Path, argument: str) -> None:
    said, _ = launch(workspace, "image_topics:=front/image rear/image", argument, domain=any_domain()).communicate(
        timeout=PATIENCE
    )
    assert "image_topic must be one of image_topics (front/image, rear/image), not 'image" in said
    assert "process started" not in said


@pytest.mark.parametrize("text", ["/**: [", "- provider", "/**:\n  provider: cpu\n"])
def test_a_params_file_that_is_none_is_told(workspace: Path, tmp_path: Path, text: str) -> None:
    (params := tmp_path / "params.yaml").write_text(text)
    launched = launch(workspace, f"params_file:={params}", domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert f"The params_file {params} cannot be read" in said
    assert "process started" not in said


# As docs/launch.md shows it, in the middle of a bringup with arguments of its own.
BRINGUP = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch_ros.substitutions import FindPackageShare


def road_seg(**arguments):
    file = [FindPackageShare("road_seg_node"), "/launch/seg.launch.py"]
    return GroupAction([IncludeLaunchDescription(file, launch_arguments=arguments.items())], forwarding=False)


def generate_launch_description():
    both = dict(model="{model}", provider="cpu", image_topic="image_raw")
    return LaunchDescription([
        DeclareLaunchArgument("params_file", default_value="/nowhere/of_the_bringup.yaml"),
        DeclareLaunchArgument("namespace", default_value="vehicle"),
        DeclareLaunchArgument("models", default_value="lidar"),
        road_seg(namespace="left", name="seg", threshold="0.45", camera="{left}", **both),
        road_seg(namespace="right", camera="{right}", **both),
    ])
"""


def test_two_cameras_side_by_side(workspace: Path, tmp_path: Path) -> None:
    """Each node has what it was given, and nothing of the other's or of the bringup's around them."""
    pictures = {}
    for index, side in enumerate(("left", "right")):
        (tmp_path / side).mkdir()
        pictures[side] = np.random.default_rng(index).integers(100, 160, (60, 80, 3), np.uint8)
        cv2.imwrite(str(tmp_path / side / "one.png"), pictures[side])
    file = tmp_path / "two.launch.py"
    model = write_tiny_model(tmp_path / "tiny.onnx")
    file.write_text(BRINGUP.format(model=model, left=tmp_path / "left", right=tmp_path / "right"))
    domain = any_domain()
    launched = launch(workspace, file=file, domain=domain)
    planner = Planner(domain, "left/seg")
    try:
        for name, threshold in (("left/seg", 0.45), ("right/road_seg", 0.5)):
            planner.node_name = name
            planner.received.clear()
            planner.listen("mask")
            wait_until(lambda: len(planner.received["mask"]) >= 3 or launched.poll() is not None, "three masks")
            expected = np.where(expected_probability(pictures[name.partition("/")[0]]) >= threshold * 255, 255, 0)
            for mask in planner.received["mask"]:
                np.testing.assert_array_equal(pixels(mask), expected)
    finally:
        planner.close()
        said = end(launched)
    assert "Traceback" not in said


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
        for topic in ("/camera_info", "/image/compressed"):  # what comes before is in no file
            wait_until(lambda topic=topic: planner.node.count_subscribers(topic) >= 2, f"node and recorder on {topic}")
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


def test_a_mistyped_argument_of_an_include_is_named(workspace: Path, tmp_path: Path) -> None:
    """As a warning: others in the bringup may be its own."""
    file = tmp_path / "one.launch.py"
    include = 'road_seg(model="/nowhere/road.onnx", provider="cpu", image_topcs="image_raw", speed="5")'
    file.write_text(BRINGUP.partition("    both =")[0] + f"    return LaunchDescription([{include}])\n")
    said, _ = launch(workspace, file=file, domain=any_domain()).communicate(timeout=PATIENCE)
    assert "seg.launch.py does not use the argument image_topcs (image_topics?)." in said
    assert "speed" not in said and "Traceback" not in said


def test_transports_that_the_user_has_chosen_stay(workspace: Path, tmp_path: Path) -> None:
    domain = any_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    chosen = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    launched = launch(workspace, f"model:={model}", "provider:=cpu", "use_sim_time:=true", domain=domain, **chosen)
    planner = Planner(domain)
    try:
        planner.wait_for_camera_link()
        environ = environment(processes(launched.pid)["road_seg_node"])
        assert environ["FASTDDS_BUILTIN_TRANSPORTS"] == "UDPv4"
        assert not [name for name in environ if name.endswith("DEFAULT_PROFILES_FILE")]
        asked = GetParameters.Request(names=["use_sim_time"])
        assert planner.call(GetParameters, "get_parameters", asked).values[0].bool_value
    finally:
        planner.close()
        end(launched)


RVIZ = """#!/bin/sh
echo "RViz is given: $*"
while [ "$1" != -d ]; do shift; done
grep "Value: /" "$2"
exec sleep 60
"""


@pytest.mark.parametrize(
    ("transport", "topic", "shown"),
    [
        ("raw", "front", "/image"),
        ("compressed", "front", "/car/front/compressed"),
        ("compressed", "/rear/image_raw/compressed", "/rear/image_raw/compressed"),
    ],
)
def test_rviz_shows_the_images_as_they_come(
    workspace: Path, tmp_path: Path, transport: str, topic: str, shown: str
) -> None:
    """In RViz's place a script, which tells what RViz is given."""
    prefix = tmp_path / "prefix"
    for file in ("share/ament_index/resource_index/packages/rviz2", "lib/rviz2/rviz2"):
        (prefix / file).parent.mkdir(parents=True, exist_ok=True)
        (prefix / file).write_text(RVIZ)
        (prefix / file).chmod(0o755)
    images = (f"image_transport:={transport}", f"image_topic:={topic}")
    given = ("rviz:=true", "namespace:=car", "autostart:=false", *images)
    launched = launch(workspace, *given, domain=any_domain(), TMPDIR=str(tmp_path), PREFIX=str(prefix))
    said = ""
    for line in launched.stdout or ():
        said += line
        if "Value: /road_seg/mask" in line:
            break
    said += end(launched)
    assert f"Value: {shown}\n" in said
    assert f"-r /image:={topic}" in said and "Value: /road_seg/road_grid" in said
    assert not list(tmp_path.glob("road_seg_*.rviz"))
