# SPDX-License-Identifier: Apache-2.0
"""The overlay tints the road, draws its border, and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from road_seg_node.overlay import COLOUR, LIGHTER, OPACITY, tint


@pytest.fixture
def bgr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    """Road from row 20 to the bottom, columns 10 to 69."""
    mask = np.zeros((60, 80), np.uint8)
    mask[20:, 10:70] = 255
    return mask


def test_road_is_blended_with_the_colour_and_the_rest_untouched(bgr: np.ndarray, mask: np.ndarray) -> None:
    before = bgr.copy()
    picture = tint(bgr, mask)
    np.testing.assert_array_equal(bgr, before)
    np.testing.assert_array_equal(picture[mask == 0], bgr[mask == 0])
    inside = picture[21:, 11:69].astype(float)
    expected = bgr[21:, 11:69] * (1 - OPACITY) + np.array(COLOUR) * OPACITY
    assert np.abs(inside - expected).max() <= 0.5 + 1e-9


def test_border_is_drawn_on_the_roads_outermost_pixels(bgr: np.ndarray, mask: np.ndarray) -> None:
    picture = tint(bgr, mask)
    border = np.minimum(np.array(COLOUR) + LIGHTER, 255)
    for line in (picture[20, 10:70], picture[20:, 10], picture[20:, 69]):
        np.testing.assert_array_equal(line, np.broadcast_to(border, line.shape))
    assert (picture[-1, 11:69] != border).any(axis=-1).all(), "the picture's edge is no border of the road"


def test_colour_and_opacity_are_those_asked_for(bgr: np.ndarray, mask: np.ndarray) -> None:
    tint(bgr, mask)  # with the defaults first, whose blend is not to be taken for this one's
    picture = tint(bgr, mask, (250, 10, 0), 0.75)
    expected = bgr[21:, 11:69] * 0.25 + np.array((250, 10, 0)) * 0.75
    assert np.abs(picture[21:, 11:69] - expected).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(picture[20, 10:70], np.broadcast_to([255, 74, 64], (60, 3)))
    np.testing.assert_array_equal(tint(bgr, mask, opacity=0.0)[21:, 11:69], bgr[21:, 11:69])


def test_without_road_the_picture_is_a_copy(bgr: np.ndarray) -> None:
    picture = tint(bgr, np.zeros((60, 80), np.uint8))
    np.testing.assert_array_equal(picture, bgr)
    assert not np.shares_memory(picture, bgr)


def test_views_and_single_pixels_are_taken(bgr: np.ndarray, mask: np.ndarray) -> None:
    np.testing.assert_array_equal(tint(bgr[:, ::-1], mask), tint(bgr[:, ::-1].copy(), mask))
    assert tint(bgr[:1, :1], np.full((1, 1), 255, np.uint8)).shape == (1, 1, 3)


def test_a_mask_of_another_size_is_refused(bgr: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        tint(bgr, np.zeros((60, 81), np.uint8))
