# SPDX-License-Identifier: Apache-2.0
"""The providers, in the order in which they are tried: which libraries can run a model, and which of them it gets."""

from __future__ import annotations

from collections.abc import Callable

from road_seg_node.inference import onnxruntime_engine, openvino_engine
from road_seg_node.inference.engine import PRECISIONS, Engine, ProviderError, Size
from road_seg_node.inference.model_file import ModelFile

__all__ = ["ON_GPU", "PRECISIONS", "PROVIDERS", "ProviderError", "candidates", "open_engine", "require"]

ON_GPU = ("tensorrt", "cuda")
_ORDER = (*ON_GPU, "openvino", "cpu")
PROVIDERS = ("auto", *_ORDER)


def candidates(asked: str) -> tuple[str, ...]:
    """Return the providers to try for the parameter's value `asked`, in order."""
    if asked not in PROVIDERS:
        raise ProviderError(f"there is no provider {asked!r}: choose one of {', '.join(PROVIDERS)}")
    return _ORDER if asked == "auto" else (asked,)


def require(name: str) -> None:
    """Raise ProviderError where the library of the provider `name` is not installed, or has no such provider."""
    if name == "openvino":
        openvino_engine.library()
    else:
        onnxruntime_engine.library(name)


def open_engine(
    name: str,
    model: ModelFile,
    size: Size | None,
    precision: str,
    threads: int,
    tell: Callable[[str], None],
) -> Engine:
    """Make an engine on the provider `name`, for images of any size or, faster, of `size` alone.

    `precision` is one of PRECISIONS: "auto" takes what the provider is fastest in without harm to the mask, "fp32" is
    for comparisons. `threads` is how many a processor computes with, 0: as the library has it. `tell` is called with a
    sentence before something that takes minutes. Raises ProviderError where the provider cannot work here,
    ModelFileError where no provider could read the model.
    """
    if name == "openvino":
        return openvino_engine.open_engine(model, size, precision, threads)
    return onnxruntime_engine.open_engine(name, model, size, precision, threads, tell)
