# SPDX-License-Identifier: Apache-2.0
"""The three programs that `ros2 run` starts, by the names that setup.py gives them."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def node() -> NoReturn:
    _run("road_seg_node", "road_seg_node.node.node")


def camera() -> NoReturn:
    _run("road_seg_camera", "road_seg_node.camera.camera")


def recorder() -> NoReturn:
    _run("road_seg_recorder", "road_seg_node.camera.recorder")


def _run(name: str, module: str) -> NoReturn:
    # A signal waits until the program can answer it, so before anything else is imported.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    from road_seg_node.ros import program
    from road_seg_node.shipped import version

    if sys.argv[1:] == ["--version"]:  # which needs no ROS
        print(name, version())
        sys.exit(0)
    program.run(name, module)
