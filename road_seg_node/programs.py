# SPDX-License-Identifier: Apache-2.0
"""The three programs that `ros2 run` starts, by the names that setup.py gives them."""

from __future__ import annotations

from typing import NoReturn

from road_seg_node.ros import program


def node() -> NoReturn:
    program.run("road_seg_node.node.node")


def camera() -> NoReturn:
    program.run("road_seg_node.camera.camera")


def recorder() -> NoReturn:
    program.run("road_seg_node.camera.recorder")
