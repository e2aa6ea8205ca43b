# SPDX-License-Identifier: Apache-2.0
"""Frames with a network's errors in colour."""

from __future__ import annotations

import numpy as np

from train.labels import IGNORE

# What KITTI's own result pages use, as BGR: green is road found, red road missed, blue road where there is none.
FOUND, MISSED, WRONG = (0, 200, 0), (0, 0, 255), (255, 60, 0)
OPACITY, NOT_VALID = 0.45, 0.4  # share of the colour; brightness of pixels that count nowhere


def errors(image: np.ndarray, probability: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """uint8 [H, W, 3] BGR: `image` with its errors in colour where probability / 255 >= threshold is called road."""
    said, road = probability / 255 >= threshold, labels == 1
    picture = image.astype(np.float32)
    for colour, where in ((FOUND, said & road), (MISSED, ~said & road), (WRONG, said & (labels == 0))):
        picture[where] = (1 - OPACITY) * picture[where] + OPACITY * np.array(colour, np.float32)
    picture[labels == IGNORE] *= NOT_VALID
    return picture.round().astype(np.uint8)
