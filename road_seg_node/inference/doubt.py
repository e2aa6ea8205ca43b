# SPDX-License-Identifier: Apache-2.0
"""How little a model trusts its own road: one number that rises where the scene leaves what it was trained on."""

from __future__ import annotations

from math import isqrt

import numpy as np

LEAST_ROAD = 0.01  # of the picture
_SAMPLES = 1 << 15  # pixels that are looked at, about
_P = np.arange(256) / 255


def doubt(probability: np.ndarray) -> float:
    """Return 0 to 1 of uint8 [H, W], round(255 * P(road)), any size: with p = P(road) and N pixels

        doubt = 1 - sum(p * p) / (sum(p) + LEAST_ROAD * N)

    But for LEAST_ROAD that is sum(p * (1 - p)) / sum(p), the share of its road that the model itself expects not to be
    road: Gini's impurity, over the road's size, so that a wide road, whose edge is long, is not doubted more than a
    narrow one. Darkness, fog, blur and dirt make road pale; where there is none at all, LEAST_ROAD makes it 1.

    It looks at every k-th pixel of every k-th row, some 32,768 in all, which takes a tenth of a millisecond.
    """
    step = max(1, isqrt(probability.size // _SAMPLES))
    counts = np.bincount(probability[::step, ::step].ravel(), minlength=256)
    return float(1 - counts @ _P**2 / (counts @ _P + LEAST_ROAD * counts.sum()))
