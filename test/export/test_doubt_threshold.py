# SPDX-License-Identifier: Apache-2.0
"""A model file gets its doubt threshold, from frames or as a number, and is the same file otherwise."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import cv2
import fork_server
import numpy as np
import onnx
import pytest
from kitti_folder import add_frame
from tiny_model import write_tiny_model

from export import doubt as program
from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.inference.doubt import doubt
from train.frames.kitti import find_frames


def run(*arguments: str | Path) -> tuple[int, str]:
    done = fork_server.TRAINER.run(program.__file__, *arguments, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of one grey each, which the tiny model finds to be more or less of a road."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(program.FEWEST):
        path = folder / "image_2" / f"um_{number:06}.png"
        add_frame(folder, path.name)
        picture = np.full((30, 40, 3), 100, np.uint8)
        picture[..., 0] += np.uint8(number)  # bluer, so less road
        assert cv2.imwrite(str(path), picture)
    return folder


def test_from_frames_it_is_what_nineteen_of_twenty_stay_below(tmp_path: Path, data: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    code, said = run("--model", path, "--data", data)
    assert code == 0, said
    segmenter = RoadSegmenter(path, "cpu")
    limit = segmenter.info.doubt_threshold
    assert limit is not None and f"warns of a doubt above {limit:g}" in said
    doubts = [doubt(segmenter.probability(frame.read()[0])) for frame in find_frames(data)]
    assert sum(value > limit for value in doubts) == len(doubts) // 20


def test_nothing_else_in_the_file_changes(tmp_path: Path) -> None:
    path, other = write_tiny_model(tmp_path / "m.onnx", doubt_threshold=0.5), write_tiny_model(tmp_path / "o.onnx")
    code, said = run("--model", path, "--threshold", "0.25")
    assert code == 0, said
    before, after = model_file.read(other), model_file.read(path)
    assert after.info.doubt_threshold == 0.25
    for field in fields(before.info):
        if field.name != "doubt_threshold":
            np.testing.assert_array_equal(getattr(after.info, field.name), getattr(before.info, field.name))
    assert onnx.load(path).graph == onnx.load(other).graph
    assert after.precision == before.precision
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.onnx", "o.onnx"]


def test_mistakes_are_sentences_and_leave_the_file_alone(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    before = path.read_bytes()
    (tmp_path / "few").mkdir()
    add_frame(tmp_path / "few", "um_000000.png")
    for arguments, sentence in (
        (["--threshold", "19"], "--threshold is 19, but it must be from 0 to 1."),
        (["--threshold", "nan"], "--threshold is nan, but it must be from 0 to 1."),
        (["--data", tmp_path / "few"], f"--data has 1 frames, but {program.FEWEST} are needed at least"),
        (["--data", tmp_path / "nowhere"], "nowhere"),
    ):
        code, said = run("--model", path, *arguments)
        assert code == 1 and sentence in said
    assert path.read_bytes() == before
    code, said = run("--model", tmp_path / "missing.onnx", "--threshold", "0.2")
    assert code == 1 and "missing.onnx does not exist" in said
