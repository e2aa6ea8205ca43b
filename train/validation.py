# SPDX-License-Identifier: Apache-2.0
"""The network on held-out frames, as the robot will run it."""

from __future__ import annotations

from typing import Any

import torch

from train.augment import Pair
from train.contract import RoadProbability
from train.metrics import RoadCounts
from train.model import VGGFCN8


def validate(
    network: VGGFCN8, resize: dict[str, Any], sets: dict[str, list[Pair]], device: str
) -> dict[str, RoadCounts]:
    """Counts by data set, from the same bytes-to-bytes module that is exported."""
    whole = RoadProbability(network, resize).eval()
    counts = {}
    with torch.inference_mode():
        for name, pairs in sets.items():
            counts[name] = RoadCounts()
            for image, labels in pairs:
                probability = whole(torch.from_numpy(image)[None].to(device))[0]
                counts[name].add(probability.cpu().numpy(), labels)
    return counts
