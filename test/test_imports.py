# SPDX-License-Identifier: Apache-2.0
"""What runs on the robot loads neither torch nor the offline programs."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import road_seg_node

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(road_seg_node.__path__, prefix="road_seg_node."))
ROS = (
    "rclpy",
    "rcl_interfaces",
    "sensor_msgs",
    "std_srvs",
    "diagnostic_msgs",
    "nav_msgs",
    "builtin_interfaces",
    "std_msgs",
)

IMPORT_AND_LIST = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sys.modules, sep="\\n")
"""


@pytest.mark.parametrize("module", MODULES)
def test_module_loads_no_torch(module: str, tmp_path: Path) -> None:
    # Stand-ins, so that an import of torch is seen where torch is not installed, too.
    for name in ("torch", "torchvision"):
        (tmp_path / f"{name}.py").touch()
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_LIST, module],
        cwd=REPOSITORY,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if result.returncode != 0 and importlib.util.find_spec("rclpy") is None:
        missing = [name for name in ROS if f"No module named '{name}" in result.stderr]
        if missing:
            pytest.skip(f"{module} needs ROS 2 ({missing[0]}), which this Python does not have")
    assert result.returncode == 0, result.stderr
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "road_seg_node" in loaded
    assert not loaded & {"torch", "torchvision", "train", "export"}


@pytest.mark.parametrize("module", ["road_seg_node.segmenter", "road_seg_node.model_file"])
def test_engine_imports_without_ros(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_LIST, module],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "road_seg_node" in loaded
    assert not loaded & set(ROS)
