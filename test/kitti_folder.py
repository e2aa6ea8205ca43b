# SPDX-License-Identifier: Apache-2.0
"""Small folders in KITTI Road's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from train.frames.kitti import GROUND_TRUTH_COLOURS


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


def copied_by_a_mac(folder: Path) -> None:
    """Beside every file of a folder, and of those in it, what a Mac writes on disks that are not its own."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
        path.with_name(".DS_Store").touch()


def write_calibration(path: Path, *, tilt: float = 0.0, yaw: float = 0.0) -> Path:
    """A camera 1.65 m above the road, focal length 700, centre (600, 180), turned by radians, in KITTI's format."""
    (ct, st), (cy, sy) = ((np.cos(angle), np.sin(angle)) for angle in (tilt, yaw))
    rotation = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
    matrices = {
        "P2": np.array([[700.0, 0, 600, 45], [0, 700, 180, 0.2], [0, 0, 1, 0.003]]) if tilt else _PLAIN,
        "R0_rect": rotation.T @ rotation,
        "Tr_cam_to_road": np.column_stack([rotation, [0, -1.65, 0]]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}: {' '.join(f'{value:.12e}' for value in matrix.ravel())}" for name, matrix in matrices.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


_PLAIN = np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]])
