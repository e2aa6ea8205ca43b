# SPDX-License-Identifier: Apache-2.0
"""Weights to start from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from train.preset import PresetError


def read_weights(path: Path) -> dict[str, Tensor]:
    """torchvision's VGG-16 state dict.

    Raises:
        PresetError: the file is missing or no state dict.
    """
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PresetError(
            f"There is no file {path}. Download vgg16-397923af.pth from download.pytorch.org/models and name it."
        ) from None
    except Exception as error:  # torch raises many kinds for a file that is no state dict
        raise PresetError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    if not isinstance(weights, dict):
        raise PresetError(f"{path} holds no state dict of torchvision's VGG-16.")
    return weights
