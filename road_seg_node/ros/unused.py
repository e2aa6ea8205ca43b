# SPDX-License-Identifier: Apache-2.0
"""Tells of what a program was given and does not use: mistyped parameters, arguments in the wrong place."""

from __future__ import annotations

import difflib
import sys

from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

_QOS = "qos_overrides."  # parameters that rclpy declares as their topics are subscribed to


def warn_of_arguments(args: list[str] | None, logger: str) -> None:
    """Warns of command line arguments that are not ROS's. args: as main() got them, None: the process's own."""
    if unused := remove_ros_args(sys.argv if args is None else args)[1:]:
        get_logger(logger).warning(
            f"Not used: {' '.join(unused)}. What is for ROS comes after --ros-args: --ros-args -p name:=value"
        )


def given_parameters(node: Node) -> list[str]:
    """Names of what the node was started with, declared or not; rclpy keeps that in a private member alone."""
    return list(node._parameter_overrides)


def warn_of_parameters(node: Node, subscribes: bool = False) -> None:
    """Warns of parameters that the node was started with and has not declared.

    subscribes: its topics' qos_overrides are declared later, so that warn_of_qos_overrides() is to tell of those.
    """
    _warn(node, [name for name in given_parameters(node) if not (subscribes and name.startswith(_QOS))])


def warn_of_qos_overrides(node: Node) -> None:
    """Warns of those that no subscription has taken, such as for another topic's name. Once the node has subscribed."""
    _warn(node, [name for name in given_parameters(node) if name.startswith(_QOS)])


def _warn(node: Node, given: list[str]) -> None:
    known = node.list_parameters([], 0).names
    found = []
    for name in sorted(given):
        if not node.has_parameter(name):
            similar = difflib.get_close_matches(name, known, 1)
            found.append(f"{name} ({similar[0]}?)" if similar else name)
    if found:
        node.get_logger().warning(f"This node has no such parameters, and does not use them: {', '.join(found)}.")
