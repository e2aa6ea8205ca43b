# SPDX-License-Identifier: Apache-2.0
"""What training makes small: cross-entropy over valid pixels, blended with soft Dice of the road."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.labels import CERTAIN, IGNORE


def count_valid(targets: Tensor) -> Tensor:
    """int64 [], the valid pixels of targets [batch, h, w]."""
    return (targets != IGNORE).sum()


def road_sums(logits: Tensor, targets: Tensor, dice: bool) -> Tensor:
    """float32 [4] of logits [batch, 2, h, w] and targets uint8 [batch, h, w], see `train.labels`, over valid pixels.

    The sums of the cross-entropy and, for `dice`, of P(road) on road, of P(road), and of road. Those of the parts of
    a batch add up to those of the batch.
    """
    valid = (targets != IGNORE).float()
    road = valid * targets / CERTAIN
    # Of two classes, the softmax of the second is the sigmoid of the difference: half the work.
    difference = logits[:, 1] - logits[:, 0]
    entropy = functional.binary_cross_entropy_with_logits(difference, road, valid, reduction="sum")
    if not dice:
        return torch.stack([entropy, *entropy.new_zeros(3)])
    p = torch.sigmoid(difference) * valid
    return torch.stack([entropy, torch.dot(p.flatten(), road.flatten()), p.sum(), road.sum()])


def road_loss(sums: Tensor, valid: Tensor, share: float, dice_weight: float) -> Tensor:
    """The part of a batch's loss that one part of the batch contributes.

    Args:
        sums: of that part, see `road_sums`.
        valid: valid pixels of the whole batch. The cross-entropies of the parts add up to exactly the batch's.
        share: of the batch's frames that are in the part. Dice is no sum over pixels: it is taken of each part, and
            the parts' are averaged.
        dice_weight: share of Dice in the loss, 0 to 1.
    """
    entropy, found, said, road = sums
    dice = 1 - (2 * found + 1) / (said + road + 1)
    return (1 - dice_weight) * entropy / valid.clamp(min=1) + dice_weight * share * dice
