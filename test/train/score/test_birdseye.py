# SPDX-License-Identifier: Apache-2.0
"""The bird's-eye view takes the pixels that KITTI's definition names, and each broken calibration is a sentence."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from kitti_folder import write_calibration

from train.frames.data_error import DataError
from train.score.birdseye import BirdsEye, homography


def by_definition(matrices: dict[str, np.ndarray], height: int, width: int, row: int, column: int) -> tuple | None:
    """The (row, column) of the picture that one pixel of the view takes, a point in metres taken through each frame."""
    x, z = float(np.float32(-10 + 0.05 * (column + 0.5))), float(np.float32(46 - 0.05 * (row + 0.5)))
    rotation, translation = matrices["Tr_cam_to_road"][:, :3], matrices["Tr_cam_to_road"][:, 3]
    in_camera = np.linalg.solve(rotation, np.array([x, 0, z]) - translation)
    u, v, w = matrices["P2"] @ np.append(matrices["R0_rect"] @ in_camera, 1)
    u, v = u / w, v / w
    if not (1 <= u <= width and 1 <= v <= height):
        return None
    return math.floor(v) - 1, math.floor(u) - 1


def read_matrices(calibration: Path) -> dict[str, np.ndarray]:
    entries = dict(line.split(":") for line in calibration.read_text().splitlines() if line)
    values = {name: np.array(numbers.split(), float) for name, numbers in entries.items()}
    shapes = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_cam_to_road": (3, 4)}
    return {name: values[name].reshape(shape) for name, shape in shapes.items()}


def compare(calibration: Path, height: int, width: int) -> float:
    """Compare a grid of pixels; returns the share of the view that the picture shows."""
    above = BirdsEye(homography(calibration), height, width)
    index = np.arange(height * width, dtype=np.int64).reshape(height, width)
    view, matrices = above.view(index, outside=-1), read_matrices(calibration)
    assert view.shape == (800, 400)
    for row in [*range(0, 800, 23), 798, 799]:
        for column in [*range(0, 400, 7), 398, 399]:
            source = by_definition(matrices, height, width, row, column)
            expected = -1 if source is None else source[0] * width + source[1]
            assert view[row, column] == expected, (row, column)
    return float((view >= 0).mean())


def test_the_view_of_kittis_own_calibration(data_folder: Path) -> None:
    calibration = data_folder / "kitti_road_sample" / "training" / "calib" / "um_000000.txt"
    assert 0.9 < compare(calibration, 375, 1242) < 1


@pytest.mark.parametrize(("height", "width"), [(375, 1242), (370, 1224), (240, 700)])
def test_the_view_of_a_camera_that_is_turned_and_tilted(tmp_path: Path, height: int, width: int) -> None:
    path = write_calibration(tmp_path / "um_000000.txt", tilt=0.02, yaw=-0.03)
    assert 0.2 < compare(path, height, width) < 1


def test_a_level_camera_sees_a_row_of_the_road_at_one_height(tmp_path: Path) -> None:
    # Height 1.65 m, focal length 700, centre (600, 180): v = 180 + 700 * 1.65 / Z and u = 600 + 700 X / Z.
    above = BirdsEye(homography(write_calibration(tmp_path / "um_000000.txt")), 375, 1242)
    rows = np.repeat(np.arange(375, dtype=np.int16)[:, None], 1242, axis=1)
    view = above.view(rows, outside=-1)
    for row in (0, 300, 700):
        v = 180 + 700 * 1.65 / (46 - 0.05 * (row + 0.5))
        assert set(view[row]) - {-1} == {math.floor(v) - 1}
    columns = above.view(np.repeat(np.arange(1242, dtype=np.int16)[None], 375, axis=0))
    for column in (100, 300):
        assert columns[0, column] == math.floor(600 + 700 * (-10 + 0.05 * (column + 0.5)) / 45.975) - 1


def test_lines_along_the_road_are_straight_and_upright(tmp_path: Path) -> None:
    # A lane from X = -2 to 2 m, painted into the picture by the camera's own formula, is 80 columns wide everywhere.
    v, u = np.mgrid[1:376, 1:1243]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (u - 600) / 700 * (700 * 1.65 / (v - 180))
    lane = ((v > 180) & (abs(x) < 2)).astype(np.uint8)
    above = BirdsEye(homography(write_calibration(tmp_path / "um_000000.txt")), 375, 1242)
    widths = above.view(lane)[400:].sum(axis=1)  # nearer than 26 m, where a pixel is small
    assert abs(widths.astype(int) - 80).max() <= 2


def test_colours_and_what_lies_outside(tmp_path: Path) -> None:
    above = BirdsEye(homography(write_calibration(tmp_path / "um_000000.txt")), 375, 1242)
    view = above.view(np.full((375, 1242, 3), (1, 2, 3), np.uint8), outside=9)
    assert view.shape == (800, 400, 3) and (view[above.inside] == (1, 2, 3)).all() and (view[~above.inside] == 9).all()
    assert 0 < above.inside.mean() < 1
    with pytest.raises(ValueError, match="370"):
        above.view(np.zeros((370, 1242), np.uint8))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text.replace("R0_rect", "R_rect"), "R0_rect"),
        (lambda text: text.replace("P2: ", "P2: 7 "), "12 numbers"),
        (lambda text: text.replace("P2: ", "P2: seven "), "P2"),
        (lambda text: text[:-40], "Tr_cam_to_road"),
        (lambda text: "Tr_cam_to_road:" + " 0" * 12 + "\nP2:" + " 1" * 12 + "\nR0_rect:" + " 1" * 9, "inverted"),
        (lambda text: "\x89PNG\xff", "um_000000.txt"),
    ],
)
def test_a_broken_calibration_is_named(tmp_path: Path, change: object, named: str) -> None:
    path = write_calibration(tmp_path / "um_000000.txt")
    path.write_text(change(path.read_text()), encoding="latin-1")
    with pytest.raises(DataError, match=named) as caught:
        homography(path)
    assert str(path) in str(caught.value)


def test_a_missing_calibration_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "calib" / "um_000007.txt", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            homography(path)
