# SPDX-License-Identifier: Apache-2.0
"""The evaluation as a user runs it: tables, metrics.json, the report, a submission, and a sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import fork_server
import numpy as np
import pytest
from kitti_folder import copied_by_a_mac, write_calibration
from tiny_model import expected_probability, write_tiny_model

from road_seg_node.shipped import COMPACT
from train.frames.kitti import GROUND_TRUTH_COLOURS
from train.labels import IGNORE
from train.score.birdseye import BirdsEye, homography
from train.score.metrics import RoadCounts

ROOT = Path(__file__).resolve().parents[2]
SIZE = (375, 1242)  # rows, columns
CATEGORIES = {"um": 2, "umm": 1, "uu": 1}
FIGURES = {"max_f", "ap", "pre", "rec", "fpr", "fnr", "iou", "threshold"}
BGR = np.zeros((256, 3), np.uint8)  # of the labels
BGR[[1, 0, IGNORE]] = list(GROUND_TRUTH_COLOURS.values())


def evaluate(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return fork_server.TRAINER.run(ROOT / "train" / "evaluate.py", *options, timeout=300)


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    """By the name of the ground truth: a road ahead of the camera, another in each frame, and the ego lane of um."""
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    found = {}
    for category, frames in CATEGORIES.items():
        for number in range(frames):
            for kind, width in (("road", 1.6 + number), ("lane", 0.7)):
                if kind == "lane" and category != "um":
                    continue
                truth = ((row > 190) & (abs(column - 600 - 10 * len(category)) < width * (row - 180))).astype(np.uint8)
                truth[:, 1150:] = IGNORE
                found[f"{category}_{kind}_{number:06}"] = truth
    return found


@pytest.fixture(scope="module")
def predictions(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        name: np.clip(rng.normal(80, 50, SIZE) + 110 * (truth == 1), 0, 255).astype(np.uint8)
        for name, truth in labels.items()
    }


@pytest.fixture
def kitti(tmp_path: Path, labels: dict[str, np.ndarray], predictions: dict[str, np.ndarray]) -> Path:
    """training/ with ground truth, calibration and noisy colours for pictures, and predictions/ beside it."""
    for name, truth in labels.items():
        save(tmp_path / "training" / "gt_image_2" / f"{name}.png", BGR[truth])
        save(tmp_path / "predictions" / f"{name}.png", predictions[name])
        if "road" in name:
            frame = name.replace("_road", "")
            picture = cv2.merge([predictions[name], np.full(SIZE, 120, np.uint8), np.full(SIZE, 130, np.uint8)])
            save(tmp_path / "training" / "image_2" / f"{frame}.png", picture)
            write_calibration(tmp_path / "training" / "calib" / f"{frame}.txt")
    return tmp_path


def expected(labels: dict[str, np.ndarray], answers: dict[str, np.ndarray], path: Path | None) -> dict[str, RoadCounts]:
    """Counts by category, in the bird's-eye view where `path` is a calibration."""
    counts: dict[str, RoadCounts] = {}
    for name, truth in labels.items():
        category = name.split("_road")[0].replace("_lane_", "_lane ").split(" ")[0]
        answer = answers[name]
        if path is not None:
            above = BirdsEye(homography(path), *truth.shape)
            truth, answer = above.view(truth, IGNORE), above.view(answer)
        counts.setdefault(category, RoadCounts()).add(answer, truth)
    return counts | {"urban": counts["um"] + counts["umm"] + counts["uu"]}


def test_predictions_are_judged_in_both_views_by_category(
    kitti: Path, labels: dict[str, np.ndarray], predictions: dict[str, np.ndarray]
) -> None:
    out = kitti / "report"
    done = evaluate(
        "--predictions", kitti / "predictions", "--data", kitti / "training", "--view", "both", "--out", out
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((out / "metrics.json").read_text())
    assert list(written) == ["perspective", "birdseye"]
    calibration = kitti / "training" / "calib" / "um_000000.txt"
    for view, path in (("perspective", None), ("birdseye", calibration)):
        assert list(written[view]) == ["um", "umm", "uu", "um_lane", "urban"]
        for category, counts in expected(labels, predictions, path).items():
            assert written[view][category] == pytest.approx(counts.figures(), abs=1e-9)
            assert FIGURES <= set(written[view][category])
            assert f"{written[view][category]['max_f']:.4f}" in done.stdout
    page = cv2.imread(str(out / "report.png"))
    assert page is not None and page.shape[1] == 1500 and page.std() > 10
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.png"}


def test_without_lane_predictions_there_is_no_lane(kitti: Path) -> None:
    (lane, other) = sorted((kitti / "predictions").glob("um_lane_*.png"))
    lane.unlink()
    options = ("--predictions", kitti / "predictions", "--data", kitti / "training")
    done = evaluate(*options)
    assert done.returncode == 2 and str(lane) in done.stderr, "some lanes are predicted, so all must be"
    other.unlink()
    done = evaluate(*options)
    assert done.returncode == 0 and "um_lane" not in done.stdout


def test_hidden_files_are_no_predictions_and_endings_may_be_capitals(kitti: Path) -> None:
    copied_by_a_mac(kitti)
    for kind, folder in (("lane", "predictions"), ("road", "predictions"), ("road", "training/gt_image_2")):
        file = kitti / folder / f"um_{kind}_000000.png"
        file.rename(file.with_suffix(".PNG"))
    options = ("--predictions", kitti / "predictions", "--data", kitti / "training")
    done = evaluate(*options)
    assert done.returncode == 0 and "um_lane" in done.stdout, done.stderr
    for number in range(2):
        (kitti / "predictions" / f"um_lane_{number:06}.{'png' if number else 'PNG'}").unlink()
    done = evaluate(*options)  # ._um_lane_000000.png is left
    assert done.returncode == 0 and "um_lane" not in done.stdout, done.stderr


def test_a_model_file_keeps_its_table_and_gets_kittis(kitti: Path) -> None:
    model = write_tiny_model(kitti / "tiny.onnx", threshold=0.25)
    done = evaluate("--model", model, "--data", kitti / "training", "--only", "um", "--synthetic", "1")
    assert done.returncode == 0, done.stderr
    counts = RoadCounts()
    for number in range(2):
        image = cv2.imread(str(kitti / "training" / "image_2" / f"um_{number:06}.png"))
        truth = cv2.imread(str(kitti / "training" / "gt_image_2" / f"um_road_{number:06}.png"))
        truth_labels = np.where(truth[..., 2] == 0, IGNORE, (truth[..., 0] > 0).astype(np.uint8))
        counts.add(expected_probability(image), truth_labels)
    best = counts.best_threshold()
    lines = done.stdout.splitlines()
    assert lines[0] == f"{model}: grey is road, threshold 0.250"
    row = next(line for line in lines if "/training (2)" in line).split()
    assert row[2:] == [f"{counts.iou(t):.4f}" for t in (0.25, 0.5, best)] + [f"{best:.3f}"]
    assert any(line.startswith("synthetic (1)") for line in lines)
    assert [line.split()[0] for line in lines[5:]] == ["perspective", "um", "um_lane", "synthetic", "urban", "um_lane"]


def test_a_checkpoint_and_its_model_file_give_one_table(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from train import preset as presets
    from train.network.weights import from_model_file

    model = ROOT / COMPACT
    network, info = from_model_file(model)
    values = presets.load("compact", {"width": network.width, "resize": info.resize}).as_dict()
    metrics = {"threshold": info.threshold}
    state = {"model": network.state_dict(), "preset": values, "metrics": metrics, "datasets": ["none"]}
    torch.save(state, tmp_path / "best.pt")
    figures = []
    for number, path in enumerate((tmp_path / "best.pt", model)):
        done = evaluate("--model", path, "--synthetic", "4", "--out", tmp_path / f"{number}")
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((tmp_path / f"{number}" / "metrics.json").read_text())["perspective"]["urban"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)  # a byte in thousands is rounded the other way
    assert figures[0]["max_f"] > 0.9


def test_two_threads_give_the_table_of_one_exactly(kitti: Path) -> None:
    printed = []
    for jobs in ("1", "2"):
        options = ("--predictions", kitti / "predictions", "--data", kitti / "training", "--view", "both")
        done = evaluate(*options, "--jobs", jobs, "--out", kitti / jobs)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.replace(str(kitti / jobs), "report"))
    assert printed[0] == printed[1] and "um_lane" in printed[0]
    for name in ("metrics.json", "report.png"):
        assert (kitti / "1" / name).read_bytes() == (kitti / "2" / name).read_bytes()


def test_a_submission_has_the_names_and_the_view_that_kittis_server_wants(
    kitti: Path, predictions: dict[str, np.ndarray]
) -> None:
    testing = (kitti / "training").rename(kitti / "testing")
    for truth in (testing / "gt_image_2").iterdir():
        truth.unlink()
    (testing / "gt_image_2").rmdir()
    out = kitti / "submission"
    done = evaluate("--predictions", kitti / "predictions", "--data", testing, "--submission", out)
    assert done.returncode == 0, done.stderr
    above = BirdsEye(homography(testing / "calib" / "um_000000.txt"), *SIZE)
    names = {f"{name}.png" for name in predictions}
    for view, shape in (("perspective", SIZE), ("birdseye", (800, 400))):
        assert {path.name for path in (out / view).iterdir()} == names
        for name, picture in predictions.items():
            written = cv2.imread(str(out / view / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert written.dtype == np.uint8 and written.shape == shape
            assert np.array_equal(written, picture if view == "perspective" else above.view(picture))
    assert set(zipfile.ZipFile(out / "submission.zip").namelist()) == names

    model = write_tiny_model(kitti / "tiny.onnx")
    done = evaluate("--model", model, "--data", testing, "--submission", kitti / "b", "--view", "perspective")
    assert done.returncode == 0, done.stderr
    image = cv2.imread(str(testing / "image_2" / "uu_000000.png"))
    written = cv2.imread(str(kitti / "b" / "perspective" / "uu_road_000000.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, expected_probability(image))
    assert {path.name for path in (kitti / "b").iterdir()} == {"perspective"}
    assert not any("lane" in path.name for path in (kitti / "b" / "perspective").iterdir())


def break_it(kitti: Path, kind: str) -> Path:
    """Break one thing; returns the path that the message must name."""
    data, predicted = kitti / "training", kitti / "predictions"
    um = predicted / "um_road_000001.png"
    match kind:
        case "calibration missing":
            path = data / "calib" / "umm_000000.txt"
            path.unlink()
            return path
        case "calibration without a matrix":
            path = data / "calib" / "umm_000000.txt"
            path.write_text(path.read_text().replace("P2:", "P9:"))
            return path
        case "prediction missing":
            um.unlink()
        case "prediction of another size":
            save(um, np.zeros((375, 1240), np.uint8))
        case "prediction in colour":
            save(um, np.zeros((*SIZE, 3), np.uint8))
        case "prediction of 16 bits":
            save(um, np.zeros(SIZE, np.uint16))
        case "prediction cut short":
            um.write_bytes(um.read_bytes()[:50])
        case "prediction that is a folder":
            um.unlink()
            um.mkdir()
        case "lane ground truth of another size":
            path = data / "gt_image_2" / "um_lane_000000.png"
            save(path, BGR[np.zeros((375, 1240), np.uint8)])
            return path
        case "no predictions":
            return predicted.rename(kitti / "elsewhere").with_name("predictions")
        case "no data":
            return data.rename(kitti / "elsewhere").with_name("training")
        case "report in place of a file":
            (kitti / "report").write_text("")
            return kitti / "report"
    return um


@pytest.mark.parametrize(
    "kind",
    [
        "calibration missing", "calibration without a matrix", "prediction missing", "prediction of another size",
        "prediction in colour", "prediction of 16 bits", "prediction cut short", "prediction that is a folder",
        "lane ground truth of another size", "no predictions", "no data", "report in place of a file",
    ],
)  # fmt: skip
def test_what_is_broken_is_named_in_a_sentence(kitti: Path, kind: str) -> None:
    named = break_it(kitti, kind)
    options = ("--predictions", kitti / "predictions", "--data", kitti / "training", "--view", "both")
    done = evaluate(*options, "--out", kitti / "report")
    assert done.returncode == 2 and str(named) in done.stderr and "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]  # OpenCV may warn before it
    assert sentence.startswith("evaluate.py: ") and sentence.endswith(".")
    assert not (kitti / "report" / "metrics.json").exists()
    if "calibration" in kind or "missing" in kind:
        assert done.stdout == "", "this is said before anything is evaluated"


def grey(folder: Path, name: str, value: int = 255) -> None:
    """A frame of four pixels, on each of which a prediction says `value`."""
    drive, number = name.rsplit("_", 1)
    save(folder / "image_2" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    save(folder / "predictions" / f"{drive}_road_{number}.png", np.full((2, 2), value, np.uint8))


def figures_of(*options: str | Path, out: Path) -> dict[str, dict[str, float]]:
    done = evaluate(*options, "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "metrics.json").read_text())["perspective"]


def test_ground_truth_is_scored_by_the_devkits_rule_alone(tmp_path: Path) -> None:
    """Valid where red > 0, road where blue > 0 besides; a frame that is black all over adds nothing."""
    grey(tmp_path, "um_000000")
    truth = np.array([[(9, 0, 7), (255, 0, 0)], [(0, 0, 255), (0, 0, 0)]], np.uint8)  # BGR
    save(tmp_path / "gt_image_2" / "um_road_000000.png", truth)
    grey(tmp_path, "um_000001")
    save(tmp_path / "gt_image_2" / "um_road_000001.png", np.zeros((2, 2, 3), np.uint8))
    options = ("--predictions", tmp_path / "predictions", "--data", tmp_path)
    found = figures_of(*options, out=tmp_path / "out")["urban"]
    assert (found["pre"], found["rec"], found["iou"]) == pytest.approx((0.5, 1.0, 0.5), abs=1e-9)


def test_folders_of_one_name_and_a_category_called_urban_stay_apart(tmp_path: Path) -> None:
    for folder, name in (("a/k/training", "um_000000"), ("b/k/training", "urban_000000")):
        grey(tmp_path / folder, name)
        truth = BGR[np.array([[1, 1], [1, 0]] if name.startswith("um") else [[1, 0], [0, 0]])]
        drive, number = name.rsplit("_", 1)
        save(tmp_path / folder / "gt_image_2" / f"{drive}_road_{number}.png", truth)
        for file in (tmp_path / folder / "predictions").iterdir():
            save(tmp_path / "predictions" / file.name, np.full((2, 2), 255, np.uint8))
    data = (tmp_path / "a/k/training", tmp_path / "b/k/training")
    options = ("--predictions", tmp_path / "predictions", "--data", *data)
    found = figures_of(*options, out=tmp_path / "out")
    assert {name: row["pre"] for name, row in found.items()} == pytest.approx(
        {"um": 3 / 4, "urban_drive": 1 / 4, "urban": 4 / 8}
    )
    found = figures_of(*options, "--leave-out", "urban", out=tmp_path / "one")
    assert found.keys() == {"um", "urban"}


def test_a_checkpoint_that_is_none_is_a_sentence(kitti: Path) -> None:
    (kitti / "best.pt").write_bytes(b"nothing")
    for model in ("best.pt", "nowhere.pt", "nowhere.onnx"):
        done = evaluate("--model", kitti / model, "--data", kitti / "training")
        assert done.returncode == 2 and model in done.stderr and "Traceback" not in done.stderr


def test_a_checkpoint_without_pytorch_is_a_sentence(kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('it is not here')\n")
    command = [sys.executable, ROOT / "train" / "evaluate.py", "--model", "best.pt", "--data", kitti / "training"]
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "best.pt is a checkpoint, which needs PyTorch (it is not here)" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "m.onnx"],
        ["--data", "d"],
        ["--model", "m.onnx", "--data", "d", "--jobs", "0"],
        ["--model", "m.onnx", "--predictions", "p", "--data", "d"],
        ["--model", "m.onnx", "--synthetic", "1", "--view", "birdseye"],
        ["--predictions", "p", "--synthetic", "1"],
        ["--model", "m.onnx", "--data", "d", "e", "--submission", "s"],
        ["--model", "m.onnx", "--data", "d", "--submission", "s", "--out", "o"],
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: list[str]) -> None:
    done = evaluate(*options)
    assert done.returncode == 2 and "error: " in done.stderr
