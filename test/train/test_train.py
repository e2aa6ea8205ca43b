# SPDX-License-Identifier: Apache-2.0
"""The trainer as a user runs it: a command line, a run folder, and a model file at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from kitti_folder import add_frame
from trainer_process import ROOT, add_road_frame, train, train_by_itself, write_tiny_preset

from road_seg_node.inference import RoadSegmenter
from train.frames.data_error import DataError
from train.frames.datasets import gather

REAL = (0.1, 0.0, {})  # a tenth is held out, no synthetic scenes, and no folder counts more than another


@pytest.fixture(scope="module")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_preset(tmp_path_factory.mktemp("preset") / "tiny.yaml")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of three sizes."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(9):
        add_road_frame(folder, number)
    return folder


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_preset: Path, frames: Path) -> tuple[Path, str]:
    """(run folder, what the trainer printed) in an interpreter of its own, with the exporter as it is."""
    run = tmp_path_factory.mktemp("runs") / "run"
    done = train_by_itself("--data", frames, "--preset", tiny_preset, "--run", run)
    assert done.returncode == 0, done.stderr
    return run, done.stdout


def test_a_run_leaves_checkpoints_and_a_model_that_the_node_takes(finished_run: tuple[Path, str]) -> None:
    run, printed = finished_run
    info = RoadSegmenter(run / "road_seg.onnx", "cpu").info
    assert info.architecture == "VGG-FCN-8 width 0.0625 batch-norm pool5"
    assert info.metrics["road_iou"].keys() == {"synthetic", info.dataset.split(", ")[0]}
    assert f"seg.launch.py model:={run / 'road_seg.onnx'}" in printed


def test_a_run_starts_from_the_model_file_of_another(
    finished_run: tuple[Path, str], tiny_preset: Path, frames: Path, tmp_path: Path
) -> None:
    model = finished_run[0] / "road_seg.onnx"
    done = train("--data", frames, "--preset", tiny_preset, "--init", model, "--epochs", "1", "--run", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Starting from {model}: features, score_top" in done.stdout
    assert torch.load(tmp_path / "best.pt", weights_only=True)["preset"]["init"] == str(model)


def test_a_drive_that_is_left_out_is_not_validated_on(tmp_path: Path) -> None:
    for drive, folder in (("a", "training"), ("b", "training"), ("b", "validation")):
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(4):
            add_frame(tmp_path / folder, f"{drive}_{number:06}.png")
    frames = gather([str(tmp_path / "training")], ["b"], *REAL)
    assert (len(frames.training), [len(held) for held in frames.held.values()]) == (3, [1])
    assert {frame.drive for frame in frames.training} == {"a"}


def test_two_folders_of_one_name_are_both_validated_on(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for number in range(4):
            (tmp_path / folder / "road").mkdir(parents=True, exist_ok=True)
            add_frame(tmp_path / folder / "road", f"um_{number:06}.png")
    frames = gather([str(tmp_path / folder / "road") for folder in ("a", "b")], [], *REAL)
    assert {frame.folder.parent.name for frame in frames.held["road"]} == {"a", "b"}


def test_a_link_to_a_folder_keeps_its_own_name_and_validation(tmp_path: Path) -> None:
    for folder in ("elsewhere", "camvid/validation"):
        for number in range(4):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            add_frame(tmp_path / folder, f"um_{number:06}.png")
    (tmp_path / "camvid" / "training").symlink_to(tmp_path / "elsewhere")
    twice = [str(tmp_path / "camvid" / "training")] * 2
    frames = gather(twice, [], *REAL)
    assert len(frames.training) == 4
    assert [frame.folder for frame in frames.held["camvid"]] == [tmp_path / "camvid" / "validation"] * 4


def test_folders_that_all_count_nothing_are_a_sentence(tmp_path: Path) -> None:
    for number in range(4):
        add_frame(tmp_path, f"um_{number:06}.png")
    with pytest.raises(DataError, match="folder_weights are 0"):
        gather([str(tmp_path)], [], 0.1, 0.0, {tmp_path.name: 0.0})


def test_too_little_memory_is_a_sentence() -> None:
    code = """
import numpy as np
from train.train import sentences_for_mistakes
with sentences_for_mistakes():
    np.empty(1 << 50, np.uint8)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Not enough memory: Unable to allocate" in done.stderr and "--micro-batch" in done.stderr


def test_too_few_frames_are_a_sentence(tmp_path: Path) -> None:
    add_frame(tmp_path, "um_000000.png")
    with pytest.raises(DataError, match="too few frames"):
        gather([str(tmp_path)], [], *REAL)


def test_without_kitti_it_says_where_to_get_it_and_how_to_try_without(tmp_path: Path) -> None:
    done = train(cwd=tmp_path)
    assert done.returncode == 2
    for helpful in ("data/data_road/training", "cvlibs.net", "--synthetic-only"):
        assert helpful in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--preset", "huge"], "huge.yaml"),
        (["--leave-out", "um"], "leaves no frame"),
        (["--resume"], "nothing to resume"),
        (["--init", "vgg16.pth"], "vgg16.pth"),
        (["--cache", "-1"], "--cache must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence(
    options: list[str], named: str, frames: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    defaults = ["--data", str(frames), "--preset", str(tiny_preset), "--run", str(tmp_path / "run")]
    done = train(*defaults, *options)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "best.pt").exists()


@pytest.mark.parametrize(("missing", "what"), [("road", "pixel of road"), ("the rest", "valid pixel that is not road")])
def test_frames_that_are_all_alike_are_a_sentence(missing: str, what: str, tiny_preset: Path, tmp_path: Path) -> None:
    for number in range(9):
        add_road_frame(tmp_path, number)
        truth = tmp_path / "gt_image_2" / f"um_road_{number:06}.png"
        picture = cv2.imread(str(truth))
        picture[..., 0 if missing == "road" else 2] &= 0 if missing == "road" else picture[..., 0]
        cv2.imwrite(str(truth), picture)
    done = train("--data", tmp_path, "--preset", tiny_preset, "--run", tmp_path / "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"None of the 6 frames to train on has a {what}" in done.stderr
    assert not (tmp_path / "run").exists()


def test_broken_pictures_are_all_named_before_the_first_epoch(tiny_preset: Path, tmp_path: Path) -> None:
    for number in range(9):
        add_road_frame(tmp_path, number)
    broken = [tmp_path / "image_2" / f"um_{number:06}.png" for number in (1, 4, 8)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-20])
    done = train("--data", tmp_path, "--preset", tiny_preset, "--run", tmp_path / "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for path in broken:
        assert f"{path} is not a PNG or JPEG picture" in done.stderr
    assert not (tmp_path / "run").exists()
