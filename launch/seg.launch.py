# SPDX-License-Identifier: Apache-2.0
"""Starts the node, and where asked a camera and RViz. Its arguments: add --show-args to the command."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from road_seg_node.dds_profile import use_shipped_profile
from road_seg_node.shipped import PACKAGE, shipped_file

NO_CAMERA = "none"


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument("image_topic", default_value="image", description="The topic of the camera's images."),
        DeclareLaunchArgument(
            "model",
            default_value="",
            description="Path of the model file (ONNX). Empty: the params file's, else the one that ships.",
        ),
        DeclareLaunchArgument(
            "provider",
            default_value="",
            choices=["", "auto", "tensorrt", "cuda", "openvino", "cpu"],
            description="What runs the network. Empty: the params file's, which is auto where it says nothing.",
        ),
        DeclareLaunchArgument(
            "threshold",
            default_value="",
            description="A pixel is road where its probability is at least this, 0 to 1; -1: the model file's own. "
            "Empty: the params file's.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(shipped_file("config/road_seg.yaml")),
            description="YAML file with the node's parameters.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of everything that is started."),
        DeclareLaunchArgument(
            "rviz", default_value="false", choices=["true", "false"], description="Start RViz with the node's outputs."
        ),
        DeclareLaunchArgument(
            "camera",
            default_value=NO_CAMERA,
            description=f"Start a camera that publishes on image_topic: {NO_CAMERA}, synthetic, a folder of pictures, "
            "or a video.",
        ),
    ]


def launch_setup(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = context.launch_configurations
    params_file = Path(given["params_file"]).expanduser()
    if not params_file.is_file():
        raise RuntimeError(f"There is no params_file {params_file}; give the path of a YAML file.")
    parameters: dict[str, str | float] = {name: given[name] for name in ("model", "provider") if given[name]}
    if given["threshold"]:
        try:
            parameters["threshold"] = float(given["threshold"])
        except ValueError:
            raise RuntimeError(f"threshold must be a number, not {given['threshold']!r}.") from None
    # For every process below; each reads it as it starts.
    use_shipped_profile(context.environment)

    namespace, image_topic = given["namespace"], given["image_topic"]
    nodes = [
        Node(
            package=PACKAGE,
            executable="road_seg_node",
            name="road_seg",
            namespace=namespace,
            parameters=[str(params_file), parameters],
            remappings=[("image", image_topic)],
            output="screen",
        )
    ]
    if given["camera"] != NO_CAMERA:
        nodes.append(
            Node(
                package=PACKAGE,
                executable="road_seg_camera",
                name="camera",
                namespace=namespace,
                parameters=[{"source": given["camera"]}],
                remappings=[("image", image_topic)],
                output="screen",
            )
        )
    if given["rviz"] == "true":
        # The RViz file names topics absolutely; these rules bring them to where they are.
        outputs = [(f"/road_seg/{name}", f"road_seg/{name}") for name in ("mask", "overlay")]
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=namespace,
                arguments=["-d", str(shipped_file("rviz/road_seg.rviz"))],
                remappings=[("/image", image_topic), *outputs],
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*arguments(), OpaqueFunction(function=launch_setup)])
