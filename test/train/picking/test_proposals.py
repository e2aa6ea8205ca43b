# SPDX-License-Identifier: Apache-2.0
"""Masks as polygons, and back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from train.frames.kitti import labels_from_colours
from train.picking.proposals import NOT_ROAD, ROAD, painted, shapes_of

HEIGHT, WIDTH = 120, 160


def there_and_back(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]"""
    path = Path("frame.json")
    return labels_from_colours(painted(shapes_of(mask), mask.shape, path), path) == 1


def mask_of(*discs: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x, y, radius, value in discs:
        cv2.circle(mask, (x, y), radius, value, -1)
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        mask_of((80, 60, 40, 255)),
        mask_of((80, 60, 50, 255), (80, 60, 30, 0), (80, 60, 12, 255)),  # an island in a hole
        mask_of((0, 119, 60, 255), (159, 119, 60, 255), (20, 100, 9, 0)),  # at the picture's corners
        np.full((HEIGHT, WIDTH), 255, np.uint8),
    ],
    ids=["disc", "island", "corners", "all"],
)
def test_polygons_are_the_mask_within_a_pixel_of_its_edge(mask: np.ndarray) -> None:
    found, road = there_and_back(mask), mask > 0
    edge = cv2.dilate(mask, np.ones((5, 5), np.uint8)) != cv2.erode(mask, np.ones((5, 5), np.uint8))
    assert not (found != road)[~edge].any()
    assert (found & road).sum() / (found | road).sum() > 0.97


def test_what_reaches_the_pictures_edge_is_no_hole() -> None:
    assert [shape.name for shape in shapes_of(mask_of((80, 0, 50, 255), (80, 0, 20, 0)))] == [ROAD]
    assert [shape.name for shape in shapes_of(mask_of((80, 60, 50, 255), (80, 60, 20, 0)))] == [ROAD, NOT_ROAD]


def test_specks_are_left_to_the_person() -> None:
    assert len(shapes_of(mask_of((80, 60, 40, 255), (10, 10, 1, 255), (80, 60, 1, 0)))) == 1


def test_a_picture_without_road_is_said_to_have_none() -> None:
    (shape,) = shapes_of(mask_of())
    assert shape.name == NOT_ROAD and not there_and_back(mask_of()).any()
