# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's calibration files, calib/<frame>.txt: a matrix a line, "NAME: numbers"."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# The matrices of the left colour camera and the road, as (rows, columns).
SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_cam_to_road": (3, 4)}


class CalibrationError(ValueError):
    """A calibration cannot be read; the message is a sentence."""


def read(path: Path) -> dict[str, np.ndarray]:
    """The matrices of SHAPES, float64, by name.

    Raises FileNotFoundError, or CalibrationError where a matrix is missing or has not the right count of numbers.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} cannot be read as a calibration: {error}.") from None
    entries = {name.strip(): values.split() for name, _, values in (line.partition(":") for line in lines)}
    matrices = {}
    for name, shape in SHAPES.items():
        if name not in entries:
            raise CalibrationError(f"{path} has no line '{name}:'.")
        try:
            matrices[name] = np.array(entries[name], np.float64).reshape(shape)
            if not np.isfinite(matrices[name]).all():
                raise ValueError
        except ValueError:
            wanted = f"{shape[0] * shape[1]} numbers"
            raise CalibrationError(f"{path} has a line '{name}:' that does not hold {wanted}.") from None
    return matrices


def camera_to_ground(matrices: dict[str, np.ndarray]) -> np.ndarray:
    """float64 [3, 4] that takes points from the left colour camera's frame to the ground's, as ground.mounted does.

    The road's frame, x right, y down, z forward, becomes REP 103's: x forward, y left, z up.
    """
    axes = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)
    rectified = np.linalg.inv(matrices["R0_rect"])
    # P2 is of points in the first camera's rectified frame; there its own centre is at -K^-1 p.
    centre = -np.linalg.solve(matrices["P2"][:, :3], matrices["P2"][:, 3])
    turned, moved = matrices["Tr_cam_to_road"][:, :3] @ rectified, matrices["Tr_cam_to_road"][:, 3]
    return axes @ np.column_stack([turned, turned @ centre + moved])
