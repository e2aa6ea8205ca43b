# SPDX-License-Identifier: Apache-2.0
"""Targets: what ground truth and a teacher say together."""

from __future__ import annotations

import numpy as np

from train.frames.targets import taught
from train.labels import CERTAIN, IGNORE

LABELS = np.array([[0, 1, IGNORE, IGNORE]], np.uint8)
THOUGHT = np.array([[255, 0, 255, 51]], np.uint8)


def test_a_teacher_is_alone_where_no_label_is_valid_and_beside_the_truth_elsewhere() -> None:
    assert taught(LABELS, THOUGHT, 0.25).tolist() == [[round(0.25 * CERTAIN), round(0.75 * CERTAIN), CERTAIN, 51]]


def test_a_teacher_without_a_share_leaves_valid_labels_as_they_are() -> None:
    assert taught(LABELS, THOUGHT, 0.0)[0, :2].tolist() == [0, CERTAIN]
