# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's metric, road IoU and calibration error, from streaming counts in constant memory.

The formulas are those of the benchmark's development kit (Fritsch, Kühnl, Geiger, ITSC 2013): pixels are summed over
all images of a category first and ratios taken after.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

EPSILON = 1e-10  # in the denominators of precision and F, as the development kit has it
RECALLS = np.arange(11) * 0.1  # the eleven points of average precision, as float64 has them
CALIBRATION_BINS = 15  # of equal width, as in Guo et al., ICML 2017
FIGURES = ("max_f", "ap", "pre", "rec", "fpr", "fnr", "iou", "threshold", "ece")


@dataclass(eq=False)
class RoadCounts:
    """How many valid pixels of road and of not road got each of the 256 probabilities.

    The counts are integers: parts that several processes counted sum (`+`) to exactly what one would have counted.
    """

    road: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    other: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, probability: np.ndarray, labels: np.ndarray) -> None:
        """Count one image: probability uint8 [H, W], labels uint8 [H, W] (0, 1, 255 not valid)."""
        self.road += np.bincount(probability[labels == 1], minlength=256)
        self.other += np.bincount(probability[labels == 0], minlength=256)

    def __add__(self, more: RoadCounts) -> RoadCounts:
        return RoadCounts(self.road + more.road, self.other + more.other)

    def positives(self) -> tuple[np.ndarray, np.ndarray]:
        """(true, false) positives, int64 [256] each, where pixels with probability >= k/255 are said to be road."""
        return self.road[::-1].cumsum()[::-1], self.other[::-1].cumsum()[::-1]

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n] each, by threshold k/255 for k < n: the thresholds above find no road at all and are dropped."""
        true, false = self.positives()
        kept = true > 0
        return true[kept] / (true[kept] + false[kept] + EPSILON), true[kept] / self.road.sum()

    def f_by_threshold(self) -> np.ndarray:
        """float64 [n]: F1, thresholds as in `precision_recall`."""
        precision, recall = self.precision_recall()
        return 2 * precision * recall / (precision + recall + EPSILON)

    def figures(self) -> dict[str, float | None]:
        """KITTI's figures and ours by the names in FIGURES, fractions of 1; None where a ratio is undefined.

        max_f is the largest F1 of all thresholds; pre, rec, fpr, fnr and iou are those at `threshold`, the first that
        has it. ap is the mean, over eleven recalls, of the largest precision that has at least that recall. ece is
        the expected calibration error of P(road).
        """
        undefined: dict[str, float | None] = dict.fromkeys(FIGURES)
        if not self.road.any():
            return undefined | {"ece": self.calibration_error()}
        precision, recall = self.precision_recall()
        f = self.f_by_threshold()
        best = int(f.argmax())
        negatives, false = int(self.other.sum()), int(self.positives()[1][best])
        return {
            "max_f": float(f[best]),
            "ap": float(np.mean([precision[recall >= r].max() for r in RECALLS])),
            "pre": float(precision[best]),
            "rec": float(recall[best]),
            "fpr": false / negatives if negatives else None,
            "fnr": float(1 - recall[best]),
            "iou": float(self.iou_by_threshold()[best]),
            "threshold": best / 255,
            "ece": self.calibration_error(),
        }

    def calibration(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """float64 [15] each, by bin of P(road): mean P(road), share that is road, share of all pixels.

        The first two are NaN in an empty bin.
        """
        pixels, probability = self.road + self.other, np.arange(256) / 255
        bins = np.minimum(np.arange(256) * CALIBRATION_BINS // 255, CALIBRATION_BINS - 1)
        total = np.bincount(bins, pixels, CALIBRATION_BINS)
        with np.errstate(invalid="ignore"):
            said = np.bincount(bins, pixels * probability, CALIBRATION_BINS) / total
            found = np.bincount(bins, self.road, CALIBRATION_BINS) / total
        return said, found, total / max(1, pixels.sum())

    def calibration_error(self) -> float | None:
        """Mean over all pixels of |P(road) - share of road| of their bin; None without a pixel."""
        said, found, share = self.calibration()
        return float(np.nansum(share * np.abs(said - found))) if share.any() else None

    def iou_by_threshold(self) -> np.ndarray:
        """float64 [256]: IoU of road where pixels with probability >= k/255 count as road; 0 without any."""
        true, false = self.positives()
        return true / np.maximum(self.road.sum() + false, 1)

    def iou(self, threshold: float = 0.5) -> float:
        """IoU at a threshold, a fraction of 1."""
        return float(self.iou_by_threshold()[int(np.ceil(round(threshold * 255, 6)))])

    def best_threshold(self) -> float:
        """The threshold k/255 with the largest IoU."""
        return int(self.iou_by_threshold().argmax()) / 255


def text(figure: float | None) -> str:
    """A figure with four digits, or a dash where it is undefined."""
    return "-" if figure is None else f"{figure:.4f}"
