# SPDX-License-Identifier: Apache-2.0
"""The quota of processor time is found where control groups of either version say it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from road_seg_node.inference import cores

V2, V1 = "0::/system/robot\n", "11:memory:/m\n4:cpuset:/s\n3:cpu,cpuacct:/docker/0123\n"
GROUP = Path("/sys/fs/cgroup/cpu")
ASK = "from road_seg_node.inference.cores import fewer_cores; print(fewer_cores())"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        (V2, {"system/robot/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"system/robot/cpu.max": "max 100000\n"}, None),
        (V2, {"system/robot/cpu.max": "400000 100000\n", "system/cpu.max": "200000 100000\n"}, 2.0),
        (V2, {"cpu.max": "50000 100000\n"}, 0.5),  # a container, to which its own group is the root
        (V2, {}, None),
        (V1, {"cpu/docker/0123/cpu.cfs_quota_us": "250000\n", "cpu/docker/0123/cpu.cfs_period_us": "100000\n"}, 2.5),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 2.0),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_quotas(tmp_path: Path, groups: str, files: dict[str, str], quota: float | None) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores.processor_quota(tmp_path / "cgroup", tmp_path / "fs") == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cores.processor_quota(tmp_path / "nothing", tmp_path) is None


def test_a_process_bound_to_one_core_has_the_use_of_one() -> None:
    def bind() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    said = subprocess.run([sys.executable, "-c", ASK], preexec_fn=bind, check=True, capture_output=True, text=True)
    assert int(said.stdout) == (1 if (os.cpu_count() or 1) > 1 else 0)


@pytest.fixture
def quota_of_one() -> Iterator[Path]:
    """The file by which a process joins a control group that may use one core."""
    group = GROUP / f"road_seg_test_{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs control groups of version 1 and the right to make one")
    (group / "cpu.cfs_quota_us").write_text("100000")
    (group / "cpu.cfs_period_us").write_text("100000")
    yield group / "cgroup.procs"
    group.rmdir()


def test_a_real_quota_is_respected(quota_of_one: Path) -> None:
    def join() -> None:
        quota_of_one.write_text(str(os.getpid()))

    said = subprocess.run([sys.executable, "-c", ASK], preexec_fn=join, check=True, capture_output=True, text=True)
    assert int(said.stdout) == (1 if (os.cpu_count() or 1) > 1 else 0)
