# SPDX-License-Identifier: Apache-2.0
"""`ros2 launch` in a workspace that colcon has built, what it has started, and how it is ended."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from node_process import PATIENCE

PROGRAMS = ("road_seg_node", "road_seg_camera", "road_seg_recorder")


def skip_without_launch() -> None:
    """To be called by a module of tests."""
    if importlib.util.find_spec("launch_ros") is None or shutil.which("ros2") is None:
        pytest.skip("ROS's launch is not here: source a ROS 2 installation", allow_module_level=True)
    if shutil.which("colcon") is None:
        pytest.skip("colcon is not here: pip install colcon-common-extensions", allow_module_level=True)


def launch(
    workspace: Path, *arguments: str, domain: int = 0, file: Path | None = None, **environ: str
) -> subprocess.Popen[str]:
    """`ros2 launch` of seg.launch.py, or of `file`, in a shell that has sourced the workspace, and PREFIX if given."""
    what = "road_seg_node seg.launch.py" if file is None else str(file)
    source = "source install/setup.bash && export AMENT_PREFIX_PATH=$AMENT_PREFIX_PATH${PREFIX:+:$PREFIX}"
    command = f'{source} && exec ros2 launch {what} "$@"'
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
        for name in PROGRAMS:
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
