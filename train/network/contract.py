# SPDX-License-Identifier: Apache-2.0
"""The network with everything that is known about pixels around it: what the model file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.network.model import STRIDE, VGGFCN8

# ImageNet's statistics in RGB, which torchvision's VGG-16 weights were made with; of values 0 to 1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
WIDEST = 6  # of keep_area's shapes: the longer side against the shorter


def network_size(height: int, width: int, resize: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) at which the network sees a camera image of `height` x `width` pixels.

    `resize` is one of

    - {"policy": "stretch", "width": W, "height": H}: always that size;
    - {"policy": "keep_aspect", "width": W}: the height follows the camera, rounded up to a multiple of 32 and at most
      2 W, so that a picture of one pixel's width does not ask for gigabytes;
    - {"policy": "keep_area", "pixels": N}: near N pixels whatever the camera's shape, so that the shape does not decide
      how long the network takes: the one of `area_shapes` whose shape is nearest to the camera's.

    Sizes may be symbolic.
    """
    if resize["policy"] == "keep_area":
        known = type(height) is int and type(width) is int
        return (_of_known_area if known else _of_area)(height, width, resize["pixels"])
    target = resize["width"]
    if resize["policy"] == "stretch":
        return resize["height"], target
    rows = (height * target + width * STRIDE - 1) // (width * STRIDE) * STRIDE
    return torch.sym_min(rows, 2 * target), target


def area_shapes(pixels: int) -> list[tuple[int, int]]:
    """Sizes (height, width) of near `pixels` pixels, multiples of 32, from the widest to the tallest."""
    tiles = pixels / STRIDE**2
    shapes = {}  # by height, and of equal widths the lowest
    for columns in range(math.ceil(tiles), 0, -1):
        rows = max(1, round(tiles / columns))
        if max(rows, columns) <= WIDEST * min(rows, columns):
            shapes.setdefault(rows, (rows * STRIDE, round(tiles / rows) * STRIDE))
    return list(shapes.values()) or [(max(1, round(tiles)) * STRIDE, STRIDE)]


def _of_area(height: int, width: int, pixels: int) -> tuple[int, int]:
    """The network's size for keep_area; in tensors, since symbolic sizes are traced."""
    shapes = area_shapes(pixels)
    # A camera's shape (height / width) of at least this is nearer to the next, taller one.
    borders = torch.tensor([math.sqrt(low * high / (w * v)) for (low, w), (high, v) in pairwise(shapes)])
    high, wide = (torch.scalar_tensor(side, dtype=torch.float32) for side in (height, width))
    # A plain Gather, which OpenVINO folds once the camera's size is known; an index or a division it does not.
    tiles = torch.tensor([(rows // STRIDE, columns // STRIDE) for rows, columns in shapes])
    chosen = tiles.index_select(0, (borders * wide <= high).sum().view(1)).view(2)
    rows, columns = chosen[0].item(), chosen[1].item()
    for side in (rows, columns):  # for the tracing, which does not know the table
        torch._check(side >= 1)
        torch._check(side <= max(map(max, shapes)))
    return rows * STRIDE, columns * STRIDE


_of_known_area = lru_cache(_of_area)


def normalise(rgb: Tensor) -> Tensor:
    """Float or uint8 [batch, 3, h, w] RGB of 0 to 255, as the network wants it (float32)."""
    mean = rgb.new_tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1) * 255
    std = rgb.new_tensor(STD, dtype=torch.float32).view(1, 3, 1, 1) * 255
    return (rgb.float() - mean) / std


class RoadProbability(nn.Module):
    """Contract 1: uint8 [batch, height, width, 3] BGR in, uint8 [batch, height, width] round(255 P(road)) out."""

    def __init__(self, network: VGGFCN8, resize: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.resize = network, dict(resize)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[1], image.shape[2]
        x = image.permute(0, 3, 1, 2).float()
        x = functional.interpolate(x, network_size(height, width, self.resize), mode="bilinear")
        logits = self.network(normalise(x.flip(1)))
        # Of two classes, the softmax of the second is the sigmoid of the difference.
        road = torch.sigmoid(logits[:, 1:2] - logits[:, 0:1])
        road = functional.interpolate(road, (height, width), mode="bilinear")
        return (road[:, 0] * 255).round().to(torch.uint8)
