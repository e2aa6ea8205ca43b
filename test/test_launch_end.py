# SPDX-License-Identifier: Apache-2.0
"""How a launch ends, and that nothing that it has started goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from launch_process import PROGRAMS, end, launch, processes, processes_of, skip_without_launch
from node_process import PATIENCE, Planner, any_domain, wait_until
from rosbags.rosbag2 import Reader
from tiny_model import write_tiny_model

skip_without_launch()


def test_node_that_fails_leaves_its_sentence(workspace: Path) -> None:
    """Launch ends by itself, when nothing runs any more."""
    said, _ = launch(workspace, "model:=/nowhere/road.onnx", domain=any_domain()).communicate(timeout=PATIENCE)
    assert "/nowhere/road.onnx" in said
    assert "process has died" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("respawns", [0, 1])
def test_a_required_node_ends_the_launch_with_its_failure(workspace: Path, respawns: int) -> None:
    again = ("respawn:=true", f"respawn_max_retries:={respawns}") if respawns else ()
    given = ("model:=/nowhere/road.onnx", "required:=true", "camera:=synthetic", *again)
    launched = launch(workspace, *given, domain=any_domain())
    said, _ = launched.communicate(timeout=PATIENCE)
    assert launched.returncode != 0
    assert "road_seg is required, and has ended with status 2." in said
    assert said.count("/nowhere/road.onnx does not exist") == 1 + respawns
    assert not processes_of(workspace)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_all_ends_with_the_launch(workspace: Path, tmp_path: Path, number: signal.Signals) -> None:
    """However it ends; and what was recorded is in its file. Beside a prefix of the user's own."""
    if subprocess.run(["setpriv", "--pdeathsig", "TERM", "true"], capture_output=True, check=False).returncode:
        pytest.skip("setpriv is not here, or knows no --pdeathsig: it is of util-linux 2.33 or newer")
    model, file = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "drive.mcap"
    given = ("camera:=synthetic", f"model:={model}", "provider:=cpu", f"record:={file}", "launch-prefix:=nice -n 3")
    launched = launch(workspace, *given, domain=any_domain())
    said = ""
    for line in launched.stdout or ():
        said += line
        if "Recording into" in line:
            break
    wait_until(lambda: sum(part.stat().st_size for part in tmp_path.glob("drive.part/*.mcap")) > 10_000, "a recording")
    started = processes(launched.pid)
    assert set(started) == set(PROGRAMS), said
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in started.values()} == {min(own + 3, 19)}
    launched.send_signal(number)
    launched.communicate(timeout=PATIENCE)
    wait_until(lambda: not processes_of(workspace), "all processes to end")
    with Reader(file) as reader:
        assert reader.message_count


def test_a_killed_node_is_started_again_and_answers(workspace: Path, pictures: Path, tmp_path: Path) -> None:
    domain = any_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    launched = launch(
        workspace, f"camera:={pictures}", f"model:={model}", "provider:=cpu", "respawn:=true", domain=domain
    )
    planner = Planner(domain)
    try:
        planner.listen("mask")
        wait_until(lambda: planner.received["mask"], "a mask")
        first = processes(launched.pid)["road_seg_node"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: processes(launched.pid).get("road_seg_node", first) != first, "another process")
        planner.received["mask"].clear()
        wait_until(lambda: planner.received["mask"], "a mask of the new node")
    finally:
        planner.close()
        said = end(launched)
    assert "Traceback" not in said
    assert not [process for process in processes_of(workspace) if process != os.getpid()]
