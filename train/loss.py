# SPDX-License-Identifier: Apache-2.0
"""What training makes small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.data import IGNORE


def road_loss(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy over valid pixels, blended with soft Dice of the road over the batch."""
    entropy = functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    if dice_weight == 0:
        return entropy
    valid, road = (labels != IGNORE).float(), (labels == 1).float()
    p = torch.sigmoid(logits[:, 1] - logits[:, 0]) * valid
    dice = 1 - (2 * (p * road).sum() + 1) / (p.sum() + road.sum() + 1)
    return (1 - dice_weight) * entropy + dice_weight * dice
