# SPDX-License-Identifier: Apache-2.0
"""The measures of doubt, on answers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from road_seg_node.inference import road_mask
from train.picking.uncertainty import apart, entropy, unsure

HEIGHT, WIDTH = 80, 120


def half_road(slope: int) -> np.ndarray:
    """Road at the bottom, whose edge takes so many rows."""
    rows = np.clip((np.arange(HEIGHT) - HEIGHT / 2) / slope + 0.5, 0, 1) * 255
    return np.tile(rows.round().astype(np.uint8)[:, None], (1, WIDTH))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.6, 1.0])
def test_a_bit_is_at_the_threshold_and_nothing_at_the_ends(threshold: float) -> None:
    bits = entropy(np.arange(256, dtype=np.uint8)[None], threshold)[0]
    assert bits.dtype == np.float32 and np.isfinite(bits).all() and 0 <= bits.min() and bits.max() <= 1
    if 0 < threshold < 1:
        assert abs(int(bits.argmax()) - 255 * threshold) <= 1 and bits.max() > 0.999
        assert max(bits[0], bits[-1]) < 0.05


def test_a_blurred_edge_is_less_sure_than_a_sharp_one() -> None:
    found = [unsure(answer, road_mask(answer, 0.5), 0.5) for answer in map(half_road, (1, 4, 16))]
    assert found == sorted(found) and found[2] > 2 * found[0]


def test_how_large_the_road_is_does_not_count() -> None:
    answer = half_road(4)
    small = np.zeros_like(answer)
    small[HEIGHT // 4 :] = answer[: -HEIGHT // 4]
    below, whole = (unsure(one, road_mask(one, 0.5), 0.5) for one in (small, answer))
    assert abs(below - whole) < 0.2 * whole


def test_without_a_road_all_of_the_picture_counts() -> None:
    dark, dim = (np.full((HEIGHT, WIDTH), value, np.uint8) for value in (0, 100))
    assert unsure(dark, road_mask(dark, 0.5), 0.5) < 0.03 < 0.9 < unsure(dim, road_mask(dim, 0.5), 0.5)


def test_two_answers_are_apart_by_what_only_one_calls_road() -> None:
    none, left, all_of_it = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(3))
    left[:, : WIDTH // 2], all_of_it[:] = 255, 255
    assert apart(left, left) == 0 == apart(none, none)
    assert apart(left, all_of_it) == apart(all_of_it, left) == pytest.approx(0.5 / 1.02)
    assert apart(left, left[:, ::-1]) == pytest.approx(1 / 1.02)
    speck = none.copy()
    speck[0, :9] = 255
    assert apart(none, speck) < 0.05
