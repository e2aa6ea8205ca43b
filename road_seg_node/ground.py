# SPDX-License-Identifier: Apache-2.0
"""The road on the ground: which pixel each cell of a flat ground shows in (inverse perspective mapping).

Frames are REP 103's. Camera: optical, x right, y down, z forward. Ground: x forward, y left, z up, ground at z = 0.
Pixels are counted as OpenCV and ROS count them: the centre of the first one is (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1  # a cell that the image does not show
NEAR = 0.1  # metres in front of the camera at which its view begins
MAX_CELLS = 1_000_000  # 100 m by 100 m at 0.1 m a cell, or 50 m by 50 m at 0.05 m
STRIP = 65_536  # cells that are worked out at a time: a million at once would take hundreds of megabytes
# How many coefficients OpenCV takes: plumb_bob and rational_polynomial are its general model, equidistant its fisheye.
_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (4, 5, 8, 12, 14), "equidistant": (4,)}
# A cell's value by the probability of its pixel: 0 where the road is sure, 100 where it surely is not.
_OCCUPANCY = np.rint(100 - 100 / 255 * np.arange(256)).astype(np.uint8)
_OUTSIDE = UNKNOWN & 0xFF  # as a byte
_WHOLE = np.empty(0, np.uint16)  # the fractions that cv2.remap wants beside whole pixels: none

Pose = NDArray[np.float64]


class GroundError(ValueError):
    """No grid can be made with this camera and these parameters; the message is a sentence."""


@dataclass(frozen=True)
class Lens:
    """How a camera projects.

    width, height: of its images, in pixels. projection: row-major 3x4, a camera matrix K with a column of zeros, or P.
    distortion: coefficients in OpenCV's order, of one of CameraInfo's models; zeros, or none, for rectified images.
    to_lens: row-major 3x4 from the camera's frame to the lens's own, which is turned against it where images are not
        rectified, and lies beside it of a stereo pair; none where the two are one.
    matrix: the field of CameraInfo that the projection is from, for sentences.
    """

    width: int
    height: int
    projection: tuple[float, ...]
    distortion: tuple[float, ...] = ()
    model: str = "plumb_bob"
    to_lens: tuple[float, ...] = ()
    matrix: str = "k"

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] (columns, rows) of points [N, 3] in the camera's frame; NaN where it cannot see them.

        The formulas are OpenCV's and those of sensor_msgs/CameraInfo. Raises GroundError where there is no calibration.
        """
        matrix = np.array(self.projection, np.float64).reshape(3, 4)
        if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            raise GroundError(
                f"camera_info holds no calibration: the focal lengths in its {self.matrix} are not above 0, or not all "
                "of it is finite. Calibrate the camera."
            )
        if (matrix[2, :3] != (0, 0, 1)).any():
            raise GroundError(
                f"camera_info holds no calibration: the last row of its {self.matrix} is not 0, 0, 1. Calibrate the "
                "camera."
            )
        if self.to_lens:
            moved = np.array(self.to_lens, np.float64).reshape(3, 4)
            points = points @ moved[:, :3].T + moved[:, 3]
        seen = points[:, 2] > NEAR
        pixels = np.full((len(points), 2), np.nan)
        if any(self.distortion):
            coefficients = self._coefficients()
            seen[seen] = self._within_the_lens(points[seen], coefficients)
            pixels[seen] = self._distorted(points[seen], matrix[:, :3], coefficients)
        else:
            across, down, depth = matrix @ np.vstack([points[seen].T, np.ones(int(seen.sum()))])
            pixels[seen] = np.stack([across, down], 1) / depth[:, None]
        return pixels

    def _coefficients(self) -> np.ndarray:
        """As many of the distortion as its model has; zeros behind them are no obstacle."""
        counts, given = _COEFFICIENTS.get(self.model), self.distortion
        if counts is None:
            raise GroundError(
                f"camera_info's distortion_model {self.model!r} is not known; known: {', '.join(_COEFFICIENTS)}."
            )
        if not np.isfinite(given).all():
            raise GroundError("camera_info's d holds a number that is not finite. Calibrate the camera.")
        fitting = [count for count in counts if count <= len(given) and not any(given[count:])]
        if not fitting:
            raise GroundError(
                f"camera_info's d has {len(given)} numbers, but its distortion_model {self.model} takes "
                f"{' or '.join(map(str, counts))}: one of the two is wrong."
            )
        return np.array(given[: fitting[-1]])

    def _distorted(self, points: np.ndarray, matrix: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        if not len(points):
            return np.empty((0, 2))
        still = np.zeros(3)
        if self.model == "equidistant":
            return cv2.fisheye.projectPoints(points[:, None], still, still, matrix, coefficients)[0].reshape(-1, 2)
        return cv2.projectPoints(points[:, None], still, still, matrix, coefficients)[0].reshape(-1, 2)

    def _within_the_lens(self, points: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Whether the distortion holds there: its polynomial folds what lies far outside back into the picture."""
        k = np.zeros(8)
        r = np.linspace(0, math.pi / 2 if self.model == "equidistant" else 8, 2000)
        if self.model == "equidistant":
            k[:4] = coefficients
            radius = r * (1 + r**2 * (k[0] + r**2 * (k[1] + r**2 * (k[2] + r**2 * k[3]))))
        else:
            k[: min(len(coefficients), 8)] = coefficients[:8]
            k1, k2, _, _, k3, k4, k5, k6 = k
            divisor = 1 + r**2 * (k4 + r**2 * (k5 + r**2 * k6))
            radius = r * (1 + r**2 * (k1 + r**2 * (k2 + r**2 * k3))) / np.where(divisor > 0, divisor, np.nan)
        falls = np.flatnonzero(~(np.diff(radius) > 0))
        limit = r[falls[0]] if len(falls) else math.inf
        off_axis = np.hypot(points[:, 0], points[:, 1]) / points[:, 2]
        return (np.arctan(off_axis) if self.model == "equidistant" else off_axis) < limit


@dataclass(frozen=True)
class Extent:
    """The part of the ground that a grid covers, in metres of the ground's frame: x from -behind to ahead, y sides."""

    cell: float
    ahead: float
    behind: float
    sides: float

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns): cells along y and along x."""
        return max(1, round(2 * self.sides / self.cell)), max(1, round((self.ahead + self.behind) / self.cell))

    def centres(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """float64 [rows * columns, 3], row by row: x grows along a row, y from row to row, z is 0.

        begin, end: of these rows alone.
        """
        rows, columns = self.shape
        x = -self.behind + self.cell * (np.arange(columns) + 0.5)
        y = -self.sides + self.cell * (np.arange(rows)[begin:end] + 0.5)
        return np.stack([*np.meshgrid(x, y), np.zeros((len(y), columns))], -1).reshape(-1, 3)


def mounted(height: float, tilt: float = 0.0, roll: float = 0.0) -> Pose:
    """Where a camera is, as the float64 [3, 4] that takes its points to the ground's frame, which lies straight below.

    height: of the lens above the ground, metres. tilt: downwards, radians; roll: clockwise as the camera sees, radians.
    By REP 103 these are a positive pitch and roll. x goes where the camera looks.
    """
    optical = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)  # to x forward, y left, z up
    (ct, st), (cr, sr) = ((math.cos(angle), math.sin(angle)) for angle in (tilt, roll))
    pitched = np.array([[ct, 0, st], [0, 1, 0], [-st, 0, ct]])
    rolled = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return np.column_stack([pitched @ rolled @ optical, [0, 0, height]])


def attitude(pose: Pose) -> tuple[float, float, float]:
    """(height, tilt, roll) of a camera: mounted() of them is `pose` but for its place and heading."""
    body = pose[:, :3] @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float64)
    tilt, roll = -math.asin(max(-1.0, min(1.0, body[2, 0]))), math.atan2(body[2, 1], body[2, 2])
    return float(pose[2, 3]), tilt, roll


class GroundView:
    """One camera's view of the ground. Making it takes tens of milliseconds (a million cells: up to two seconds).

    source: int16 [rows, columns, 2], the (column, row) of the pixel that each cell shows in, -1 where in none.
    """

    def __init__(self, lens: Lens, pose: Pose, extent: Extent) -> None:
        """pose: float64 [3, 4], from the camera's frame to the ground's. Raises GroundError where no cell is seen."""
        rows, columns = extent.shape
        if rows * columns > MAX_CELLS:
            raise GroundError(
                f"A grid of {rows}x{columns} cells is larger than {MAX_CELLS}: take larger cells or a smaller extent."
            )
        if lens.width <= 0 or lens.height <= 0:
            raise GroundError(
                f"camera_info is of images of {lens.width}x{lens.height} pixels: its width, height, roi or binning is "
                "wrong."
            )
        if pose[2, 3] <= 0:
            raise GroundError(f"The camera must be above the ground, not at {pose[2, 3]:.2f} m.")
        self.source = np.empty((rows, columns, 2), np.int16)
        strip = max(1, STRIP // columns)
        for row in range(0, rows, strip):
            points = (extent.centres(row, row + strip) - pose[:, 3]) @ pose[:, :3]
            pixels = np.rint(lens.project(points)).reshape(-1, columns, 2)
            with np.errstate(invalid="ignore"):
                inside = (pixels >= 0).all(2) & (pixels < (lens.width, lens.height)).all(2)
            self.source[row : row + strip] = np.where(inside[..., None], pixels, -1)
        if (self.source < 0).all():
            raise GroundError(
                "The camera sees no cell of the grid: check its height and tilt, its camera_info, the grid's extent, "
                "and that the images' frame_id is an optical frame (z forward, REP 103)."
            )
        self.shape = (lens.height, lens.width)

    def grid(self, probability: np.ndarray) -> np.ndarray:
        """int8 [rows, columns] from a probability, uint8 [H, W], round(255 * P(road)).

        0 where the road is sure, 100 where it surely is not, graded between, -1 where the image shows nothing. Raises
        GroundError where the image has another size than the camera's calibration.
        """
        if probability.shape != self.shape:
            ours, its = (f"{width}x{height}" for height, width in (probability.shape, self.shape))
            raise GroundError(
                f"The images have {ours} pixels, but camera_info is of {its}, by its width, height, roi and binning: "
                "the two sizes must agree."
            )
        occupancy = cv2.LUT(probability, _OCCUPANCY)
        cells = cv2.remap(
            occupancy, self.source, _WHOLE, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(_OUTSIDE,)
        )
        return np.asarray(cells, np.uint8).view(np.int8)
