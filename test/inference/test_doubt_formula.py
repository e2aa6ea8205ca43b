# SPDX-License-Identifier: Apache-2.0
"""Doubt is the formula that its docstring gives, of any size of answer, in order from sure to lost."""

from __future__ import annotations

import numpy as np
import pytest

from road_seg_node.inference.doubt import LEAST_ROAD, doubt


def formula(probability: np.ndarray) -> float:
    p = probability.astype(np.float64) / 255
    return float(1 - (p * p).sum() / (p.sum() + LEAST_ROAD * p.size))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (96, 160), (181, 181)])
def test_of_small_answers_every_pixel_counts(size: tuple[int, int]) -> None:
    probability = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    assert doubt(probability) == pytest.approx(formula(probability), abs=1e-12)


@pytest.mark.parametrize("size", [(375, 1242), (1080, 1920), (2160, 3840)])
def test_of_large_ones_some_are_enough(size: tuple[int, int]) -> None:
    """A road that narrows towards the horizon, with a pale edge."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    inside = (y / height - 0.4) - abs(x / width - 0.5)
    probability = (255 * np.clip(0.5 + 8 * inside, 0, 1)).astype(np.uint8)
    assert doubt(probability) == pytest.approx(formula(probability), abs=0.002)
    view = np.zeros((height, width, 2), np.uint8)
    view[..., 0] = probability
    assert doubt(view[..., 0]) == doubt(probability), "whatever lies between the pixels in memory"


def test_it_is_one_without_road_and_near_none_where_the_road_is_sure() -> None:
    half = np.zeros((100, 100), np.uint8)
    assert doubt(half) == 1
    half[50:] = 255
    assert doubt(half) == pytest.approx(1 - 0.5 / (0.5 + LEAST_ROAD))
    assert doubt(np.full_like(half, 255)) == pytest.approx(1 - 1 / (1 + LEAST_ROAD))


def test_it_rises_as_road_gets_paler_and_smaller() -> None:
    def seen(rows: int, value: int) -> float:
        probability = np.zeros((100, 100), np.uint8)
        probability[100 - rows :] = value
        return doubt(probability)

    paler = [seen(50, value) for value in (255, 240, 200, 128, 30, 0)]
    smaller = [seen(rows, 255) for rows in (100, 50, 10, 1, 0)]
    for doubts in (paler, smaller):
        assert doubts == sorted(doubts) and len(set(doubts)) == len(doubts)
        assert 0 < doubts[0] and doubts[-1] == 1
