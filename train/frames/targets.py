# SPDX-License-Identifier: Apache-2.0
"""What a pixel's probability of being road should be: what the ground truth says, and what a teacher thinks.

Targets are uint8 [H, W], see `train.labels`. To learn a teacher's graded answer beside the truth is distillation
(Hinton, Vinyals and Dean 2015, with a temperature of 1).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from train.frames.cache import Pair
from train.frames.frame import Frame
from train.frames.picture_file import Reduction
from train.labels import CERTAIN, IGNORE

TargetsOf = Callable[[Frame, np.ndarray], np.ndarray]  # of a frame and its labels

_OF_LABEL = np.full(256, IGNORE, np.uint8)
_OF_LABEL[:2] = 0, CERTAIN


def from_truth(_: Frame, labels: np.ndarray) -> np.ndarray:
    """Targets of a frame's labels uint8 [H, W] (0 not road, 1 road, IGNORE not valid) alone."""
    return cv2.LUT(labels, _OF_LABEL)


def pair_for_training(frame: Frame, reduction: Reduction, targets_of: TargetsOf) -> Pair:
    """Image uint8 [h, w, 3] BGR and targets uint8 [h, w] of a frame, smaller than it as `reduction` says."""
    image, labels = frame.read_reduced(reduction)
    targets = targets_of(frame, labels)
    height, width = image.shape[:2]
    if targets.shape != (height, width):
        targets = cv2.resize(targets, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return image, targets


def taught(labels: np.ndarray, probability: np.ndarray, share: float) -> np.ndarray:
    """Targets of labels and of a teacher's probability, uint8 [H, W] of 255: alone where no label is valid.

    Args:
        share: of the teacher where a label is valid, 0 to 1.
    """
    thought = probability.astype(np.float32) * (CERTAIN / 255)
    mixed = (1 - share) * CERTAIN * (labels == 1) + share * thought
    return np.where(labels == IGNORE, thought, mixed).round().astype(np.uint8)
