# SPDX-License-Identifier: Apache-2.0
"""What is known of one frame once it has been inferred: what every output is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
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

    @property
    def label_mask(self) -> np.ndarray:
        """uint8 [H, W]: 1 road, 0 not, the classes of ~/label_info."""
        return self.mask & 1

    @property
    def confidence(self) -> np.ndarray:
        """uint8 [H, W], 0 to 255: the probability of the class that the mask chose."""
        levels = np.arange(256, dtype=np.uint8)
        return cv2.LUT(self.probability, np.where(road_mask(levels, self.threshold), levels, 255 - levels))
