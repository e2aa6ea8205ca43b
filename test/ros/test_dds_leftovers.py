# SPDX-License-Identifier: Apache-2.0
"""Of a killed process's shared memory nothing stays once the next one starts; a living one's is left alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from node_process import REPOSITORY, any_domain, wait_until, write_weighted_model

from road_seg_node.ros.dds_leftovers import SHARED_MEMORY, remove_leftovers

PARTICIPANT = """
import rclpy
rclpy.init()
node = rclpy.create_node("participant")
print("here", flush=True)
rclpy.spin(node)
"""


def start() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARTICIPANT],
        env={**os.environ, "ROS_DOMAIN_ID": str(any_domain())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "here\n"
    return process


def segments(process: subprocess.Popen[str]) -> set[str]:
    """The segments that the process itself has made: it alone holds their locks."""
    held = {str(path.resolve()) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
    return {match[1] for path in held if (match := re.fullmatch(r"/dev/shm/(fast(?:rtps|dds)_[0-9a-z]{16})_el", path))}


def age(names: set[str], seconds: float = 3600.0) -> None:
    """Makes the segments so old: an hour."""
    then = time.time() - seconds
    for name in names:
        with suppress(FileNotFoundError):  # gone, since they belonged to a dead process
            os.utime(SHARED_MEMORY / f"{name}_el", (then, then))


@pytest.fixture
def participants() -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    killed, living = start(), start()
    made = segments(killed) | segments(living)
    yield killed, living
    for process in (killed, living):
        process.kill()
        process.communicate()
    age(made)
    remove_leftovers()


def test_what_a_killed_process_left_goes_and_what_lives_stays(participants) -> None:
    killed, living = participants
    left, used = segments(killed), segments(living)
    assert left and used
    age(left | used, 0.0)  # to start took as long as the machine was busy
    killed.kill()
    killed.wait()
    assert all((SHARED_MEMORY / name).exists() for name in left | used)
    assert not left & set(remove_leftovers())  # it might be one that another process is just making
    age(left | used)
    assert not used & set(remove_leftovers())
    for name in left:  # gone, whether by this call or by that of a node that starts beside this test
        assert not list(SHARED_MEMORY.glob(f"*{name}*"))
    for name in used:
        assert (SHARED_MEMORY / name).exists() and (SHARED_MEMORY / f"{name}_el").exists()
    assert living.poll() is None


def test_the_node_clears_away_as_it_starts(participants, tmp_path: Path) -> None:
    killed, _ = participants
    left = segments(killed)
    age(left, 0.0)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    age(left)
    model = write_weighted_model(tmp_path / "weighted.onnx")
    node = subprocess.Popen(
        [sys.executable, "-m", "road_seg_node.node.node", "--ros-args", "-p", f"model:={model}"],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(any_domain())},
    )
    try:
        wait_until(lambda: not [name for name in left if (SHARED_MEMORY / name).exists()], "the segments to go")
    finally:
        node.terminate()
        node.wait()
