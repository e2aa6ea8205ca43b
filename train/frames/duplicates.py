# SPDX-License-Identifier: Apache-2.0
"""Pictures that are the same, or nearly, by a perceptual hash: which of a picture's coarse waves are above the median.

What compression, scaling, light and a shift of a few pixels change stays below NEAR of 256 bits; different frames of
one drive of KITTI's differ by 64 and more, CamVid's a second apart by 80.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

WAVES = 16  # across and down
NEAR = 48  # bits; see above
AT_ONCE = 4096  # pictures that are compared with all others at once


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """bool [256] of a picture uint8 [H, W, 3] BGR, of any size."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (4 * WAVES, 4 * WAVES), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:WAVES, :WAVES].ravel()
    waves[0] = 0  # the mean brightness
    return waves > np.median(waves)


def near(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(index into `some`, index into `others`, bits that differ) of the nearest of `others`, where it is near.

    Both are hashes, bool [n, 256].
    """
    if not len(others):
        return
    signs = others.astype(np.float32) * 2 - 1
    for first in range(0, len(some), AT_ONCE):
        alike = (some[first : first + AT_ONCE].astype(np.float32) * 2 - 1) @ signs.T
        for i, nearest in enumerate(alike.argmax(1)):
            differing = int(signs.shape[1] - alike[i, nearest]) // 2
            if differing <= NEAR:
                yield first + i, int(nearest), differing


def same(hashes: np.ndarray) -> list[list[int]]:
    """Groups of indices of equal hashes, bool [n, 256]."""
    groups: dict[bytes, list[int]] = {}
    for i, bits in enumerate(np.packbits(hashes, axis=1)):
        groups.setdefault(bits.tobytes(), []).append(i)
    return [group for group in groups.values() if len(group) > 1]
