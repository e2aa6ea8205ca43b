# SPDX-License-Identifier: Apache-2.0
"""The trainer's benchmark as a user runs it: every row measures, on frames of one's own and on synthetic ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import fork_server
import pytest
from trainer_process import LIMIT, ROOT, add_road_frame, write_tiny_preset

ROWS = ["plain PyTorch", "ours", "ours in fp32", "ours, loader in line"]


def bench(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return fork_server.TRAINER.run(ROOT / "bench" / "train.py", *options, timeout=LIMIT)


def test_all_rows_are_measured_in_one_run(tmp_path: Path) -> None:
    for number in range(9):
        add_road_frame(tmp_path, number)
    preset = write_tiny_preset(tmp_path / "tiny.yaml", workers=1, autocast="bf16")
    short = ("--rounds", "2", "--steps", "2", "--json", tmp_path / "train.json")
    done = bench("--preset", preset, "--data", tmp_path, *short)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "train.json").read_text())
    assert [row["row"] for row in found] == ROWS
    for row in found:
        assert row["steps"] == 4 and row["batch"] == 4
        assert row["images_per_s"] == pytest.approx(4e3 / row["step_ms"])
        assert 0 <= row["waiting_ms"] < row["step_ms"] <= row["p90_ms"]
        assert f"{row['row']:24} {row['images_per_s']:9.2f}" in done.stdout


@pytest.mark.parametrize(
    ("options", "named"), [(["--preset", "huge"], "huge.yaml"), (["--data", "nowhere"], "nowhere is not a folder")]
)
def test_a_mistake_is_a_sentence(options: list[str], named: str) -> None:
    done = bench(*options)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr
