# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: which frames a fold holds out, and what the folds come to."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
from trainer_process import add_road_frame, train, write_tiny_preset

from train.frames.drives import split_fold
from train.frames.frame import Frame
from train.run.folds import summarise, table


def frames(drives: dict[str, int]) -> list[Frame]:
    nowhere = Path("nowhere")
    return [
        Frame(nowhere, drive, f"{number:06}", nowhere / f"{drive}_{number}", nowhere / f"{drive}_{number}_truth")
        for drive, count in drives.items()
        for number in range(count)
    ]


@pytest.mark.parametrize("drives", [{"um": 95, "umm": 96, "uu": 98}, {f"d{i:02}": 1 + i % 4 for i in range(33)}])
@pytest.mark.parametrize("folds", [2, 5])
def test_each_frame_is_held_out_once(drives: dict[str, int], folds: int) -> None:
    everything = frames(drives)
    held_out: list[Frame] = []
    for number in range(1, folds + 1):
        training, held = split_fold(everything, number, folds)
        assert not set(training) & set(held) and len(training) + len(held) == len(everything)
        assert len(held) == pytest.approx(len(everything) / folds, abs=len(everything) / 8)
        if len(drives) == 3:  # KITTI's categories: some of each, that hang together
            assert {frame.drive for frame in held} == set(drives)
            for drive in drives:
                numbers = [int(frame.number) for frame in held if frame.drive == drive]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        else:  # many drives: whole ones
            assert not {frame.drive for frame in held} & {frame.drive for frame in training}
        held_out += held
    assert sorted(held_out, key=str) == sorted(everything, key=str)


def test_the_summary_is_mean_and_deviation_of_what_all_folds_have() -> None:
    figures = {"max_f": 0.9, "ap": 0.8, "pre": 0.9, "rec": 0.9, "iou": 0.5}
    folds = [
        {"um": figures, "urban": figures | {"max_f": 0.8}},
        {"urban": figures | {"max_f": 0.9, "ap": None}},
        {"urban": figures | {"max_f": 0.7, "ap": None}},
    ]
    summary = summarise(folds)
    assert summary.keys() == {"urban"}
    assert summary["urban"]["max_f"]["mean"] == pytest.approx(0.8)
    assert summary["urban"]["max_f"]["deviation"] == pytest.approx(0.1)
    assert summary["urban"]["ap"] == {"mean": 0.8, "deviation": None, "values": [0.8, None, None]}
    assert "80.00 ± 10.00" in table(summary) and " - " in table(summary)


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder of what two folds left, what the trainer printed when the second was resumed)."""
    folder = tmp_path_factory.mktemp("folds")
    for number in range(16):
        add_road_frame(folder / "frames", number, "um" if number < 8 else "uu")
    preset = write_tiny_preset(folder / "tiny.yaml", epochs=1, synthetic_share=0.0)
    done = train("--data", folder / "frames", "--preset", preset, "--folds", "2", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "run-fold2")
    (folder / "run-folds.json").unlink()
    resumed = train("--folds", "2", "--run", folder / "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    return folder, resumed.stdout


def test_folds_are_runs_of_their_own_and_a_summary(cross_validated: tuple[Path, str]) -> None:
    folder, said = cross_validated
    assert "Fold 1 of 2 is done." in said and "Mean and standard deviation of 2 folds" in said
    reports = [json.loads((folder / f"run-fold{i}" / "report" / "metrics.json").read_text()) for i in (1, 2)]
    summary = json.loads((folder / "run-folds.json").read_text())["perspective"]
    assert summary.keys() == {"um", "uu", "urban"}
    values = [report["perspective"]["uu"]["max_f"] for report in reports]
    assert summary["uu"]["max_f"]["values"] == values
    assert summary["uu"]["max_f"]["mean"] == pytest.approx(statistics.mean(values))
    record = json.loads((folder / "run-fold2" / "run.json").read_text())
    assert record["options"]["fold"] == [2, 2]
    assert "8 frames to train on, 8 held out" in (folder / "run-fold2" / "log.txt").read_text()
    assert "Fold 2 of 2." not in (folder / "run-fold1" / "log.txt").read_text()


def test_other_folds_are_not_resumed_from(cross_validated: tuple[Path, str]) -> None:
    folder, _ = cross_validated
    done = train("--folds", "4", "--run", folder / "run", "--resume")
    assert done.returncode == 2 and "run-fold1 is fold 1 of 2, not 1 of 4" in done.stderr
    assert not (folder / "run-fold3").exists()


def test_one_fold_is_refused(tmp_path: Path) -> None:
    add_road_frame(tmp_path / "frames", 0)
    done = train("--data", tmp_path / "frames", "--folds", "1")
    assert done.returncode == 2 and "at least 2" in done.stderr
