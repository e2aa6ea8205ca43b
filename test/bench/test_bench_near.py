# SPDX-License-Identifier: Apache-2.0
"""bench/near.py: what a nearer view shows, and how large the network then sees it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bench.near import SIZE, near
from train.network.contract import network_size

RESIZE = {"policy": "keep_area", "pixels": 122880}


@pytest.mark.parametrize("size", [(480, 360), (1242, 375)])
@pytest.mark.parametrize("nearness", [2, 3])
def test_texture_is_that_many_times_as_large_to_the_network(size: tuple[int, int], nearness: int) -> None:
    """A square of a tenth of the height at the middle of the lower edge, as high as the network sees it."""
    width, height = size
    side, picture = height // 10, np.zeros((height, width), np.uint8)
    picture[-side:, (width - side) // 2 : (width + side) // 2] = 255
    view = near(picture, nearness, cv2.INTER_NEAREST)
    assert view.shape == SIZE[::-1]
    seen = [
        (shown > 0).any(axis=1).sum() * network_size(*shown.shape, RESIZE)[0] / len(shown)
        for shown in (near(picture, 1, cv2.INTER_NEAREST), view)
    ]
    assert seen[1] / seen[0] == pytest.approx(nearness, rel=0.1)
