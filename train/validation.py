# SPDX-License-Identifier: Apache-2.0
"""The network on held-out frames, as the robot will run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from train.augment import Pair
from train.contract import RoadProbability
from train.distributed import Processes
from train.metrics import RoadCounts
from train.model import VGGFCN8


def validate(
    network: VGGFCN8, resize: Mapping[str, Any], sets: Mapping[str, Sequence[Pair]], processes: Processes
) -> dict[str, RoadCounts]:
    """Counts by data set, from the same bytes-to-bytes module that is exported.

    `sets` holds this process's share of each data set. The counts are those of all shares, exactly: they are integers.
    """
    whole = RoadProbability(network, resize).eval()
    own = {name: RoadCounts() for name in sets}
    with torch.inference_mode():
        for name, pairs in sets.items():
            for image, labels in pairs:
                probability = whole(torch.from_numpy(image)[None].to(processes.device))[0]
                own[name].add(probability.cpu().numpy(), labels)
    counts = torch.from_numpy(np.stack([[counts.road, counts.other] for counts in own.values()]))
    total = processes.sum(counts.to(processes.device)).cpu().numpy()
    return {name: RoadCounts(road, other) for name, (road, other) in zip(own, total, strict=True)}
