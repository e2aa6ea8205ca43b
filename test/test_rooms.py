# SPDX-License-Identifier: Apache-2.0
"""The rooms keep to the table in CONTRIBUTING.md, and what runs on the robot loads neither torch nor the trainer."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from rooms import ROOT, allowed, arrows

import road_seg_node

WITHOUT_ROS = (
    "road_seg_node.inference",
    "road_seg_node.camera.kitti_calibration",
    "road_seg_node.synthetic_road.scene",
)
IMPORT_AND_LIST = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sys.modules, sep="\\n")
"""


def loaded_by(*modules: str, path: Path) -> set[str]:
    """The packages that are loaded once those modules are imported, of which stand-ins may lie in `path`."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", IMPORT_AND_LIST, *modules]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_every_room_is_in_the_table() -> None:
    assert set(arrows()) - {"road_seg_node", "train", "export"} == set(allowed())


def test_no_room_imports_what_the_table_does_not_allow() -> None:
    table = allowed()
    forbidden = {
        f"{room} imports from {to}: {', '.join(sorted(files))}"
        for room, targets in arrows().items()
        for to, files in targets.items()
        if to not in table.get(room, ())
    }
    assert not forbidden


def test_the_table_allows_no_circle() -> None:
    rooms = {room: {"/".join(name.split("/")[:2]) for name in names} for room, names in allowed().items()}
    assert len(list(TopologicalSorter(rooms).static_order())) >= len(rooms)


def test_the_robot_loads_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="the node needs ROS 2, which this Python does not have")
    for name in ("torch", "torchvision"):  # stand-ins, so that an import is seen where there is no torch, too
        (tmp_path / f"{name}.py").touch()
    modules = [module.name for module in pkgutil.walk_packages(road_seg_node.__path__, "road_seg_node.")]
    assert len(modules) > 40
    modules.remove("road_seg_node.demo.__main__")
    assert not loaded_by(*modules, path=tmp_path) & {"torch", "torchvision", "train", "export"}


def test_the_engine_loads_no_ros(tmp_path: Path) -> None:
    (tmp_path / "rclpy.py").touch()
    loaded = loaded_by(*WITHOUT_ROS, path=tmp_path)
    assert not {name for name in loaded if name == "rclpy" or name.endswith(("_msgs", "_srvs", "_interfaces"))}
