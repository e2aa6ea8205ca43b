# SPDX-License-Identifier: Apache-2.0
"""The road on the ground lies where the camera's geometry says: by hand, by OpenCV, and by KITTI's calibration."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_folder import write_calibration

from road_seg_node.camera import kitti_calibration
from road_seg_node.ground import UNKNOWN, Extent, GroundError, GroundView, Lens, Pose, attitude, mounted
from road_seg_node.synthetic_road.scene import Road
from train.score.birdseye import BirdsEye, homography

FOCAL, CENTRE = 700.0, (620.0, 187.0)
PLAIN = (FOCAL, 0, CENTRE[0], 0, 0, FOCAL, CENTRE[1], 0, 0, 0, 1, 0)
LENS = Lens(1242, 375, PLAIN)
BENT = (-0.37, 0.2, 0.001, -0.002, -0.07)  # plumb_bob
EXTENT = Extent(cell=0.1, ahead=40, behind=2, sides=10)


def cell(extent: Extent, x: float, y: float) -> tuple[int, int]:
    """(row, column) of the cell at (x, y), by the letter of nav_msgs/OccupancyGrid with origin (-behind, -sides)."""
    return math.floor((y + extent.sides) / extent.cell), math.floor((x + extent.behind) / extent.cell)


@pytest.mark.parametrize(("x", "y"), [(8.05, 0.05), (8.05, 3.05), (20.05, -3.05), (39.95, 9.95)])
def test_a_level_camera_by_hand(x: float, y: float) -> None:
    """1.5 m above the ground a point x ahead and y to the left is f 1.5 / x below the horizon, f y / x left."""
    view = GroundView(LENS, mounted(1.5), EXTENT)
    expected = (round(CENTRE[0] - FOCAL * y / x), round(CENTRE[1] + FOCAL * 1.5 / x))
    assert tuple(view.source[cell(EXTENT, x, y)]) == expected


def test_tilt_is_downwards_and_roll_clockwise() -> None:
    x, y, height = 10.05, 2.05, 1.5
    tilted = GroundView(LENS, mounted(height, tilt=0.05), EXTENT).source[cell(EXTENT, x, y)]
    below = math.atan2(height, x) - 0.05  # the angle below the optical axis in the middle column
    middle = GroundView(LENS, mounted(height, tilt=0.05), EXTENT).source[cell(EXTENT, x, 0.0)]
    assert abs(middle[1] - (CENTRE[1] + FOCAL * math.tan(below))) <= 0.51
    level = GroundView(LENS, mounted(height), EXTENT).source[cell(EXTENT, x, y)]
    assert tilted[1] < level[1]  # looking down lifts what is seen
    rolled = GroundView(LENS, mounted(height, roll=0.1), EXTENT).source[cell(EXTENT, x, y)]
    angle = np.array(level) - CENTRE
    turned = np.array([[math.cos(0.1), math.sin(0.1)], [-math.sin(0.1), math.cos(0.1)]]) @ angle
    np.testing.assert_allclose(rolled - np.array(CENTRE), turned, atol=1.1)  # the world turns against the camera


def test_behind_the_camera_and_outside_the_picture_is_unknown() -> None:
    view = GroundView(LENS, mounted(1.5), EXTENT)
    grid = view.grid(np.full((375, 1242), 255, np.uint8))
    assert grid.dtype == np.int8 and grid.shape == (200, 420)
    assert (grid[:, :20] == UNKNOWN).all()  # x < 0
    assert (grid[:, 20:70] == UNKNOWN).all()  # nearer than the lowest row shows: 700 * 1.5 / 187.5 = 5.6 m
    assert (grid[100, 80:] == 0).all()
    for row, column in ((0, 80), (199, 80)):  # 6 m ahead, 10 m aside: left and right of the picture
        assert grid[row, column] == UNKNOWN
    assert (grid == UNKNOWN).sum() + (grid == 0).sum() == grid.size


def test_values_are_graded_from_road_to_none() -> None:
    view = GroundView(LENS, mounted(1.5), EXTENT)
    for probability, value in ((255, 0), (0, 100), (128, 50), (64, 75), (191, 25), (254, 0), (252, 1), (1, 100)):
        seen = view.grid(np.full((375, 1242), probability, np.uint8))[100, 80:]
        assert set(seen.tolist()) == {value}


def test_left_and_right_and_far_are_where_rep_103_has_them() -> None:
    """Road in the picture's left half alone is road at positive y, which are the later rows."""
    probability = np.zeros((375, 1242), np.uint8)
    probability[:, : int(CENTRE[0])] = 255
    grid = GroundView(LENS, mounted(1.5), EXTENT).grid(probability)
    seen = grid[:, 100:]
    assert (seen[101:][seen[101:] != UNKNOWN] == 0).all()
    assert (seen[:99][seen[:99] != UNKNOWN] == 100).all()
    far = np.zeros((375, 1242), np.uint8)
    far[: int(CENTRE[1] + FOCAL * 1.5 / 20)] = 255  # what lies beyond 20 m
    grid = GroundView(LENS, mounted(1.5), EXTENT).grid(far)
    assert grid[100, 20 + 195] == 100 and grid[100, 20 + 206] == 0


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", BENT),
        ("rational_polynomial", (0.1, -0.05, 0.0, 0.001, 0.01, 0.4, -0.1, 0.02)),
        ("equidistant", (0.05, -0.02, 0.003, -0.001)),
    ],
)
def test_a_distorted_picture_gives_the_grid_of_the_undistorted(model: str, distortion: tuple[float, ...]) -> None:
    """The ground is painted into a straight picture, that one is bent by OpenCV's maps, and both grids are compared."""
    lens = Lens(1242, 375, PLAIN, distortion, model)
    matrix, coefficients = np.array(PLAIN).reshape(3, 4)[:, :3], np.array(distortion)
    rows, columns = np.mgrid[0:375, 0:1242]
    bent = np.stack([columns, rows], -1).reshape(-1, 1, 2).astype(np.float64)
    undistort = cv2.fisheye.undistortPoints if model == "equidistant" else cv2.undistortPoints
    across, down = undistort(bent, matrix, coefficients).reshape(375, 1242, 2).transpose(2, 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = 1.5 / down, -across * 1.5 / down
        painted = np.where(down > 0, 127 + 120 * np.sin(0.6 * x) * np.cos(0.5 * y), 0).astype(np.uint8)
    extent = Extent(0.1, 14, 0, 8)
    grid = GroundView(lens, mounted(1.5), extent).grid(painted)
    at = extent.centres().reshape(*extent.shape, 3)
    expected = 100 - (127 + 120 * np.sin(0.6 * at[..., 0]) * np.cos(0.5 * at[..., 1])) / 2.55
    inside = grid != UNKNOWN
    assert inside.mean() > 0.3
    difference = np.abs(grid[inside] - expected[inside])
    assert np.percentile(difference, 99) < 6 and difference.mean() < 1.5  # a pixel is up to 0.3 m long at 14 m


def test_a_strong_distortion_folds_nothing_back_into_the_picture() -> None:
    """r (1 - 0.37 r^2) falls beyond r = 0.95: what lies further out would come out near the middle again."""
    folding = Lens(1242, 375, PLAIN, (-0.37, 0.0, 0.0, 0.0, 0.0))
    view = GroundView(folding, mounted(1.5), Extent(0.1, 20, 0, 50))
    rows, columns = np.nonzero(view.source[..., 0] >= 0)
    x, y = 0.1 * (columns + 0.5), -50 + 0.1 * (rows + 0.5)
    assert (np.hypot(y, 1.5) / x).max() < 0.95


def kitti(calibration: Path) -> tuple[Lens, Pose]:
    """The camera of KITTI's calibration file, and its pose against the road in REP 103's axes."""
    matrices = kitti_calibration.read(calibration)
    k = np.column_stack([matrices["P2"][:, :3], np.zeros(3)])
    return Lens(1242, 375, tuple(k.ravel())), kitti_calibration.camera_to_ground(matrices)


BIRDS_EYE = Extent(cell=0.05, ahead=46, behind=-6, sides=10)  # x from 6 to 46 m


def from_above(grid: np.ndarray) -> np.ndarray:
    """A grid in the order of KITTI's view: far above near, left before right."""
    return grid.transpose(1, 0, *range(2, grid.ndim))[::-1, ::-1]


def compare(calibration: Path, probability: np.ndarray) -> float:
    """Compare grid and bird's-eye view of one picture; returns the share of cells that both see."""
    lens, pose = kitti(calibration)
    above = BirdsEye(homography(calibration), 375, 1242)
    index = np.arange(375 * 1242).reshape(375, 1242)
    theirs = above.view(index, outside=-1)
    row, column = np.divmod(theirs, 1242)
    # As ROS counts pixels: the same but for the one and a half that KITTI's kit has on top (it counts from 1 and cuts
    # off where this rounds).
    ours = from_above(GroundView(lens, pose, BIRDS_EYE).source)
    both = (theirs >= 0) & (ours[..., 0] >= 0)
    for axis, other in ((0, column), (1, row)):
        assert set(np.unique(ours[both][:, axis] - other[both])) <= {1, 2}
    # With those taken off, the same pixels.
    projection = np.array(lens.projection).reshape(3, 4)
    projection[:2] -= 1.5 * projection[2]
    view = GroundView(Lens(1242, 375, tuple(projection.ravel())), pose, BIRDS_EYE)
    ours = from_above(view.source)
    both = (theirs >= 0) & (ours[..., 0] >= 0)
    same = (ours[..., 0] == column) & (ours[..., 1] == row)
    assert same[both].mean() > 0.9999
    # Which cells are seen differs by the pixel at the right and lower edge that the kit leaves out.
    assert (both == (theirs >= 0)).all()
    grid, expected = from_above(view.grid(probability)), above.view(100 - probability / 2.55, outside=UNKNOWN)
    assert (np.abs(grid - expected)[same & both] <= 0.5 + 1e-9).all()
    return float(both.mean())


def test_kittis_calibration_and_birds_eye_view_show_the_same_pixels(data_folder: Path) -> None:
    folder = data_folder / "kitti_road_sample" / "training"
    truth = cv2.imread(str(folder / "gt_image_2" / "um_road_000000.png"))
    assert compare(folder / "calib" / "um_000000.txt", truth[..., 0]) > 0.9


def test_a_turned_and_tilted_camera_shows_the_same_pixels(tmp_path: Path) -> None:
    calibration = write_calibration(tmp_path / "um_000000.txt", tilt=0.02, yaw=-0.03)
    noise = np.random.default_rng(0).integers(0, 256, (375, 1242), np.uint8)
    assert compare(calibration, noise) > 0.2


def test_the_attitude_of_a_mounting_is_what_it_was_made_of(data_folder: Path) -> None:
    np.testing.assert_allclose(attitude(mounted(1.5, 0.2, -0.1)), (1.5, 0.2, -0.1))
    calibration = data_folder / "kitti_road_sample" / "training" / "calib" / "um_000000.txt"
    height, tilt, roll = attitude(kitti(calibration)[1])
    assert height == pytest.approx(1.6, abs=0.05)  # as in KITTI's drawing of its car
    assert abs(tilt) < 0.02 and abs(roll) < 0.03
    # Turned about the upright axis and moved, it is the calibration's again.
    pose = kitti(calibration)[1]
    yaw = math.atan2(pose[1, 2], pose[0, 2])  # of the optical axis
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    np.testing.assert_allclose(turn @ mounted(height, tilt, roll)[:, :3], pose[:, :3], atol=1e-6)
    assert np.abs(pose[:2, 3]).max() < 0.3  # metres


@pytest.mark.parametrize(("seed", "width"), [(0, 3.656), (1, 7.078), (7, 6.970)])
def test_the_synthetic_road_has_its_width_on_the_ground(seed: int, width: float) -> None:
    road = Road(seed)
    k, height = road.camera(1242, 375)
    lens = Lens(1242, 375, tuple(np.column_stack([k, np.zeros(3)]).ravel()))
    truth = road.render(1242, 375)[1].astype(np.uint8) * 255
    grid = GroundView(lens, mounted(height), Extent(0.05, 16, 0, 8)).grid(truth)
    for ahead in (10, 12, 15):
        assert 0.05 * (grid[:, round(ahead / 0.05)] == 0).sum() == pytest.approx(width, abs=0.11)


@pytest.mark.parametrize(
    ("lens", "pose", "extent", "words"),
    [
        (Lens(1242, 375, (0.0,) * 12), mounted(1.5), EXTENT, "no calibration"),
        (Lens(1242, 375, (math.nan,) * 12), mounted(1.5), EXTENT, "no calibration"),
        (LENS, mounted(-1.5), EXTENT, "above the ground, not at -1.50 m"),
        (LENS, mounted(1.5, tilt=-0.8), EXTENT, "sees no cell"),
        (LENS, mounted(1.5), Extent(0.05, 500, 0, 500), "20000x10000 cells"),
        (Lens(1242, 375, PLAIN, (0.1,) * 4, "bent"), mounted(1.5), EXTENT, "distortion_model 'bent' is not known"),
        (Lens(1242, 375, PLAIN, (0.1,) * 3), mounted(1.5), EXTENT, "d has 3 numbers, .*plumb_bob takes 4 or 5"),
        (Lens(1242, 375, PLAIN, (0.1,) * 8), mounted(1.5), EXTENT, "d has 8 numbers, .*plumb_bob takes 4 or 5"),
        (Lens(1242, 375, PLAIN, (0.1,) * 5, "equidistant"), mounted(1.5), EXTENT, "5 numbers, .*equidistant takes 4"),
        (Lens(1242, 375, PLAIN, (0.1,) * 3 + (math.nan,)), mounted(1.5), EXTENT, "camera_info's d holds .* not finite"),
        (Lens(1242, 375, (0.0,) * 12, matrix="p"), mounted(1.5), EXTENT, "focal lengths in its p are not above 0"),
        (Lens(0, 0, PLAIN), mounted(1.5), EXTENT, "of 0x0 pixels: its width, height, roi or binning"),
    ],
)
def test_what_gives_no_grid_is_told(lens: Lens, pose: Pose, extent: Extent, words: str) -> None:
    with pytest.raises(GroundError, match=words):
        GroundView(lens, pose, extent)


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        ("plumb_bob", (*BENT, 0.0, 0.0, 0.0), ("plumb_bob", BENT)),
        ("plumb_bob", (*BENT[:4], 0.0, 0.0), ("plumb_bob", BENT[:4])),
        ("rational_polynomial", BENT, ("plumb_bob", BENT)),
        ("rational_polynomial", (*BENT, 0.0, 0.0, 0.0), ("plumb_bob", BENT)),
        ("rational_polynomial", (*BENT, 0.1, 0.0, 0.0, 0.0, 0.0), ("rational_polynomial", (*BENT, 0.1, 0.0, 0.0))),
        ("equidistant", (0.1, 0.01, 0.0, 0.0, 0.0), ("equidistant", (0.1, 0.01, 0.0, 0.0))),
    ],
)
def test_zeros_behind_the_coefficients_change_nothing(
    model: str, given: tuple[float, ...], meant: tuple[str, tuple[float, ...]]
) -> None:
    points = mounted(1.5)[:, :3].T @ (EXTENT.centres() - mounted(1.5)[:, 3]).T
    expected = Lens(1242, 375, PLAIN, meant[1], meant[0]).project(points.T)
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(Lens(1242, 375, PLAIN, given, model).project(points.T), expected, atol=1e-9)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(GroundError, match="The images have 640x480 pixels, but camera_info is of 1242x375"):
        GroundView(LENS, mounted(1.5), EXTENT).grid(np.zeros((480, 640), np.uint8))
