# SPDX-License-Identifier: Apache-2.0
"""What every way of running the network has in common."""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

PRECISIONS = ("auto", "fp32")
Size = tuple[int, int]  # of images: height, width


class ProviderError(RuntimeError):
    """A provider cannot do the work; the message is a sentence that says why and what to do."""


class Engine(Protocol):
    """A model, ready to run on one provider. Threads may share it.

    Attributes:
        precision: in which the network is computed: "fp32", "tf32", "bf16", "fp16" or "int8".
        follows_size: whether an engine made for one camera size is faster than this one, which takes all.
    """

    precision: str
    follows_size: bool

    def run(self, image: np.ndarray) -> np.ndarray:
        """Return uint8 [H, W], round(255 * P(road)), of uint8 [H, W, 3], contiguous.

        Raises ProviderError where the answer is not finite; whatever its library raises where that fails.
        """


def not_finite() -> ProviderError:
    return ProviderError(
        "the network answered NaN or infinity, so there is no mask of this image: its numbers leave the range of "
        "the precision, or its weights are damaged; choose the provider cpu, or export the model again"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, without the libraries' codes and places, for a sentence."""
    message = re.sub(r"^(\[ONNXRuntimeError\] : \d+ : \w+ : )?(/\S+:\d+ [^)]*\) )?", "", str(error).strip())
    lines = [line for line in message.splitlines() if not line.startswith("Exception from ")]  # OpenVINO's places
    return lines[0] if lines else type(error).__name__
