# SPDX-License-Identifier: Apache-2.0
"""Starts the node, and where asked a camera, a recorder and RViz. Its arguments: add --show-args to the command.

For several cameras give image_topics; or, for a process each, include it several times, each with another namespace
and in a GroupAction of its own, see docs/launch.md.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnShutdown
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch_ros.actions import Node
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from road_seg_node.camera.recorder import RecorderError, checked_file
from road_seg_node.camera.shots import CameraError, Source
from road_seg_node.camera.sources import open_source
from road_seg_node.node.parameters import SETTINGS
from road_seg_node.ros.dds_profile import VARIABLES, use_shipped_profile
from road_seg_node.ros.topics import camera_name
from road_seg_node.shipped import PACKAGE, shipped_file

NONE = "none"
RESPAWN_DELAY = 0.5  # seconds, so that a node that cannot start does not fill the log
PARAMS_FILE_S = "Empty: as in the params file."
LEVELS = ["debug", "info", "warn", "error", "fatal"]
BOOLEAN = ["true", "false"]
# Arguments that launch itself takes from any launch file's.
OF_LAUNCH = {"launch-prefix", "launch-prefix-filter", "emulate_tty", "sigterm_timeout", "sigkill_timeout"}
# launch leaves its processes when it gets SIGTERM or SIGKILL (ros2/launch issue 666); so the kernel tells them.
WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")
# Parameters of the node that are arguments too, for they differ from robot to robot: name, what a text becomes,
# description.
PARAMETERS = (
    ("image_topics", str.split, "Topics of several cameras, separated by spaces, which the node answers in turn."),
    ("model", str, "compact, full, or a model file's path. Empty: as in the params file, else by the provider."),
    ("threshold", float, f"A pixel is road if its probability is at least this. -1: the model's own. {PARAMS_FILE_S}"),
    ("camera_height", float, f"Metres from the ground to the lens, for ~/road_grid. {PARAMS_FILE_S}"),
    ("camera_tilt", float, f"How far the camera looks down, in radians. {PARAMS_FILE_S}"),
    ("ground_frame", str, f"Frame of ~/road_grid that TF connects to the camera: base_footprint. {PARAMS_FILE_S}"),
)


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument("image_topic", default_value="image", description="The camera's image topic."),
        DeclareLaunchArgument(
            "image_transport",
            default_value="",
            choices=["", "raw", "compressed"],
            description=f"How images are sent; also used by a camera started here. {PARAMS_FILE_S}",
        ),
        *(DeclareLaunchArgument(name, default_value="", description=text) for name, _, text in PARAMETERS),
        DeclareLaunchArgument(
            "provider",
            default_value="",
            choices=["", "auto", "tensorrt", "cuda", "openvino", "cpu"],
            description=f"What runs the network. {PARAMS_FILE_S}",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(shipped_file("config/road_seg.yaml")),
            description="YAML file with the node's parameters.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of every node started."),
        DeclareLaunchArgument("name", default_value="road_seg", description="Name of the node."),
        DeclareLaunchArgument(
            "autostart",
            default_value="",
            choices=["", *BOOLEAN],
            description=f"Configure and activate the node at start. false: wait for ros2 lifecycle. {PARAMS_FILE_S}",
        ),
        DeclareLaunchArgument(
            "respawn", default_value="false", choices=BOOLEAN, description="Restart the node when it exits."
        ),
        DeclareLaunchArgument(
            "respawn_max_retries", default_value="10", description="How often at most. -1: no limit."
        ),
        DeclareLaunchArgument(
            "required",
            default_value="false",
            choices=BOOLEAN,
            description="End the whole launch when the node exits and is not restarted.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="",
            choices=["", *BOOLEAN],
            description=f"Take the time from /clock, in every node started. {PARAMS_FILE_S}",
        ),
        DeclareLaunchArgument(
            "log_level", default_value="info", choices=LEVELS, description="The node's lowest level of log messages."
        ),
        DeclareLaunchArgument(
            "dds_profile",
            default_value="",
            description=f"Fast DDS XML profile. Empty: the one named by {' or '.join(VARIABLES)}, else "
            f"the shipped one for large images. {NONE}: Fast DDS with its default settings.",
        ),
        DeclareLaunchArgument(
            "rviz", default_value="false", choices=BOOLEAN, description="Start RViz with the node's outputs."
        ),
        DeclareLaunchArgument(
            "fixed_frame", default_value="camera_ground", description="RViz's fixed frame, in which it shows the grid."
        ),
        DeclareLaunchArgument(
            "camera",
            default_value=NONE,
            description=f"Start a camera that publishes on image_topic: {NONE}, synthetic, synthetic:SEED, a folder of "
            "pictures, a video, or a bag.",
        ),
        DeclareLaunchArgument("camera_topic", default_value="", description="The image topic, if a bag has several."),
        DeclareLaunchArgument(
            "record", default_value="", description="Record images and answers into this .mcap file."
        ),
    ]


def launch_setup(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = context.launch_configurations
    # All that can be wrong is looked at first: what is started before an error stays.
    check_names(given)
    check_topics(given)
    set_profile(context, given["dds_profile"])
    if given["rviz"] == "true":
        check_rviz()
    if given["record"]:
        check_record(given["record"])
    source = made_camera(given)
    parameters = node_parameters(given, source)
    retries = whole_number("respawn_max_retries", given)
    transport = given["image_transport"] or transport_of(params_file(given), logger(given))
    clock = {"use_sim_time": given["use_sim_time"] == "true"} if given["use_sim_time"] else {}

    def program(executable: str, name: str, *parameters: Any, **options: Any) -> Node:
        options = {"package": PACKAGE, "remappings": [("image", given["image_topic"])], **options}
        parameters = [*parameters, clock]
        prefix = prefix_of(executable, given)
        return Node(
            executable=executable,
            exec_name=executable,  # otherwise the log names the prefix
            name=name,
            namespace=given["namespace"],
            parameters=parameters,
            prefix=prefix,
            output="screen",
            **options,
        )

    nodes: list[LaunchDescriptionEntity] = [
        # It configures and activates itself, so that it does so after a respawn too.
        program(
            "road_seg_node",
            given["name"],
            params_file(given),
            parameters,
            respawn=given["respawn"] == "true",
            respawn_delay=RESPAWN_DELAY,
            respawn_max_retries=retries,
            on_exit=end_of_all(given, retries) if given["required"] == "true" else None,
            ros_arguments=["--log-level", f"{logger(given)}:={given['log_level']}"],
        )
    ]
    if source is not None:
        asked = {"source": given["camera"], "topic": given["camera_topic"], "image_transport": transport}
        nodes.append(program("road_seg_camera", "camera", asked))
    if given["record"]:
        asked = {"output": given["record"], "node": outputs_of(given), "image_transport": transport}
        nodes.append(program("road_seg_recorder", "recorder", asked))
    if given["rviz"] == "true":
        config = rviz_config(given, transport)
        nodes.append(program("rviz2", "rviz", **rviz(given, config)))
        if config.parent != shipped_file("rviz"):
            nodes.append(RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: config.unlink(missing_ok=True))))
    return nodes


def check_names(given: dict[str, str]) -> None:
    """Names a mistyped argument, of which launch says nothing: as an error on the command line; of a launch file that
    includes this one, whose own arguments are among them, only what is nearly one of ours, as a warning."""
    known = {argument.name for argument in arguments()} | OF_LAUNCH
    words = [word.partition(":=")[0] for word in sys.argv[1:] if ":=" in word]
    here = Path(__file__)
    by_hand = {PACKAGE, here.name} <= {*sys.argv} or here.resolve() in {Path(word).resolve() for word in sys.argv[1:]}
    for name in sorted({*words} - known if by_hand else given.keys() - known):
        likest = difflib.get_close_matches(name, known, 1, 0.5 if by_hand else 0.85)
        meant = f" ({likest[0]}?)" if likest else ""
        if by_hand:
            raise RuntimeError(f"There is no argument {name}{meant}; --show-args lists them.")
        if likest:
            get_logger(PACKAGE).warning(f"{here.name} does not use the argument {name}{meant}.")


def check_topics(given: dict[str, str]) -> None:
    """Whether image_topic can be a topic, and goes with what else is given."""
    topic = given["image_topic"]
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException:
        raise RuntimeError(f"image_topic must be a topic, such as /camera/image_raw, not {topic!r}.") from None
    topics = given["image_topics"].split()
    defaults = {"image_topic": "image", "camera": NONE, "record": "", "rviz": "false"}
    if topics and topic not in topics and any(given[name] != default for name, default in defaults.items()):
        raise RuntimeError(
            f"image_topic must be one of image_topics ({', '.join(topics)}), not {topic!r}: it is the one that camera, "
            "record and rviz are for."
        )


def outputs_of(given: dict[str, str]) -> str:
    """What precedes the names of the node's outputs for the camera on image_topic."""
    camera = camera_name(given["image_topic"]) if given["image_topics"] else ""
    return f"{given['name']}/{camera}".rstrip("/")


def prefix_of(executable: str, given: dict[str, str]) -> str:
    """The command before a program's: the user's own, then what ends the program with launch, however that ends."""
    own = given.get("launch-prefix", "")
    if not re.match(given.get("launch-prefix-filter", ""), executable):
        own = ""
    works = shutil.which(WITH_PARENT[0]) and not subprocess.run([*WITH_PARENT, "true"], capture_output=True).returncode
    return " ".join(filter(None, [own, *(WITH_PARENT if works else ())]))


def end_of_all(given: dict[str, str], retries: int) -> Callable[[ProcessExited, LaunchContext], Any]:
    """What launch does when the node has ended: nothing while it is started again, then it ends with its failure."""
    left = 0 if given["respawn"] == "false" else retries

    def ended(event: ProcessExited, context: LaunchContext) -> Any:
        nonlocal left
        left -= 1
        if context.is_shutdown or left >= 0 or (given["respawn"] == "true" and retries < 0):
            return None
        if event.returncode == 0:
            return Shutdown(reason=f"{given['name']} is required, and has ended")
        raise RuntimeError(f"{given['name']} is required, and has ended with status {event.returncode}.")

    return ended


def set_profile(context: LaunchContext, profile: str) -> None:
    """For every process that is started; each reads it as it starts."""
    if profile and profile != NONE:
        path = Path(os.path.expanduser(profile))
        if not path.is_file():
            raise RuntimeError(f"There is no dds_profile {path}; give the path of an XML file, or {NONE}.")
        try:
            ElementTree.parse(path)
        except (OSError, ElementTree.ParseError) as error:
            raise RuntimeError(f"The dds_profile {path} cannot be read as XML: {error}.") from None
        context.environment.update(dict.fromkeys(VARIABLES, str(path)))
    elif profile == NONE:
        for name in VARIABLES:
            context.environment.pop(name, None)
    elif short := use_shipped_profile(context.environment):
        get_logger(PACKAGE).warning(short)


def params_file(given: dict[str, str]) -> str:
    path = Path(os.path.expanduser(given["params_file"]))
    if not path.is_file():
        raise RuntimeError(f"There is no params_file {path}; give the path of a YAML file.")
    return str(path)


def transport_of(file: str, name: str) -> str:
    """The image_transport that a params file gives the node of that name, which camera and recorder have to share."""
    found = "raw"
    try:
        for pattern, parameters in sections(yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}):
            if pattern.fullmatch("/" + name.replace(".", "/")):
                found = parameters.get("image_transport", found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        raise RuntimeError(
            f"The params_file {file} cannot be read: it must be YAML with the parameters under NODE: ros__parameters:, "
            "as in config/road_seg.yaml."
        ) from None
    return found


def sections(tree: dict[str, Any], path: str = "") -> Iterator[tuple[re.Pattern[str], dict[str, Any]]]:
    """The parameters in a params file, each with what the node's full name has to match, in ROS 2's way of it.

    Namespaces and names may be nested; * is any one name, ** any number of them. Raises AttributeError where it is no
    such file.
    """
    for key, value in tree.items():
        if key == "ros__parameters":
            pattern = re.escape(path).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"/\w+")
            yield re.compile(pattern), value
        else:
            yield from sections(value, f"{path}/{str(key).strip('/')}")


def check_rviz() -> None:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise RuntimeError("RViz is not installed here: install rviz2, or leave out rviz:=true.") from None


def made_camera(given: dict[str, str]) -> Source | None:
    if given["camera"] == NONE:
        return None
    try:
        return open_source(given["camera"], topic=given["camera_topic"])
    except CameraError as error:
        raise RuntimeError(str(error)) from error


def node_parameters(given: dict[str, str], source: Source | None) -> dict[str, str | float | bool | list[str]]:
    """What the arguments say beside the params file."""
    parameters: dict[str, str | float | bool | list[str]] = {}
    for name in ("provider", "image_transport"):
        if given[name]:
            parameters[name] = given[name]
    if given["autostart"]:
        parameters["autostart"] = given["autostart"] == "true"
    if source is not None and source.mounting is not None:
        parameters |= dict(zip(("camera_height", "camera_tilt", "camera_roll"), source.mounting, strict=True))
    settings = {setting.name: setting for setting in SETTINGS}
    for name, kind, _ in PARAMETERS:
        if given[name]:
            value = number(name, given) if kind is float else kind(given[name])
            if not settings[name].accepts(value):
                raise RuntimeError(settings[name].refusal(value))
            parameters[name] = value
    return parameters


def number(name: str, given: dict[str, str]) -> float:
    try:
        return float(given[name])
    except ValueError:
        raise RuntimeError(f"{name} must be a number, not {given[name]!r}.") from None


def whole_number(name: str, given: dict[str, str]) -> int:
    try:
        return int(given[name])
    except ValueError:
        raise RuntimeError(f"{name} must be a whole number, not {given[name]!r}.") from None


def logger(given: dict[str, str]) -> str:
    """The name of the node's logger."""
    return ".".join(part for part in (*given["namespace"].split("/"), given["name"]) if part)


def check_record(file: str) -> None:
    try:
        checked_file(file)
    except RecorderError as error:
        raise RuntimeError(f"record: {error}") from error


def rviz_config(given: dict[str, str], transport: str) -> Path:
    """RViz's file; of compressed images a copy, in which the topic is theirs: a remapping cannot say so."""
    shipped = shipped_file("rviz/road_seg.rviz")
    if transport == "raw":
        return shipped
    base = "" if given["image_topic"].startswith("/") else given["namespace"]
    raw = "/".join(filter(None, f"{base}/{given['image_topic']}".split("/"))).removesuffix("/compressed")
    with tempfile.NamedTemporaryFile("w", prefix="road_seg_", suffix=".rviz", delete=False) as copy:
        copy.write(shipped.read_text(encoding="utf-8").replace("Value: /image\n", f"Value: /{raw}/compressed\n"))
    return Path(copy.name)


def rviz(given: dict[str, str], config: Path) -> dict[str, Any]:
    """How RViz is started, in whose file topics are named absolutely; the rules bring them to where they are."""
    outputs = ("mask", "overlay", "road_grid", "road_grid_updates")
    moved = [(f"/road_seg/{output}", f"{outputs_of(given)}/{output}") for output in outputs]
    return {
        "package": "rviz2",
        "arguments": ["-d", str(config), "-f", given["fixed_frame"]],
        "remappings": [("/image", given["image_topic"]), *moved],
    }


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*arguments(), OpaqueFunction(function=launch_setup)])
