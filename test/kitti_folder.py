# SPDX-License-Identifier: Apache-2.0
"""Small folders in KITTI Road's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from train.data import GROUND_TRUTH_COLOURS


def stripes(height: int = 30, width: int = 40) -> np.ndarray:
    truth = np.zeros((height, width, 3), np.uint8)
    for i, colour in enumerate(GROUND_TRUTH_COLOURS.values()):
        truth[i * height // 3 : (i + 1) * height // 3] = colour
    return truth


def add_frame(folder: Path, name: str) -> Path:
    drive, number = Path(name).stem.rsplit("_", 1)
    truth = folder / "gt_image_2" / f"{drive}_road_{number}.png"
    for path, picture in ((folder / "image_2" / name, np.full((30, 40, 3), 99, np.uint8)), (truth, stripes())):
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), picture)
    return truth
