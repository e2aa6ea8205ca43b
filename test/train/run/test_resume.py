# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed, interrupted, or meet a full disk, and are resumed."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fork_server
import pytest
import torch
from small_shm import with_shared_memory
from trainer_process import (
    LIMIT,
    QUICK,
    ROOT,
    TRAIN,
    add_road_frame,
    assert_same_weights,
    curve,
    train,
    write_tiny_preset,
)

from train.network import checkpoint
from train.network.checkpoint import CheckpointError

EVERY_STEP = ("--save-every", "0")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Of a run with dropout, fc6 and fc7, batches made in another thread, and 12 steps of mixed image sizes."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(24):
        add_road_frame(folder / "frames", number)
    preset = write_tiny_preset(folder / "tiny.yaml", head="fc", width=1 / 32, workers=1, epochs=3, synthetic_share=0.0)
    return ["--data", folder / "frames", "--preset", preset]


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory, options: list[str | Path]) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unkilled"
    done = train(*options, "--run", run)
    assert done.returncode == 0, done.stderr
    return run


def start(*options: str | Path) -> fork_server.Program:
    """The trainer, as the leader of a process group."""
    return fork_server.TRAINER.start(TRAIN, *options, stderr=subprocess.PIPE, new_session=True)


def wait_for_saves(run: Path, number: int, process: fork_server.Program | subprocess.Popen[str]) -> None:
    """Until `process` has written so many checkpoints."""
    last, seen = run / checkpoint.LAST, set()
    before = last.stat().st_mtime_ns if last.exists() else None
    end = time.monotonic() + LIMIT
    while len(seen) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{last} was not written"
        try:
            seen |= {last.stat().st_mtime_ns} - {before}
        except FileNotFoundError:  # before the first, and between the two renames
            pass
        time.sleep(0.001)


@pytest.mark.parametrize("kills", [1, *(pytest.param(3, marks=pytest.mark.soak, id=f"3-{n}") for n in range(5))])
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(
    options: list[str | Path], unkilled: Path, tmp_path: Path, kills: int
) -> None:
    run = tmp_path / "run"
    seed = random.SystemRandom().randrange(1000)
    print(f"seed of the moments: {seed}")  # pytest shows it where the test fails
    moments = random.Random(seed)
    for kill in range(kills):
        process = start(*options, "--run", run, *EVERY_STEP, *(["--resume"] if kill else []))
        wait_for_saves(run, moments.randint(1, 4), process)
        time.sleep(moments.uniform(0, 0.1))  # in a step, a validation, or the writing of a checkpoint
        process.kill()
        process.communicate(timeout=LIMIT)
        assert process.returncode == -signal.SIGKILL
    finished = train(*options, "--run", run, "--resume")
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(run / checkpoint.LAST, unkilled / checkpoint.LAST)
    best, same = (torch.load(folder / checkpoint.BEST, weights_only=True) for folder in (run, unkilled))
    assert best["metrics"] == same["metrics"]


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_saves_the_step_in_hand(
    options: list[str | Path], tmp_path: Path, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    """The group: as a terminal's Ctrl-C, systemd, SLURM and timeout send it."""
    run = tmp_path / "run"
    process = start(*options, "--workers", "2", "--run", run, *EVERY_STEP)
    wait_for_saves(run, 2, process)
    send(process.pid, number)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    sentence = f"stopped by {number.name}; everything is saved. Continue with --resume and the same --run-folder."
    assert said.strip() == f"train.py: {sentence}"
    state = checkpoint.read(run / checkpoint.LAST)
    assert (state["epoch"], state["batch"]) != (0, 0)


def test_what_is_ignored_stays_ignored(options: list[str | Path], unkilled: Path, tmp_path: Path) -> None:
    """As nohup asks for."""
    run = tmp_path / "run"
    command = ["nohup", *QUICK, *options, "--run", run, *EVERY_STEP]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes, start_new_session=True)
    wait_for_saves(run, 2, process)
    os.killpg(process.pid, signal.SIGHUP)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    assert_same_weights(run / checkpoint.LAST, unkilled / checkpoint.LAST)


def test_a_run_that_has_not_begun_ends_with_a_sentence(options: list[str | Path], tmp_path: Path) -> None:
    """While it reads a frame from a pipe, into which nobody writes."""
    data = tmp_path / "waiting"
    shutil.copytree(options[1], data)
    image = next((data / "image_2").iterdir())
    image.unlink()
    os.mkfifo(image)
    process = start("--data", data, *options[2:], "--run", tmp_path / "run")
    with image.open("wb"):  # opens once the trainer has opened it for reading
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("train.py: stopped by SIGTERM") and "Traceback" not in said


def test_a_frame_broken_in_its_middle_stops_the_run_until_it_is_mended(
    options: list[str | Path], unkilled: Path, tmp_path: Path
) -> None:
    """Its header and its end are whole, so that it is found once it is decoded."""
    data, run = tmp_path / "frames", tmp_path / "run"
    shutil.copytree(options[1], data)
    image = data / "image_2" / "um_000000.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2] + b"\0" * 9 + whole[len(whole) // 2 + 9 :])
    arguments = ("--data", data, *options[2:], "--run", run)
    done = train(*arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{image} is not a PNG or JPEG picture" in done.stderr and "Everything is saved" in done.stderr
    image.write_bytes(whole)
    done = train("--run", run, "--resume", "--cache", "0")
    assert done.returncode == 0, done.stderr
    assert_same_weights(run / checkpoint.LAST, unkilled / checkpoint.LAST)


def test_a_small_shared_memory_changes_nothing(options: list[str | Path], unkilled: Path, tmp_path: Path) -> None:
    """Docker gives 64 MB, of which batches took more; here it holds no batch at all."""
    run = tmp_path / "run"
    command = [*QUICK, *map(str, options), "--workers", "4", "--run", str(run)]
    small = with_shared_memory("16k", command)
    done = subprocess.run(small, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(curve(run, "train/loss")) == 12
    assert_same_weights(run / checkpoint.LAST, unkilled / checkpoint.LAST)


@pytest.fixture
def two_saves(unkilled: Path, tmp_path: Path) -> Path:
    """A run with `last.pt` and `previous.pt`."""
    run = tmp_path / "run"
    run.mkdir()
    for name in (checkpoint.LAST, checkpoint.PREVIOUS):
        shutil.copy(unkilled / checkpoint.LAST, run / name)
    return run


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_passed_over(two_saves: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    last = two_saves / checkpoint.LAST
    data = bytearray(last.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data.clear()
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, last)
    else:
        last.write_bytes(data)
    path, state = checkpoint.newest_good(two_saves)
    assert path.name == checkpoint.PREVIOUS and state["epoch"] == 3
    assert str(last) in caplog.text and checkpoint.PREVIOUS in caplog.text
    (two_saves / checkpoint.PREVIOUS).write_bytes(b"")
    with pytest.raises(CheckpointError, match="start again") as said:
        checkpoint.newest_good(two_saves)
    assert str(last) in str(said.value) and str(two_saves / checkpoint.PREVIOUS) in str(said.value)


def test_killed_between_two_names_the_one_before_is_taken(two_saves: Path) -> None:
    (two_saves / checkpoint.LAST).replace(two_saves / f"new.{checkpoint.LAST}")
    assert checkpoint.newest_good(two_saves)[0].name == checkpoint.PREVIOUS


def test_a_full_disk_is_a_sentence_and_leaves_the_old_checkpoint(options: list[str | Path], tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: the write fails in its middle."""
    run = tmp_path / "run"
    process = start(*options, "--run", run, *EVERY_STEP)
    wait_for_saves(run, 1, process)
    size = (run / checkpoint.LAST).stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "cannot be written" in said and "File too large" in said and "Traceback" not in said
    assert not list(run.glob("*.part"))
    checkpoint.read(run / checkpoint.LAST)
