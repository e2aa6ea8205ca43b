# SPDX-License-Identifier: Apache-2.0
"""Of other libraries' private members one is used, rclpy's, in one place; here a version that moves it shows first."""

from __future__ import annotations

import ast
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
USED = {"road_seg_node/ros/unused.py": {"_parameter_overrides"}, "road_seg_node/ros/program.py": {"os._exit"}}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_other_private_member_is_used() -> None:
    ours, read = set(), defaultdict[str, set[str]](set)
    for path in (REPOSITORY / "road_seg_node").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and private(node.attr):
                if isinstance(node.ctx, ast.Store):
                    ours.add(node.attr)
                else:
                    documented = ast.unparse(node) == "os._exit"
                    read[str(path.relative_to(REPOSITORY))].add("os._exit" if documented else node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
    foreign = {path: names - ours for path, names in read.items() if names - ours}
    assert foreign == USED


def test_rclpy_keeps_what_a_node_was_started_with_where_we_look_for_it() -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2, which this Python does not have")
    from rclpy.context import Context
    from rclpy.node import Node

    from road_seg_node.ros.unused import given_parameters

    context = Context()
    rclpy.init(args=["--ros-args", "-p", "declared:=1", "-p", "mistyped:=2"], context=context)
    try:
        node = Node("any", context=context)
        node.declare_parameter("declared", 0)
        version = metadata.version("rclpy")
        assert hasattr(node, "_parameter_overrides"), f"rclpy {version} has it elsewhere"
        assert set(given_parameters(node)) == {"declared", "mistyped"}, f"rclpy {version}"
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
