# SPDX-License-Identifier: Apache-2.0
"""Two processes against one: the same losses, weights and validation."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_process import COMMAND, LIMIT, QUICK, ROOT, add_road_frame, curve, write_tiny_preset

from train.network import checkpoint

# torchrun gives each process one thread; with another number of threads, sums have another order.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What `shared_work.py` did, by the number of processes."""
    folder, script = tmp_path_factory.mktemp("work"), str(Path(__file__).with_name("shared_work.py"))
    run([sys.executable, script, str(folder / "1.pt")])
    run([*TORCHRUN, script, str(folder / "2.pt")])
    done = {number: torch.load(folder / f"{number}.pt", weights_only=True) for number in (1, 2)}
    assert [done[number]["processes"] for number in (1, 2)] == [1, 2]
    return done


@pytest.mark.parametrize("kind", ["whole", "parts"])
def test_steps_of_two_processes_are_those_of_one(work: dict[int, dict[str, Any]], kind: str) -> None:
    """Whole: with batch norm and Dice, which see the whole batch. Parts: accumulated in each process."""
    one, two = work[1][kind], work[2][kind]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-12)
    assert len(set(one["losses"])) == len(one["losses"])
    for kind in ("gradients", "averages"):
        assert one[kind].keys() == two[kind].keys()
        for name, value in one[kind].items():
            torch.testing.assert_close(two[kind][name], value, rtol=1e-9, atol=1e-12, msg=f"{kind} of {name}")


def test_validation_of_two_processes_is_that_of_one_exactly(work: dict[int, dict[str, Any]]) -> None:
    assert work[2]["counts"] == work[1]["counts"]
    assert [sum(map(sum, counts)) for counts in work[1]["counts"]] == [5 * 40 * 60, 40 * 60]


def test_torchrun_trains_as_one_process_does(tmp_path: Path) -> None:
    """The loss curve, the validation, one folder, one voice."""
    for number in range(24):
        add_road_frame(tmp_path / "frames", number)
    preset = write_tiny_preset(tmp_path / "tiny.yaml", synthetic_share=0.0)
    options = [QUICK[1], "--data", str(tmp_path / "frames"), "--preset", str(preset), "--run-folder"]
    alone = run([sys.executable, *options, str(tmp_path / "one")])
    together = run([*TORCHRUN, *options, str(tmp_path / "two")])
    one, two = tmp_path / "one", tmp_path / "two"
    assert together.stdout.count("Epoch 1/2") == alone.stdout.count("Epoch 1/2") == 1
    files = [{path.name for path in run.iterdir() if "tfevents" not in path.name} for run in (one, two)]
    assert files[0] == files[1]
    assert len(list(two.glob("*tfevents*"))) == 1
    losses, shared = curve(one, "train/loss"), curve(two, "train/loss")
    assert [step for step, _ in losses] == [step for step, _ in shared] == list(range(1, 9))
    assert [loss for _, loss in shared] == pytest.approx([loss for _, loss in losses], rel=1e-3)
    for (_, iou), (_, expected) in zip(*(curve(run, "validation/road_iou/frames") for run in (two, one)), strict=True):
        assert iou == pytest.approx(expected, abs=0.01)


def test_the_documented_line_works_where_the_hosts_name_has_no_address(tmp_path: Path) -> None:
    """torchrun alone, and with --standalone alone, waits there for ever."""
    line = re.search(r"`(torchrun [^`]*) train/train.py --run-folder", (ROOT / "docs" / "training.md").read_text())
    assert line, "docs/training.md no longer says how to train in two processes"
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*renamed, "true"], check=False).returncode:
        pytest.skip("a host's name of its own needs `unshare --uts`, which is not there or not allowed here")
    options = line[1].split()[1:]
    script = str(Path(__file__).with_name("joined_processes.py"))
    command = [*renamed, sys.executable, "-m", "torch.distributed.run", *options, script]
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["2.0", "2.0"]


def test_sigterm_to_all_at_once_is_said_once_and_everything_is_saved(tmp_path: Path) -> None:
    """As systemd and SLURM send it: to torchrun and to each process, to which torchrun sends it too."""
    for number in range(12):
        add_road_frame(tmp_path / "frames", number)
    preset = write_tiny_preset(tmp_path / "tiny.yaml", synthetic_share=0.0, epochs=10_000)
    run = tmp_path / "run"
    command = [*TORCHRUN, COMMAND[1], "--data", str(tmp_path / "frames"), "--preset", str(preset)]
    process = subprocess.Popen(
        [*command, "--run-folder", str(run)],
        cwd=ROOT,
        env=ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for printed in process.stdout:
        if printed.startswith("Epoch 1/"):
            break
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    assert said.count("train.py: stopped by SIGTERM; everything is saved.") == 1
    assert checkpoint.read(run / checkpoint.LAST)["epoch"] >= 1


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    command = [*TORCHRUN, COMMAND[1], "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    assert done.stderr.count("train.py: ") == 1
