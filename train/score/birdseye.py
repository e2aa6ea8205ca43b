# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's bird's-eye view: the road plane in front of the car, at 5 cm a pixel, from calibration alone.

The benchmark's server ranks in this view. What is here follows its development kit (Fritsch et al., ITSC 2013) to the
rounding, so that the same pixels count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from road_seg_node.camera import kitti_calibration
from train.frames.data_error import DataError
from train.frames.frame import Frame, each

ROWS, COLUMNS = 800, 400
METRES = 0.05  # a pixel's side
LEFT, FAR = -10.0, 46.0  # the outer edges of column 0 and row 0, in metres of the road's X and Z


def homographies(frames: Sequence[Frame]) -> dict[Frame, np.ndarray]:
    """The `homography` of each frame; raises DataError that names all the calibrations that are no good."""
    return dict(zip(frames, each(frames, lambda frame: homography(frame.calibration)), strict=True))


def homography(calibration: Path) -> np.ndarray:
    """float64 [3, 3] that takes (X, Z, 1) of the road plane, in metres, to 1-based pixels (u, v) of image_2.

    Raises:
        DataError: the file is missing, or lacks a matrix, or has one that is not numbers of the right count.
    """
    try:
        matrices = kitti_calibration.read(calibration)
    except FileNotFoundError:
        raise DataError(
            f"{calibration} is missing: the bird's-eye view needs the calibration of every frame. Unpack KITTI's "
            "calib folder beside image_2, or choose --view perspective."
        ) from None
    except kitti_calibration.CalibrationError as error:
        raise DataError(f"{error} The bird's-eye view needs it.") from None
    rectification, camera_to_road = np.eye(4), np.eye(4)
    rectification[:3, :3] = matrices["R0_rect"]
    camera_to_road[:3] = matrices["Tr_cam_to_road"]
    try:
        road_to_image = matrices["P2"] @ rectification @ np.linalg.inv(camera_to_road)
    except np.linalg.LinAlgError:
        raise DataError(f"{calibration} has a Tr_cam_to_road that cannot be inverted; fetch the file again.") from None
    return road_to_image[:, [0, 2, 3]]  # the road is where Y is 0


class BirdsEye:
    """The view of one camera and picture size: which pixel of the picture each pixel of the view takes.

    Row r of the view is Z = 46 - 0.05 (r + 0.5) metres ahead, column c is X = -10 + 0.05 (c + 0.5) to the right.
    """

    def __init__(self, homography: np.ndarray, height: int, width: int) -> None:
        # Rounded to float32, as the development kit has them.
        x = (LEFT + METRES * (np.arange(COLUMNS) + 0.5)).astype(np.float32)
        z = (FAR - METRES * (np.arange(ROWS) + 0.5)).astype(np.float32)
        ground = np.stack([*np.meshgrid(x, z), np.ones((ROWS, COLUMNS))]).reshape(3, -1)
        u, v, w = homography @ ground
        with np.errstate(divide="ignore", invalid="ignore"):  # the horizon is at w = 0; no pixel shows it
            u, v = u / w, v / w
            self.inside = ((u >= 1) & (v >= 1) & (u <= width) & (v <= height)).reshape(ROWS, COLUMNS)
        seen = self.inside.ravel()
        self.shape = height, width
        self.source = (v[seen].astype(np.int64) - 1) * width + u[seen].astype(np.int64) - 1

    def view(self, picture: np.ndarray, outside: int = 0) -> np.ndarray:
        """The view [800, 400] or [800, 400, C] of a picture [H, W] or [H, W, C], `outside` where it sees nothing."""
        if picture.shape[:2] != self.shape:
            raise ValueError(f"This view is of pictures of {self.shape} rows and columns, not {picture.shape[:2]}.")
        channels = picture.shape[2:]
        view = np.full((ROWS, COLUMNS, *channels), outside, picture.dtype)
        view[self.inside] = picture.reshape(-1, *channels)[self.source]
        return view
