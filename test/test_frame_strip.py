# SPDX-License-Identifier: Apache-2.0
"""The program that draws the README's picture, run as its page says, on pictures whose road the tiny model knows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import fork_server
import numpy as np
import pytest
from tiny_model import write_tiny_model

GREY, GREEN = (128, 128, 128), (0, 200, 0)  # road and not road to the tiny model


def draw(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return fork_server.ROS.run("scripts/frame_strip.py", *arguments, timeout=120)


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    paths = []
    for number, colour in enumerate((GREY, GREEN, GREEN, GREY)):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), np.full((60, 200 + number, 3), colour, np.uint8))
    return paths


def test_two_frames_a_row_with_their_road_tinted(frames: list[Path], tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    done = draw("--model", write_tiny_model(tmp_path / "tiny.onnx"), "--output", strip, *frames)
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(strip))
    height, width = picture.shape[:2]
    for top, left, colour in ((0, 0, GREY), (0, 1, GREEN), (1, 0, GREEN), (1, 1, GREY)):
        middle = picture[height // 4 + top * height // 2, width // 4 + left * width // 2]
        assert (tuple(middle) == colour) == (colour == GREEN)
    assert not list(tmp_path.glob("*.part.*"))


def test_mistakes_are_told(frames: list[Path], tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    not_one = tmp_path / "text.png"
    not_one.write_text("no picture")
    for given, words in (
        ([*frames[:3]], "even number of frames"),
        ([frames[0], not_one], "text.png is not an image"),
    ):
        done = draw("--model", model, "--output", tmp_path / "strip.png", *given)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert "text.png" in draw("--model", not_one, "--output", tmp_path / "strip.png", *frames).stderr
    assert not (tmp_path / "strip.png").exists()
