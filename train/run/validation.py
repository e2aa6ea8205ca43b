# SPDX-License-Identifier: Apache-2.0
"""The network on held-out frames, as the robot will run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from train.frames.cache import DecodedFrames, Pair
from train.frames.pictures import errors
from train.frames.threads import in_order
from train.network.contract import RoadProbability
from train.network.model import VGGFCN8
from train.run.distributed import Processes
from train.score.metrics import RoadCounts

SHOWN = 4  # frames
Pairs = Sequence[Pair] | DecodedFrames  # of image and labels


def validate(
    network: VGGFCN8, resize: Mapping[str, Any], sets: Mapping[str, Pairs], processes: Processes, threads: int = 0
) -> dict[str, RoadCounts]:
    """Counts by data set, from the same bytes-to-bytes module that is exported; `threads` read ahead.

    `sets` holds this process's share of each data set. The counts are those of all shares, exactly: they are integers.
    """
    whole = RoadProbability(network, resize).eval()
    own = {name: RoadCounts() for name in sets}
    with torch.inference_mode():
        for name, pairs in sets.items():
            with closing(in_order(pairs.__getitem__, range(len(pairs)), threads)) as read:
                for image, labels in read:
                    probability = whole(torch.from_numpy(image)[None].to(processes.device))[0]
                    own[name].add(probability.cpu().numpy(), labels)
    counts = torch.from_numpy(np.stack([[counts.road, counts.other] for counts in own.values()]))
    total = processes.sum(counts.to(processes.device)).cpu().numpy()
    return {name: RoadCounts(road, other) for name, (road, other) in zip(own, total, strict=True)}


def shown(
    network: VGGFCN8,
    resize: Mapping[str, Any],
    sets: Mapping[str, Pairs],
    threshold: float,
    processes: Processes,
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures, uint8 [H, W, 3] BGR, of a few frames with the network's errors; always the same frames."""
    frames = [(name, pairs, i) for name, pairs in sets.items() for i in range(len(pairs))]
    whole = RoadProbability(network, resize).eval()
    for i in sorted({len(frames) * k // SHOWN for k in range(SHOWN)}) if frames else ():
        name, pairs, number = frames[i]
        image, labels = pairs[number]
        with torch.inference_mode():
            probability = whole(torch.from_numpy(image)[None].to(processes.device))[0].cpu().numpy()
        yield f"{name}_{number}", errors(image, probability, labels, threshold)
