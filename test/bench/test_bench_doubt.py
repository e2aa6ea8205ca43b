# SPDX-License-Identifier: Apache-2.0
"""bench/doubt.py: a row for everything that it looks at, and its AUROC is the one of the books."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_folder import add_frame
from tiny_model import write_tiny_model
from trainer_process import LIMIT, ROOT

from bench import doubt as program


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, program.__file__, *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize(
    ("known", "unknown", "expected"),
    [([1, 2, 3], [4, 5], 1.0), ([4, 5], [1, 2, 3], 0.0), ([1, 2], [1, 2], 0.5), ([1, 3], [2, 3, 0], 2.5 / 6)],
)
def test_auroc_is_the_share_of_pairs_in_order(known: list[float], unknown: list[float], expected: float) -> None:
    assert program.auroc(known, unknown) == pytest.approx(expected)


def test_every_kind_of_scene_has_a_row(tmp_path: Path) -> None:
    for folder in ("known", "unknown", "rooms"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        add_frame(tmp_path / "known", f"um_{number:06}.png")
        add_frame(tmp_path / "unknown", f"um_{number:06}.png")
        colours = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / "unknown" / "image_2" / f"um_{number:06}.png"), colours)
    assert cv2.imwrite(str(tmp_path / "rooms" / "room.png"), np.full((30, 40, 3), 50, np.uint8))
    model = write_tiny_model(tmp_path / "m.onnx", doubt_threshold=0.125)
    folders = ("--known", tmp_path / "known", "--unknown", tmp_path / "unknown", "--pictures", tmp_path / "rooms")
    done = run("--model", model, *folders)
    assert done.returncode == 0, done.stderr
    found = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in
             (line.split("|") for line in done.stdout.splitlines() if line.startswith("| "))}  # fmt: skip
    assert {*program.TURNED, *program.SPOILT, "rooms"} < set(found)
    frames, _, _, against_known, over = found[f"{tmp_path.name}/unknown"]
    assert (frames, against_known, over) == ("3", "1.00", "100%")
    assert found[f"**{tmp_path.name}/known**"][0] == "3" and found[f"**{tmp_path.name}/known**"][-1] == "0%"
    assert "One doubt of 1242x375 takes " in done.stdout


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    add_frame(tmp_path / "known", "um_000000.png")
    model = write_tiny_model(tmp_path / "m.onnx")
    for options, named in (
        (["--known", tmp_path / "nowhere"], "nowhere"),
        (["--known", tmp_path / "known", "--pictures", tmp_path / "absent"], "absent cannot be read"),
    ):
        done = run("--model", model, *options)
        assert done.returncode == 1 and named in done.stderr and "Traceback" not in done.stderr
