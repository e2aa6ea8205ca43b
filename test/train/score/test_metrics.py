# SPDX-License-Identifier: Apache-2.0
"""KITTI's metric from counts equals its definition, computed threshold by threshold and pixel by pixel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from train.frames.kitti import find_frames
from train.labels import IGNORE
from train.score.birdseye import BirdsEye, homography
from train.score.metrics import RoadCounts

Pair = tuple[np.ndarray, np.ndarray]  # probability, labels
EXACT = 1e-9


def counted(pairs: Sequence[Pair]) -> RoadCounts:
    counts = RoadCounts()
    for probability, labels in pairs:
        counts.add(probability, labels)
    return counts


def by_definition(pairs: Sequence[Pair]) -> dict[str, float]:
    """The development kit's definition without histograms: every threshold applied to every pixel."""
    p = np.concatenate([probability[labels != IGNORE] for probability, labels in pairs]) / 255
    road = np.concatenate([labels[labels != IGNORE] for _, labels in pairs]) == 1
    points = []
    for k in range(256):
        said = p >= k / 255
        tp, fp = int((said & road).sum()), int((said & ~road).sum())
        fn, tn = int((~said & road).sum()), int((~said & ~road).sum())
        precision, recall = tp / (tp + fp + 1e-10), tp / (tp + fn)
        if precision == 0 and recall == 0:
            continue
        points.append((2 * precision * recall / (precision + recall + 1e-10), k, tp, fp, fn, tn, precision, recall))
    max_f, k, tp, fp, fn, tn, _, _ = max(points, key=lambda point: (point[0], -point[1]))
    eleven = [max(point[6] for point in points if point[7] >= i * 0.1) for i in range(11)]
    return {
        "max_f": max_f,
        "ap": sum(eleven) / 11,
        "pre": tp / (tp + fp),
        "rec": tp / (tp + fn),
        "fpr": fp / (fp + tn),
        "fnr": fn / (fn + tp),
        "iou": tp / (tp + fp + fn),
        "threshold": k / 255,
    }


def random_pairs(seed: int) -> list[Pair]:
    """One to three images whose probabilities are noise, a blurred truth, few values, or binary."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(1 + seed % 3):
        shape = tuple(rng.integers(20, 60, 2))
        labels = rng.choice(np.array([0, 1, IGNORE], np.uint8), shape, p=[0.6, 0.3, 0.1])
        noise = rng.integers(0, 256, shape)
        match seed % 4:
            case 0:
                probability = noise
            case 1:
                probability = np.clip(noise // 2 + (labels == 1) * rng.integers(0, 128), 0, 255)
            case 2:
                probability = np.array([3, 90, 91, 250])[(noise // 128) + 2 * (labels == 1) * (noise % 3 > 0)]
            case _:
                probability = np.where((labels == 1) ^ (noise < 40), 255, 0)
        pairs.append((probability.astype(np.uint8), labels))
    return pairs


@pytest.mark.parametrize("seed", range(50))
def test_every_figure_is_the_development_kits(seed: int) -> None:
    pairs = random_pairs(seed)
    figures, expected = counted(pairs).figures(), by_definition(pairs)
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=EXACT), name


@pytest.mark.parametrize("view", ["perspective", "birdseye"])
def test_kittis_own_ground_truth_gives_the_development_kits_figures(data_folder: Path, view: str) -> None:
    pairs = []
    for seed, frame in enumerate(find_frames(data_folder / "kitti_road_sample" / "training")):
        if view == "birdseye" and not frame.calibration.is_file():
            continue
        labels = frame.read()[1]
        noise = np.random.default_rng(seed).integers(0, 160, labels.shape)
        probability = (noise + 95 * (labels == 1)).astype(np.uint8)
        if view == "birdseye":
            above = BirdsEye(homography(frame.calibration), *labels.shape)
            probability, labels = above.view(probability), above.view(labels, IGNORE)
        pairs.append((probability, labels))
    figures, expected = counted(pairs).figures(), by_definition(pairs)
    assert 0.5 < expected["max_f"] < 1
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=EXACT), name


@pytest.mark.parametrize("seed", range(8))
def test_iou_follows_from_f(seed: int) -> None:
    figures = counted(random_pairs(seed)).figures()
    assert figures["iou"] == pytest.approx(figures["max_f"] / (2 - figures["max_f"]), abs=EXACT)
    assert figures["rec"] + figures["fnr"] == pytest.approx(1, abs=EXACT)


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_a_binary_maps_average_precision_is_known(seed: int) -> None:
    # Ten of the eleven recalls are reached at the map's own precision where it finds 90 % of the road and more; the
    # eleventh, 1, only where everything is called road.
    labels = np.random.default_rng(seed).choice(np.array([0, 1], np.uint8), (50, 50))
    said = labels == 1
    said[np.random.default_rng(seed + 1).random((50, 50)) < 0.05] ^= True
    figures = counted([(said.astype(np.uint8) * 255, labels)]).figures()
    assert 0.9 < figures["rec"] < 1
    assert figures["ap"] == pytest.approx((10 * figures["pre"] + (labels == 1).mean()) / 11, abs=EXACT)


def test_a_perfect_map_scores_one_and_a_blind_one_the_share_of_road() -> None:
    labels = np.array([[0, 0, 0, 1, IGNORE]], np.uint8)
    perfect = counted([(np.where(labels == 1, 255, 0).astype(np.uint8), labels)]).figures()
    wanted = {"max_f": 1, "ap": 1, "pre": 1, "rec": 1, "fpr": 0, "fnr": 0, "iou": 1, "threshold": 1 / 255, "ece": 0}
    assert perfect == pytest.approx(wanted, abs=EXACT)
    blind = counted([(np.full((1, 5), 128, np.uint8), labels)]).figures()
    assert (blind["pre"], blind["rec"], blind["fpr"], blind["ap"]) == pytest.approx((0.25, 1, 1, 0.25), abs=EXACT)
    assert blind["max_f"] == pytest.approx(0.4, abs=EXACT)


def test_what_is_undefined_is_none() -> None:
    no_road = counted([(np.array([[9, 200]], np.uint8), np.zeros((1, 2), np.uint8))]).figures()
    assert no_road["max_f"] is None and no_road["ap"] is None and no_road["ece"] is not None
    all_road = counted([(np.array([[9, 200]], np.uint8), np.ones((1, 2), np.uint8))]).figures()
    assert all_road["fpr"] is None and all_road["max_f"] == pytest.approx(1, abs=EXACT)
    assert set(RoadCounts().figures().values()) == {None}


def test_calibration_error_is_the_mean_gap_between_what_is_said_and_what_is_so() -> None:
    # 100 pixels at 0.8 of which 60 are road, and 300 at 0.2 of which 60 are: gaps of 0.2 and 0.
    probability = np.repeat(np.array([204, 51], np.uint8), [100, 300])[None]
    labels = np.concatenate([np.arange(100) < 60, np.arange(300) < 60]).astype(np.uint8)[None]
    assert counted([(probability, labels)]).calibration_error() == pytest.approx(0.25 * 0.2, abs=EXACT)


def test_two_processes_sum_to_exactly_what_one_counts() -> None:
    parts = [[pair for seed in seeds for pair in random_pairs(seed)] for seeds in (range(0, 7), range(7, 12))]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        summed = sum(pool.map(counted, parts), RoadCounts())
    alone = counted(parts[1] + parts[0])
    assert np.array_equal(summed.road, alone.road) and np.array_equal(summed.other, alone.other)
    assert summed.figures() == alone.figures()


@pytest.mark.parametrize("k", [0, 1, 128, 200, 255])
def test_iou_is_intersection_over_union_of_valid_pixels(k: int) -> None:
    rng = np.random.default_rng(k)
    counts, intersection, union = RoadCounts(), 0, 0
    for shape in ((20, 30), (7, 11)):  # pixels are pooled over images, ratios taken after
        probability = rng.integers(0, 256, shape, np.uint8)
        labels = rng.choice(np.array([0, 1, IGNORE], np.uint8), shape)
        counts.add(probability, labels)
        said, is_road, valid = probability >= k, labels == 1, labels != IGNORE
        intersection += (said & is_road).sum()
        union += ((said | is_road) & valid).sum()
    assert counts.iou(k / 255) == pytest.approx(intersection / union, abs=1e-12)


def test_best_threshold_is_the_one_that_parts_road_from_the_rest() -> None:
    counts = RoadCounts()
    counts.add(np.array([[10, 99, 100, 240]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    assert counts.best_threshold() == 100 / 255 and counts.iou(100 / 255) == 1.0
    assert counts.iou(101 / 255) == 0.5
