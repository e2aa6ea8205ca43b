# SPDX-License-Identifier: Apache-2.0
"""The demo's frames in rerun's viewer, live where there is a display, and as a recording (.rrd). Needs rerun-sdk."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from road_seg_node.demo.child_process import DemoError

LATENCY = "latency, camera stamp to mask [ms]"


class Viewer:
    """Takes pictures and latencies by the camera's stamp, in nanoseconds."""

    def __init__(self, file: Path, pictures: Sequence[str], live: bool) -> None:
        """Record into `file`, and `live`: show it in a viewer that is started. `pictures` names what show() will take.

        Raises DemoError where rerun-sdk is not installed or its viewer cannot be started.
        """
        try:
            self._rerun: Any = importlib.import_module("rerun")
            layout: Any = importlib.import_module("rerun.blueprint")
        except ImportError as error:
            raise DemoError(
                f"The view needs rerun-sdk ({error}): pip install rerun-sdk. That needs Python 3.11 and NumPy 2 or "
                "newer. Beside a ROS 2 with NumPy 1 use RViz: ros2 launch road_seg_node seg.launch.py "
                "camera:=synthetic rviz:=true"
            ) from error
        self._recording = self._rerun.RecordingStream("road_seg_node")
        sinks = [self._rerun.FileSink(file)]
        if live:
            try:
                self._rerun.spawn(connect=False, hide_welcome_screen=True)
            except RuntimeError as error:
                raise DemoError(f"rerun's viewer cannot be started: {error}") from error
            sinks.append(self._rerun.GrpcSink())
        views = [layout.Spatial2DView(origin=entity(name), name=name) for name in pictures]
        plot = layout.TimeSeriesView(origin=entity(LATENCY), name=LATENCY)
        grid = layout.Vertical(layout.Grid(*views), plot, row_shares=[3, 1])
        self._recording.set_sinks(*sinks, default_blueprint=layout.Blueprint(grid, collapse_panels=True))

    def show(self, name: str, stamp: int, picture: NDArray[np.uint8]) -> None:
        """picture: uint8 [H, W, 3] BGR, kept as JPEG, or [H, W] grey, kept exactly as PNG."""
        ending, kind = (".png", "image/png") if picture.ndim == 2 else (".jpg", "image/jpeg")
        data = cv2.imencode(ending, picture)[1].tobytes()
        self._log(name, stamp, self._rerun.EncodedImage(contents=data, media_type=kind))

    def latency(self, stamp: int, milliseconds: float) -> None:
        self._log(LATENCY, stamp, self._rerun.Scalars(milliseconds))

    def close(self) -> None:
        """Ends the recording; a viewer that was started stays open."""
        self._recording.disconnect()

    def _log(self, name: str, stamp: int, value: Any) -> None:
        self._recording.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))
        self._recording.log(entity(name), value)


def entity(name: str) -> str:
    """rerun's path of what has that name: its first word."""
    return "/" + name.partition(",")[0]


def has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
