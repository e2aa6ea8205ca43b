# SPDX-License-Identifier: Apache-2.0
"""~/road_grid over real DDS: the cells that ground.py says, in the frame that is promised, or a sentence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import Transform, TransformStamped, Vector3
from nav_msgs.msg import OccupancyGrid
from node_process import Planner, image, scene, wait_until, weighted_probability, write_weighted_model
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from road_seg_node.ground import Extent, GroundError, GroundView, Lens, mounted
from road_seg_node.node.camera_mounting import below
from road_seg_node.node.road_grid import lens_of

PICTURE = scene()
HEIGHT, WIDTH = PICTURE.shape[:2]
K = (90.0, 0.0, 48.5, 0.0, 91.0, 20.5, 0.0, 0.0, 1.0)
LENS = Lens(WIDTH, HEIGHT, (*K[:3], 0, *K[3:6], 0, *K[6:], 0))
P = (80.0, 0.0, 47.0, -4.0, 0.0, 81.0, 19.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # of a stereo pair's right camera
D = (-0.2, 0.05, 0.001, -0.002, 0.0)


def camera_info(**changes: object) -> CameraInfo:
    fields = {"width": WIDTH, "height": HEIGHT, "distortion_model": "plumb_bob", "k": K, "d": [0.0] * 5}
    return CameraInfo(**(fields | changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


class GridListener:
    """Subscribes to ~/road_grid and sends images, and where there is one a camera_info, until a grid fits."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._grids: list[OccupancyGrid] = []
        self._subscription = planner.node.create_subscription(
            OccupancyGrid, "/road_seg/road_grid", self._grids.append, QoSProfile(depth=5)
        )
        self._infos = planner.node.create_publisher(CameraInfo, "/camera_info", 1)
        planner.wait_for_camera_link()
        wait_until(lambda: planner.node.count_publishers("/road_seg/road_grid"), "~/road_grid to be there")

    def close(self) -> None:
        self._planner.node.destroy_subscription(self._subscription)

    def show(self, info: CameraInfo | None) -> None:
        """Sends one image; the camera_info first."""
        if info is not None:
            self._infos.publish(info)
        self._planner.publish(self._planner.stamp(image(PICTURE)))

    def grid(self, info: CameraInfo, fits: Callable[[OccupancyGrid], bool] = lambda grid: True) -> OccupancyGrid:
        self._grids.clear()

        def found() -> bool:
            self.show(info)
            try:
                wait_until(lambda: self._grids, "", 0.2)
            except AssertionError:
                return False
            return fits(self._grids[-1])

        wait_until(found, "a grid that fits")
        return self._grids[-1]


def cells(grid: OccupancyGrid) -> np.ndarray:
    """By the letter of nav_msgs/OccupancyGrid: int8 [rows along y, columns along x]."""
    return np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)


def test_the_grid_is_the_one_of_the_cameras_geometry(start, planner, model) -> None:
    start(
        model=model, provider="cpu", camera_height=1.4, camera_tilt=0.1, camera_roll=-0.05, grid_ahead=12.0,
        grid_sides=4.0,
    )  # fmt: skip
    listener = GridListener(planner)
    grid = listener.grid(camera_info())
    assert grid.header.frame_id == "front_camera_ground"
    assert grid.header.stamp == grid.info.map_load_time and grid.header.stamp.nanosec == 123456789
    assert (grid.info.width, grid.info.height) == (120, 80)
    assert grid.info.resolution == pytest.approx(0.1)
    position, turn = grid.info.origin.position, grid.info.origin.orientation
    assert (position.x, position.y, position.z) == (0.0, -4.0, 0.0)
    assert (turn.x, turn.y, turn.z, turn.w) == (0.0, 0.0, 0.0, 1.0)
    probability = weighted_probability(PICTURE)
    expected = GroundView(LENS, mounted(1.4, 0.1, -0.05), Extent(0.1, 12, 0, 4)).grid(probability)
    assert {-1} < set(expected.ravel().tolist())
    np.testing.assert_array_equal(cells(grid), expected)

    # Tuned while it runs, as one does with RViz open.
    assert planner.set_parameter("camera_tilt", "0.2").successful
    assert planner.set_parameter("grid_cell", "0.2").successful
    grid = listener.grid(camera_info(), lambda grid: grid.info.width == 60)
    expected = GroundView(LENS, mounted(1.4, 0.2, -0.05), Extent(0.2, 12, 0, 4)).grid(probability)
    np.testing.assert_array_equal(cells(grid), expected)

    # Another calibration comes; then images that are rectified.
    bent = Lens(WIDTH, HEIGHT, LENS.projection, D)
    expected = GroundView(bent, mounted(1.4, 0.2, -0.05), Extent(0.2, 12, 0, 4)).grid(probability)
    listener.grid(camera_info(d=D), lambda grid: np.array_equal(cells(grid), expected))
    assert planner.set_parameter("image_rectified", "true").successful
    expected = GroundView(Lens(WIDTH, HEIGHT, P), mounted(1.4, 0.2, -0.05), Extent(0.2, 12, 0, 4)).grid(probability)
    listener.grid(camera_info(d=D, p=P), lambda grid: np.array_equal(cells(grid), expected))


def test_what_is_missing_is_told_and_the_masks_go_on(start, planner, model) -> None:
    node = start(model=model, provider="cpu")
    listener = GridListener(planner)
    planner.listen("mask")

    def complained(sentence: str, info: CameraInfo | None) -> bool:
        listener.show(info)
        return sentence in planner.diagnostics()["message"] and node.logged(sentence)

    for sentence, info in (
        ("~/road_grid needs the camera's calibration, but none has come on /camera_info.", None),
        ("~/road_grid needs to know how the camera is mounted", camera_info()),
    ):
        wait_until(lambda sentence=sentence, info=info: complained(sentence, info), sentence)
    assert planner.set_parameter("camera_height", "1.5").successful
    for sentence, info in (
        ("camera_info holds no calibration", camera_info(k=[0.0] * 9)),
        (f"The images have {WIDTH}x{HEIGHT} pixels, but camera_info is of 640x480", camera_info(width=640, height=480)),
        ("camera_info's distortion_model 'bent' is not known", camera_info(distortion_model="bent", d=D)),
    ):
        wait_until(lambda sentence=sentence, info=info: complained(sentence, info), sentence)
    assert planner.ask(image(PICTURE))["mask"]
    listener.grid(camera_info())
    wait_until(lambda: "~/road_grid" not in planner.diagnostics()["message"], "the complaint to end")

    # Nobody misses a grid that nobody listens to.
    again = camera_info(k=[0.0] * 9)
    wait_until(lambda: complained("camera_info holds no calibration", again), "the complaint to come again")
    listener.close()
    wait_until(lambda: "~/road_grid" not in planner.diagnostics()["message"], "the complaint to end")


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_a_ground_frame_needs_tf(start, model) -> None:
    node = start(model=model, provider="cpu", ground_frame="base_footprint")
    assert node.exit_code() == 2
    assert "ground_frame is base_footprint, but TF cannot be used here" in node.log
    assert "Traceback" not in node.log


needs_tf = pytest.mark.skipif(
    importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not here: source a ROS 2 installation"
)


@needs_tf
def test_the_ground_below_the_camera_is_broadcast(start, planner, model) -> None:
    import tf2_ros

    start(model=model, provider="cpu", camera_height=1.4, camera_tilt=0.3, camera_roll=-0.2)
    buffer = tf2_ros.Buffer()
    listener = tf2_ros.TransformListener(buffer, planner.node)
    GridListener(planner).grid(camera_info())
    for tilt in (0.3, 0.1):  # changed while it runs
        assert planner.set_parameter("camera_tilt", str(tilt)).successful
        expected = mounted(1.4, tilt, -0.2)

        def known(expected: np.ndarray = expected) -> bool:
            planner.publish(planner.stamp(image(PICTURE)))
            if not buffer.can_transform("front_camera_ground", "front_camera", Time()):
                return False
            found = buffer.lookup_transform("front_camera_ground", "front_camera", Time()).transform
            place = (found.translation.x, found.translation.y, found.translation.z)
            axis = np.array([found.rotation.x, found.rotation.y, found.rotation.z])
            ahead = np.array([0, 0, 1])  # the optical axis, turned by the quaternion
            ahead = ahead + 2 * np.cross(axis, np.cross(axis, ahead) + found.rotation.w * ahead)
            return np.allclose(place, expected[:, 3]) and np.allclose(ahead, expected[:, 2])

        wait_until(known, "the transform")
    listener.unregister()


@needs_tf
def test_the_mounting_comes_from_tf(start, planner, model) -> None:
    """A camera on a mast of the robot, a little to the left, that looks backwards and down."""
    import tf2_ros

    node = start(model=model, provider="cpu", ground_frame="base_footprint", grid_ahead=1.0, grid_behind=20.0)
    listener = GridListener(planner)
    sentence = "~/road_grid needs the transform from the camera's frame front_camera to base_footprint, and TF has none"

    def complained() -> bool:
        listener.show(camera_info())
        return node.logged(sentence) and sentence in planner.diagnostics()["message"]

    wait_until(complained, sentence)
    broadcaster = tf2_ros.StaticTransformBroadcaster(planner.node)
    mast = TransformStamped(child_frame_id="mast", transform=Transform(translation=Vector3(x=-0.5, y=0.2, z=1.1)))
    mast.header.frame_id, mast.transform.rotation.w = "base_footprint", 1.0
    down = mounted(0.3, 0.25)  # 0.3 m above the mast's frame
    back = np.diag([-1.0, -1.0, 1.0]) @ down
    camera = below("mast", "front_camera", inverse(back))
    broadcaster.sendTransform([mast, camera])
    grid = listener.grid(camera_info())
    pose = back + np.column_stack([np.zeros((3, 3)), [-0.5, 0.2, 1.1]])
    expected = GroundView(LENS, pose, Extent(0.1, 1, 20, 10)).grid(weighted_probability(PICTURE))
    assert grid.header.frame_id == "base_footprint"
    assert (grid.info.origin.position.x, grid.info.origin.position.y) == (-20.0, -10.0)
    assert (cells(grid) != expected).mean() < 0.001  # rounding, of poses that differ in the last digits
    wait_until(lambda: "~/road_grid" not in planner.diagnostics()["message"], "the complaint to end")


def inverse(pose: np.ndarray) -> np.ndarray:
    return np.column_stack([pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"r": [1.0, 0, 0, 0, 1, 0, 0, 0, 5]}, "camera_info's r is not a rotation"),
        ({"r": [float("nan")] * 9}, "camera_info's r is not a rotation"),
        ({"r": [1.0, 0, 0, 0, 1, 0, 0, 0, -1]}, "camera_info's r is not a rotation"),
        ({"k": [30.0, 0, 16, 0, 30, 8, 0, 0, 0]}, "the last row of its k is not"),
        ({"p": [float("nan")] * 12}, "camera_info's p is not finite throughout"),
    ],
)
def test_what_is_wrong_in_camera_info_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(GroundError, match=words):
        lens_of(camera_info(**changes), rectified=False).project(np.array([[0.3, 0.4, 5.0]]))


def test_the_matrix_that_counts_is_named() -> None:
    assert [lens_of(camera_info(), rectified).matrix for rectified in (False, True)] == ["k", "p"]


def test_region_of_interest_and_binning() -> None:
    """A picture of every second pixel of a part: its lens is the part's, halved."""
    info = camera_info(binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 10, 4, 60, 40
    lens = lens_of(info, rectified=False)
    assert (lens.width, lens.height) == (30, 20)
    point = np.array([[0.3, 0.4, 5.0]])
    full = LENS.project(point)
    np.testing.assert_allclose(lens.project(point), (full - (10, 4)) / 2)


def test_unrectified_images_of_a_stereo_pair_show_what_the_rectified_ones_show() -> None:
    """OpenCV's way back from the raw pixel, by K, D, R and P, ends at the pixel where P shows the point."""
    turned = cv2.Rodrigues(np.array([0.01, -0.005, 0.02]))[0]
    info = camera_info(k=K, d=D, r=turned.ravel(), p=P)
    points = np.array([[0.3, 0.4, 5.0], [-2.0, 1.4, 20.0], [1.0, 1.4, 4.0]])
    raw = lens_of(info, rectified=False).project(points)
    k, p = np.array(K).reshape(3, 3), np.array(P).reshape(3, 4)
    back = cv2.undistortPoints(raw[:, None], k, np.array(D), R=turned, P=p[:, :3])[:, 0]
    np.testing.assert_allclose(back, lens_of(info, rectified=True).project(points), atol=0.01)
    assert abs(raw - lens_of(camera_info(d=D), rectified=False).project(points)).max() > 1


def test_the_transform_to_the_ground_is_the_mounting_s_inverse() -> None:
    pose = mounted(1.4, 0.3, -0.2)
    transform = below("/front", "front_ground", pose)
    assert (transform.header.frame_id, transform.child_frame_id) == ("front", "front_ground")
    q, t = transform.transform.rotation, transform.transform.translation
    assert q.x**2 + q.y**2 + q.z**2 + q.w**2 == pytest.approx(1)
    axis, place = np.array([q.x, q.y, q.z]), np.array([t.x, t.y, t.z])

    def in_camera(point: np.ndarray) -> np.ndarray:
        """A point of the ground's frame turned by the quaternion and moved."""
        return point + 2 * np.cross(axis, np.cross(axis, point) + q.w * point) + place

    for point in np.eye(3):
        np.testing.assert_allclose(pose[:, :3] @ in_camera(point) + pose[:, 3], point, atol=1e-12)
    np.testing.assert_allclose(in_camera(np.array([0, 0, 1.4])), 0, atol=1e-12)
