# SPDX-License-Identifier: Apache-2.0
"""Road IoU from counts equals its definition, computed pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from train.data import IGNORE
from train.metrics import RoadCounts


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
