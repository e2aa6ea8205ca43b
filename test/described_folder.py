# SPDX-License-Identifier: Apache-2.0
"""Small data sets with masks, and what a description makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from train.frames.sources import Source, sources_of
from train.labels import IGNORE

HEIGHT, WIDTH = 24, 30
ROAD, NOT_ROAD, NOT_VALID = 1, 0, IGNORE


def write(path: Path, picture: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    if palette:
        image = Image.fromarray(picture, "P")
        image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(path)


def stripes(classes: list[Any]) -> np.ndarray:
    """A mask, uint8 [H, W] of ids or [H, W, 3] of colours, with a stripe of columns for each class."""
    values = np.array(classes, np.uint8)
    return np.broadcast_to(values[np.arange(WIDTH) * len(classes) // WIDTH], (HEIGHT, WIDTH, *values.shape[1:])).copy()


def only(word: str) -> Source:
    (source,) = sources_of([word])
    return source
