# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in its folder, and what it takes from there when it is resumed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer_process import ROOT, add_road_frame, train, write_tiny_preset

from train import preset as presets
from train.frames.data_error import DataError
from train.network import checkpoint
from train.run import run_folder

STEPS = 2 * 4  # two epochs of 16 frames in batches of 4


@pytest.fixture(scope="module")
def stopped_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped within its second epoch; only its folder was named when it was resumed, from elsewhere."""
    folder = tmp_path_factory.mktemp("folder")
    for number in range(24):
        add_road_frame(folder / "frames", number, "umm" if number % 2 else "um")
    write_tiny_preset(folder / "tiny.yaml", synthetic_share=0.0)
    options = ["--data", "frames", "--preset", "tiny.yaml", "--seed", "5", "--run", "run"]
    done = train(*options, "--save-every", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    run = folder / "run"
    state = checkpoint.read(run / checkpoint.PREVIOUS)
    assert (state["epoch"], state["batch"]) == (1, 4)
    (run / checkpoint.PREVIOUS).replace(run / checkpoint.LAST)
    resumed = train("--resume", "--run", run)
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on from epoch 2, batch 5." in resumed.stdout
    return run


def test_everything_is_in_the_folder(stopped_and_resumed: Path) -> None:
    names = {path.name for path in stopped_and_resumed.iterdir() if "tfevents" not in path.name}
    expected = {"best.pt", "last.pt", "previous.pt", "preset.yaml", "run.json", "log.txt", "road_seg.onnx", "report"}
    assert names - {run_folder.PATCH} == expected
    assert {path.name for path in (stopped_and_resumed / "report").iterdir()} == {"metrics.json", "report.png"}
    figures = json.loads((stopped_and_resumed / "report" / "metrics.json").read_text())["perspective"]
    assert figures.keys() == {"um", "umm", "urban"}


def test_the_preset_in_the_folder_is_the_one_that_was_run(stopped_and_resumed: Path) -> None:
    kept = presets.load(str(stopped_and_resumed / run_folder.PRESET), {})
    state = torch.load(stopped_and_resumed / checkpoint.BEST, weights_only=True)
    assert kept.as_dict() == state["preset"]
    assert kept.seed == 5
    assert kept == presets.load(str(stopped_and_resumed.parent / "tiny.yaml"), {"seed": 5})


def test_the_record_names_command_code_and_machine(stopped_and_resumed: Path) -> None:
    record = json.loads((stopped_and_resumed / run_folder.RECORD).read_text())
    data = stopped_and_resumed.parent / "frames"
    assert record["options"] == {"data": [str(data)], "leave_out": [], "micro_batch": None, "fold": None}
    first, second = record["starts"]
    assert "--seed 5" in first["command"] and "--resume" in second["command"]
    assert (first["begin"], second["begin"]) == ("the beginning", "epoch 2, batch 5")
    assert first["machine"]["packages"]["torch"] == torch.__version__
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert first["code"]["commit"] == head.stdout.strip()
    else:
        assert first["code"] is None


def test_the_log_has_what_was_said(stopped_and_resumed: Path) -> None:
    said = (stopped_and_resumed / run_folder.LOG).read_text()
    for line in ("frames: 16 frames to train on", "Starting from nothing", "Epoch 1/2: loss", "Epoch 2/2: loss"):
        assert line in said
    assert said.index("Going on from epoch 2") < said.rindex("Epoch 2/2")


def test_tensorboard_has_curves_table_and_pictures(stopped_and_resumed: Path) -> None:
    events = EventAccumulator(str(stopped_and_resumed), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == list(range(1, STEPS + 1))
    state = checkpoint.read(stopped_and_resumed / checkpoint.LAST)
    assert np.mean([event.value for event in losses[4:]]) == pytest.approx(state["metrics"]["loss"], abs=1e-4)
    rates = [event.value for event in events.Scalars("train/learning_rate")]
    assert rates[0] < max(rates) and rates[-1] == pytest.approx(0, abs=1e-6)
    assert all(event.value > 0 for event in events.Scalars("train/images_per_second"))
    ious = events.Scalars("validation/road_iou/frames")
    assert ious[-1].value == pytest.approx(state["metrics"]["road_iou"]["frames"], abs=1e-4)
    table = events.Tensors("validation/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "| max_f | ap |" in table and "| frames |" in table
    pictures = events.Tags()["images"]
    assert len(pictures) == 4 and all(len(events.Images(tag)) >= 2 for tag in pictures)


def test_a_run_that_has_not_saved_begins_anew(tmp_path: Path) -> None:
    for number in range(9):
        add_road_frame(tmp_path / "frames", number)
    # Its learning rate ends it before a save; what counts is that it began.
    preset = write_tiny_preset(tmp_path / "tiny.yaml", learning_rate=1e30, synthetic_share=0.0)
    options = {"data": [str(tmp_path / "frames")], "leave_out": [], "micro_batch": 2}
    run = tmp_path / "run"
    run.mkdir()
    (run / run_folder.RECORD).write_text(json.dumps({"options": options, "starts": []}))
    (run / run_folder.PRESET).write_text(preset.read_text())
    done = train("--resume", "--run", run, "--epochs", "1")
    assert done.returncode == 1 and "smaller learning_rate" in done.stderr
    assert presets.load(str(run / run_folder.PRESET), {}).epochs == 1
    assert "Going on from the beginning." in done.stdout
    assert "smaller learning_rate" in (run / run_folder.LOG).read_text()


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_folder_that_is_no_run_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / run_folder.RECORD).write_text(content)
    with pytest.raises(DataError, match=str(tmp_path)):
        run_folder.recorded(tmp_path)


def test_the_uncommitted_is_kept_beside_the_commit(stopped_and_resumed: Path) -> None:
    code = json.loads((stopped_and_resumed / run_folder.RECORD).read_text())["starts"][0]["code"]
    if code is None:
        pytest.skip("this is no git repository")
    assert (stopped_and_resumed / run_folder.PATCH).exists() == code["uncommitted_changes"]


@pytest.mark.parametrize("options", [("--leave-out", "umm"), ("--data", "others")])
def test_other_frames_are_not_resumed_with(stopped_and_resumed: Path, options: tuple[str, str]) -> None:
    for number in range(12):
        add_road_frame(stopped_and_resumed.parent / "others", number, "um")
    before = (stopped_and_resumed / run_folder.RECORD).read_bytes()
    done = train("--resume", "--run", stopped_and_resumed, *options, cwd=stopped_and_resumed.parent)
    assert done.returncode == 2 and "Resume it with the same ones" in done.stderr or "was trained on" in done.stderr
    assert (stopped_and_resumed / run_folder.RECORD).read_bytes() == before


def test_a_run_that_cannot_be_kept_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    add_road_frame(tmp_path / "frames", 0)
    done = train("--data", tmp_path / "frames", "--run", tmp_path / "file" / "run")
    assert done.returncode == 2 and f"{tmp_path / 'file'} is a file" in done.stderr
    assert done.stdout == ""


def test_a_record_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / run_folder.RECORD).write_text("[]")
    with pytest.raises(DataError, match="run.json cannot be read"):
        run_folder.recorded(tmp_path)
