# SPDX-License-Identifier: Apache-2.0
"""The report on data sets, before hours of training go into them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cv2
import fork_server
import numpy as np
import pytest
from trainer_process import LIMIT, ROOT, add_road_frame

from road_seg_node.synthetic_road.scene import Road
from train.frames.duplicates import NEAR, near, perceptual_hash, same


def report(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return fork_server.TRAINER.run(ROOT / "train" / "data_report.py", *options, timeout=LIMIT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two drives of ten frames, of which one is held out each."""
    for drive in ("a", "b"):
        for number in range(10):
            add_road_frame(tmp_path / "frames", number + 10 * (drive == "b"), drive)
    return tmp_path / "frames"


def test_a_report_counts_what_is_there(folder: Path, tmp_path: Path) -> None:
    done = report("--data", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["frames", "train", "18", "2"] in [line[:4] for line in lines]
    assert ["frames", "validate", "2", "2"] in [line[:4] for line in lines]
    assert ["frames", "a", "10", "1"] in [line[:4] for line in lines]
    assert "2 drives are on both sides of the split" in done.stdout
    assert "0 of 2 held-out frames have a near-duplicate" in done.stdout and "No frame is broken." in done.stdout
    figures = json.loads((tmp_path / "out" / "data.json").read_text())
    assert len(figures["frames"]) == 20
    counted = {frame["image"]: frame for frame in figures["frames"]}
    truth = cv2.imread(str(folder / "gt_image_2" / "a_road_000003.png"))
    frame = counted[str(folder / "image_2" / "a_000003.png")]
    assert frame["road"] == (truth[..., 0] > 0).sum() and frame["not_valid"] == (truth[..., 2] == 0).sum()
    road, valid = (
        sum(f["road"] for f in counted.values() if f["use"] == "train"),
        sum(f["size"][0] * f["size"][1] - f["not_valid"] for f in counted.values() if f["use"] == "train"),
    )
    assert f"{100 * road / valid:.1f} %" in done.stdout
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.jpg"))
    assert sheet.shape == (6 * 200, 4 * 320, 3) and len(np.unique(sheet)) > 100


def test_a_report_names_what_is_broken_and_what_is_there_twice(folder: Path) -> None:
    last, other = (folder / "image_2" / f"a_{number:06}.png" for number in (9, 2))
    other.write_bytes(last.read_bytes())
    for number in (9, 2):  # of one size, so that the ground truth fits
        (folder / "gt_image_2" / f"a_road_{number:06}.png").write_bytes(
            (folder / "gt_image_2" / "a_road_000009.png").read_bytes()
        )
    cut = folder / "image_2" / "b_000010.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    size = folder / "gt_image_2" / "b_road_000011.png"
    cv2.imwrite(str(size), cv2.imread(str(size))[1:])
    done = report("--data", folder)
    assert done.returncode == 1 and not done.stderr
    assert "2 frames are broken." in done.stdout
    assert f"{cut} is not a PNG or JPEG picture" in done.stdout
    assert f"{size} is 48x63 pixels, but its image b_000011.png is 48x64" in done.stdout
    assert "1 of 2 held-out frames have a near-duplicate among those to train on." in done.stdout
    assert f"{last} is like {other} (0 of 256 bits differ)" in done.stdout
    assert "1 frames are copies of others." in done.stdout


def test_a_report_tells_of_data_sets_that_are_all_road_or_all_not(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "gt_image_2").iterdir():
        truth = cv2.imread(str(path))
        cv2.imwrite(str(path), np.where(truth[..., :1] > 0, truth, 0))
    done = report("--data", folder, f"{folder}/../frames", "--out", tmp_path / "out")
    assert done.returncode == 1 and not done.stderr
    assert "frames to train has a valid pixel that is not road" in done.stdout
    assert len(json.loads((tmp_path / "out" / "data.json").read_text())["frames"]) == 20  # each once


def test_a_file_name_need_not_be_utf8(folder: Path, tmp_path: Path) -> None:
    for kind in (b"image_2/a", b"gt_image_2/a_road"):
        path = os.path.join(os.fsencode(folder), kind)
        os.rename(path + b"_000003.png", path + b"_stra\xdfe.png")
    done = report("--data", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "data.json").read_text())["frames"]) == 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--data", "kitti360:."], "There is no description"),
        (["--data", ".", "--validation-share", "1"], "--validation-share must be between 0 and 1"),
    ],
)
def test_a_mistake_is_a_sentence(options: list[str], named: str) -> None:
    done = report(*options)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [Road(seed).render(320, 240)[0] for seed in range(8)]


def changed(picture: np.ndarray, how: str) -> np.ndarray:
    height, width = picture.shape[:2]
    match how:
        case "compressed":
            return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
        case "smaller":
            return cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        case "lighter":
            return cv2.convertScaleAbs(picture, alpha=1.15, beta=5)
        case _:
            return np.roll(picture, 3, axis=1)


@pytest.mark.parametrize("how", ["compressed", "smaller", "lighter", "shifted"])
def test_what_is_nearly_the_same_is_near_and_nothing_else(pictures: list[np.ndarray], how: str) -> None:
    hashes = np.stack([perceptual_hash(picture) for picture in pictures])
    alike = np.stack([perceptual_hash(changed(picture, how)) for picture in pictures])
    assert [(i, j) for i, j, bits in near(alike, hashes) if bits <= NEAR] == [(i, i) for i in range(len(pictures))]
    assert not list(near(hashes[:4], hashes[4:]))


def test_copies_are_grouped(pictures: list[np.ndarray]) -> None:
    hashes = np.stack([perceptual_hash(pictures[i]) for i in (0, 1, 2, 1, 0, 1)])
    assert same(hashes) == [[0, 4], [1, 3, 5]]
    assert not list(near(hashes, hashes[:0]))
