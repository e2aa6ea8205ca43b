# SPDX-License-Identifier: Apache-2.0
"""The picture that people look at: the camera image with the road tinted and its border drawn."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

Colour = tuple[int, int, int]  # blue, green, red

COLOUR: Colour = (96, 200, 0)  # a green that neither grey asphalt nor white lane marks hold
OPACITY = 0.4  # share of the colour inside the road
LIGHTER = 64  # by how much of 255 the line along the road's border is lighter than the colour


def tint(bgr: np.ndarray, mask: np.ndarray, colour: Colour = COLOUR, opacity: float = OPACITY) -> np.ndarray:
    """Returns a new image in which the road of `mask` is tinted and outlined.

    bgr: uint8 [H, W, 3], colour order BGR, left as it is. mask: uint8 [H, W], 255 road, 0 not. colour: BGR, each
    0 to 255. opacity: its share, 0 (the outline alone) to 1.
    Outside the road every byte stays as it was; the outline is drawn on the road's own outermost pixels.
    Raises ValueError when the two sizes differ.
    """
    if bgr.shape[:2] != mask.shape:
        raise ValueError(f"The image has {bgr.shape[:2]} rows and columns, its mask {mask.shape}.")
    picture = np.array(bgr, order="C")
    cv2.copyTo(cv2.LUT(picture, _tinted(colour, opacity)), mask, picture)
    # erode() takes what lies outside the picture for road, so the picture's edge gets no line.
    side = 2 * max(1, round(len(mask) / 400)) + 1
    inside = cv2.erode(mask, np.ones((side, side), np.uint8))
    picture.reshape(-1, 3)[np.flatnonzero(mask != inside)] = [min(255, channel + LIGHTER) for channel in colour]
    return picture


@lru_cache(maxsize=1)
def _tinted(colour: Colour, opacity: float) -> np.ndarray:
    """The blend of each of 256 values with the colour, a channel at a time: uint8 [256, 1, 3], as cv2.LUT takes it."""
    values = np.arange(256)[:, None, None] * (1.0 - opacity) + np.array(colour)[None, None, :] * opacity
    return np.rint(values).astype(np.uint8)
