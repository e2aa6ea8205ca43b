# SPDX-License-Identifier: Apache-2.0
"""What is known of one frame once it has been inferred: what every output is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from road_seg_node.inference import road_mask
from road_seg_node.node.parameters import Values


@dataclass(frozen=True)
class Answer:
    """One answered frame.

    header: the image's own. bgr: uint8 [H, W, 3]. probability: uint8 [H, W], round(255 * P(road)). threshold: 0 to 1.
    values: the parameters. camera_info: the one with its stamp, else the newest, or None.
    """

    header: Header
    bgr: np.ndarray
    probability: np.ndarray
    threshold: float
    values: Values
    camera_info: CameraInfo | None

    @cached_property
    def mask(self) -> np.ndarray:
        """uint8 [H, W]: 255 road, 0 not."""
        return road_mask(self.probability, self.threshold)
