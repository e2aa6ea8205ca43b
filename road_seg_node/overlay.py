# SPDX-License-Identifier: Apache-2.0
"""The picture that people look at: the camera image with the road tinted and its border drawn."""

from __future__ import annotations

import cv2
import numpy as np

COLOUR = (96, 200, 0)  # BGR, a green that neither grey asphalt nor white lane marks hold
OPACITY = 0.4  # share of the colour inside the road
BORDER = (160, 255, 64)  # BGR, the line along the road's border

# The blend of each of 256 values with COLOUR, a channel at a time: [256, 1, 3], as cv2.LUT takes it.
_TINTED = np.rint(np.arange(256)[:, None, None] * (1.0 - OPACITY) + np.array(COLOUR)[None, None, :] * OPACITY).astype(
    np.uint8
)


def tint(bgr: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns a new image in which the road of `mask` is tinted and outlined.

    bgr: uint8 [H, W, 3], colour order BGR, left as it is. mask: uint8 [H, W], 255 road, 0 not.
    Outside the road every byte stays as it was; the outline is drawn on the road's own outermost pixels.
    Raises ValueError when the two sizes differ.
    """
    if bgr.shape[:2] != mask.shape:
        raise ValueError(f"The image has {bgr.shape[:2]} rows and columns, its mask {mask.shape}.")
    picture = np.array(bgr, order="C")
    cv2.copyTo(cv2.LUT(picture, _TINTED), mask, picture)
    # erode() takes what lies outside the picture for road, so the picture's edge gets no line.
    side = 2 * max(1, round(len(mask) / 400)) + 1
    inside = cv2.erode(mask, np.ones((side, side), np.uint8))
    picture.reshape(-1, 3)[np.flatnonzero(mask != inside)] = BORDER
    return picture
