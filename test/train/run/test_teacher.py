# SPDX-License-Identifier: Apache-2.0
"""A student learns what its teacher answers, on frames without ground truth too."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import write_tiny_model
from trainer_process import add_road_frame, train, write_tiny_preset

from road_seg_node.inference.segmenter import RoadSegmenter
from train.frames.data_error import DataError
from train.frames.kitti import find_frames
from train.frames.sources import sources_of
from train.labels import CERTAIN
from train.run.teacher import Teacher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        add_road_frame(tmp_path / "training", number)
    return tmp_path / "training"


def test_its_answers_are_kept_and_a_frame_without_ground_truth_gets_them_alone(folder: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "teacher.onnx")
    (folder / "gt_image_2" / "um_road_000002.png").unlink()
    frames = find_frames(folder, unlabelled=True)
    teacher = Teacher(model, 0.5, tmp_path / "run")
    teacher.answer(frames)
    kept = {frame: teacher.path(frame).stat().st_mtime_ns for frame in frames}
    teacher.answer(frames)
    assert {frame: teacher.path(frame).stat().st_mtime_ns for frame in frames} == kept
    image, labels = frames[2].read()
    expected = RoadSegmenter(model, "cpu").probability(image) * (CERTAIN / 255)
    np.testing.assert_allclose(teacher.targets(frames[2], labels), expected, atol=0.5)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nobody\.onnx"):
        Teacher(tmp_path / "nobody.onnx", 0.5, tmp_path)


def test_frames_of_one_name_in_two_drives_have_answers_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("images: '{drive}/{frame}.png'\nmasks: masks/{drive}_{frame}.png\nroad: [1]\n")
    for drive, grey in (("a", 50), ("b", 200)):
        (tmp_path / drive).mkdir()
        cv2.imwrite(str(tmp_path / drive / "0.png"), np.full((40, 96, 3), grey, np.uint8))
    (source,) = sources_of([f"{tmp_path / 'mine.yaml'}:{tmp_path}"])
    frames, _ = source.find(unlabelled=True)
    model = write_tiny_model(tmp_path / "teacher.onnx")
    teacher = Teacher(model, 0.5, tmp_path / "run")
    teacher.answer(frames)
    assert len(frames) == len({teacher.path(frame) for frame in frames}) == 2
    for frame in frames:
        image, labels = frame.read()
        expected = RoadSegmenter(model, "cpu").probability(image) * (CERTAIN / 255)
        np.testing.assert_allclose(teacher.targets(frame, labels), expected, atol=0.5)


def test_a_damaged_answer_is_named(folder: Path, tmp_path: Path) -> None:
    teacher = Teacher(write_tiny_model(tmp_path / "teacher.onnx"), 0.5, tmp_path / "run")
    frame = find_frames(folder)[0]
    teacher.answer([frame])
    cv2.imwrite(str(teacher.path(frame)), np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="is damaged"):
        teacher.targets(frame, frame.read()[1])


def test_a_run_with_a_teacher_takes_a_folder_of_pictures_alone(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "training"
    shutil.copytree(folder / "image_2", bare / "image_2")
    model = write_tiny_model(tmp_path / "teacher.onnx")
    preset = write_tiny_preset(tmp_path / "tiny.yaml", epochs=1, synthetic_share=0.0)
    run = tmp_path / "run"
    options = ("--preset", preset, "--run-folder", run, "--data", bare)
    alone = train(*options, "--teacher", model)
    assert alone.returncode == 2 and "No frame has ground truth" in alone.stderr
    untaught = train(*options, folder)
    assert untaught.returncode == 2 and "gt_image_2 is not a folder" in untaught.stderr
    done = train(*options, folder, "--teacher", model)
    assert done.returncode == 0, done.stderr
    assert "bare: 6 frames to train on without ground truth." in done.stdout
    assert len(list(run.glob("teacher-*/*/*.png"))) == 6 + 4  # two of the other six are held out
