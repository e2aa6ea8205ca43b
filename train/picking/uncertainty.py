# SPDX-License-Identifier: Apache-2.0
"""How unsure a model is of a picture, from its probabilities alone. All of these are 0 (sure) to 1."""

from __future__ import annotations

import cv2
import numpy as np

EDGE = 1 / 40  # of the picture's height: how far from the road's edge its entropy counts
FEW = 0.02  # of the picture: so much road more or less says little, however small the road is


def entropy(probability: np.ndarray, threshold: float) -> np.ndarray:
    """In bits, float32 [H, W], of uint8 [H, W], round(255 P(road)).

    The model's threshold counts as even odds: it was chosen where the model's answers are, on average, right. What a
    model gets wrong on streets that it does not know is such a shift rather than a slope, see train/EXPERIMENTS.md.
    """
    threshold = min(max(threshold, 1 / 256), 255 / 256)
    p = (np.arange(256) + 0.5) / 256
    odds = p / (1 - p) * (1 - threshold) / threshold
    p = odds / (1 + odds)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return cv2.LUT(probability, bits.astype(np.float32))


def unsure(probability: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    """Mean entropy near the edge of the road, whose uint8 [H, W] `mask` is not 0; or anywhere without one."""
    reach = 2 * max(1, round(EDGE * len(mask))) + 1
    kernel = np.ones((reach, reach), np.uint8)
    near = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    bits = entropy(probability, threshold)
    return float(bits[near].mean() if near.any() else bits.mean())


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far two answers uint8 [H, W] to one picture lie apart: 1 - IoU of what both call road, in shades."""
    both, either = np.minimum(one, other).mean(), np.maximum(one, other).mean()
    return float((either - both) / (either + 255 * FEW))
