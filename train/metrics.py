# SPDX-License-Identifier: Apache-2.0
"""Road IoU over a data set, from streaming counts in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class RoadCounts:
    """How many valid pixels of road and of not road got each of the 256 probabilities.

    Pixels are summed over all images first and ratios taken after, as KITTI's devkit does.
    """

    road: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    other: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, probability: np.ndarray, labels: np.ndarray) -> None:
        """Count one image: probability uint8 [H, W], labels uint8 [H, W] (0, 1, 255 not valid)."""
        self.road += np.bincount(probability[labels == 1], minlength=256)
        self.other += np.bincount(probability[labels == 0], minlength=256)

    def iou_by_threshold(self) -> np.ndarray:
        """float64 [256]: IoU of road where pixels with probability >= k/255 count as road; 0 without any."""
        true = self.road[::-1].cumsum()[::-1]
        false = self.other[::-1].cumsum()[::-1]
        return true / np.maximum(self.road.sum() + false, 1)

    def iou(self, threshold: float = 0.5) -> float:
        """IoU at a threshold, a fraction of 1."""
        return float(self.iou_by_threshold()[int(np.ceil(round(threshold * 255, 6)))])

    def best_threshold(self) -> float:
        """The threshold k/255 with the largest IoU."""
        return int(self.iou_by_threshold().argmax()) / 255
