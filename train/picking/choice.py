# SPDX-License-Identifier: Apache-2.0
"""Which of the frames to take: doubtful ones, of as many looks as there are, and none twice.

The most doubtful alone are much alike, the same hard bend from one end to the other. So a pool of doubtful frames
without near-duplicates is cut into as many groups of looks as frames are wanted, and each group gives its most doubtful
one. What that is worth beside frames drawn at random, train/EXPERIMENTS.md says.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from train.frames.duplicates import NEAR

POOL = 4  # times as many frames as are wanted


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, from 0 for the least to 1, float [n]; NaN stays, and equal values share a rank."""
    known = np.isfinite(values)
    result = np.full(len(values), np.nan)
    _, places = np.unique(values[known], return_inverse=True)
    result[known] = places / max(1, places.max(initial=0))
    return result


def choose(doubts: np.ndarray, looks: np.ndarray, hashes: np.ndarray, count: int) -> list[int]:
    """Indices of up to `count` frames, the most doubtful first.

    Args:
        doubts: float [n].
        looks: float32 [n, any], in which frames that look alike are near each other.
        hashes: bool [n, 256], see `duplicates`.
    """
    pool = _unlike(np.argsort(-doubts, kind="stable"), hashes, POOL * count)
    if len(pool) > count:
        groups = _groups(looks[pool], count)
        best: dict[int, int] = {}
        for frame, group in zip(pool, groups, strict=True):  # the pool is in the order of doubt
            best.setdefault(group, frame)
        chosen = set(best.values())
        # A group may be empty; what is most doubtful of the rest takes its place.
        chosen.update([frame for frame in pool if frame not in chosen][: count - len(chosen)])
        pool = [frame for frame in pool if frame in chosen]
    return pool


def _unlike(order: Sequence[int], hashes: np.ndarray, most: int) -> list[int]:
    """The first of `order`, without those that are near-duplicates of one before."""
    kept: list[int] = []
    for index in order:
        if len(kept) == most:
            break
        if not kept or np.count_nonzero(hashes[kept] != hashes[index], axis=1).min() > NEAR:
            kept.append(int(index))
    return kept


def _groups(looks: np.ndarray, number: int) -> list[int]:
    """The group of each, int, by k-means; the same on every call."""
    cv2.setRNGSeed(0)
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    _, labels, _ = cv2.kmeans(looks.astype(np.float32), number, None, until, 3, cv2.KMEANS_PP_CENTERS)
    return [int(label) for label in labels.ravel()]
