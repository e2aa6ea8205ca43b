# SPDX-License-Identifier: Apache-2.0
"""`~/road_grid`: the road on the ground as a nav_msgs/OccupancyGrid, from probability, camera_info and mounting."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from road_seg_node.ground import Extent, GroundError, GroundView, Lens
from road_seg_node.node.answer import Answer
from road_seg_node.node.camera_mounting import CameraMounting


class RoadGrid:
    """Makes the grid of an answer. What does not change from frame to frame is worked out once."""

    def __init__(self, mounting: CameraMounting, camera_info_topic: str) -> None:
        self._mounting, self._camera_info = mounting, camera_info_topic

    def message(self, answer: Answer) -> OccupancyGrid:
        """The grid, in a frame with x forward, y left and z up. Raises GroundError with what is missing or wrong."""
        info, values = answer.camera_info, answer.values
        if info is None:
            raise GroundError(f"~/road_grid needs the camera's calibration, but none has come on {self._camera_info}.")
        frame, pose = self._mounting.find(answer.header.frame_id, values)
        extent = Extent(values.grid_cell, values.grid_ahead, values.grid_behind, values.grid_sides)
        view = _view(lens_of(info, values.image_rectified), tuple(pose.ravel().tolist()), extent)
        if isinstance(view, GroundError):
            raise view
        cells = view.grid(answer.probability)
        msg = OccupancyGrid(header=Header(stamp=answer.header.stamp, frame_id=frame))
        # A cell is at data[row * width + column]; columns go along x, rows along y, from the origin on.
        msg.info = MapMetaData(
            map_load_time=answer.header.stamp,
            resolution=extent.cell,
            width=cells.shape[1],
            height=cells.shape[0],
            origin=Pose(position=Point(x=0.0 - extent.behind, y=-extent.sides), orientation=Quaternion(w=1.0)),
        )
        msg.data.frombytes(cells.data)
        return msg


def lens_of(info: CameraInfo, rectified: bool) -> Lens:
    """The lens of the images that `info` is of: its K, distortion and R, or its P where the images are rectified.

    P projects points of the camera's frame (sensor_msgs/CameraInfo). The lens itself is turned against that by R, and
    lies where P's fourth column says: of a stereo pair both cameras have the left one's frame. Region of interest and
    binning change the matrix as in image_geometry. Raises GroundError where R or P is none.
    """
    if rectified:
        matrix = info.p.reshape(3, 4).copy()
        distortion: tuple[float, ...] = ()
        to_lens: tuple[float, ...] = ()
    else:
        matrix, distortion = np.column_stack([info.k.reshape(3, 3), np.zeros(3)]), tuple(info.d)
        to_lens = _to_lens(info.r.reshape(3, 3), info.p.reshape(3, 4))
    matrix[:2, 2] -= info.roi.x_offset, info.roi.y_offset
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    matrix[:2] /= np.array(binning)[:, None]
    width, height = (info.roi.width or info.width) // binning[0], (info.roi.height or info.height) // binning[1]
    model = info.distortion_model or "plumb_bob"
    return Lens(width, height, tuple(matrix.ravel().tolist()), distortion, model, to_lens, "p" if rectified else "k")


def _to_lens(r: np.ndarray, p: np.ndarray) -> tuple[float, ...]:
    """Lens.to_lens of CameraInfo's R and P; a driver that does not fill them leaves zeros."""
    if r.any() and not (np.allclose(r @ r.T, np.eye(3), atol=0.01) and np.linalg.det(r) > 0):
        raise GroundError("camera_info's r is not a rotation. Calibrate the camera, or set it to zeros.")
    if not np.isfinite(p).all():
        raise GroundError("camera_info's p is not finite throughout. Calibrate the camera, or set it to zeros.")
    turned = r.T if r.any() else np.eye(3)
    aside = np.linalg.solve(p[:, :3], p[:, 3]) if p[:, 3].any() and np.linalg.det(p[:, :3]) else np.zeros(3)
    if (turned == np.eye(3)).all() and not aside.any():
        return ()
    return tuple(np.column_stack([turned, turned @ aside]).ravel().tolist())


@lru_cache(maxsize=8)
def _view(lens: Lens, pose: tuple[float, ...], extent: Extent) -> GroundView | GroundError:
    """An error is kept too, since it would come again with every frame."""
    try:
        return GroundView(lens, np.array(pose).reshape(3, 4), extent)
    except GroundError as error:
        return error
