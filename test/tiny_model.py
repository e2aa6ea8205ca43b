# SPDX-License-Identifier: Apache-2.0
"""A legal contract-1 model of a few nodes, whose every output byte a test can predict.

The road is what is grey: probability = 255 - min(255, 2 * |green - blue| + 3 * |red - green|). The factors differ, so
that red and blue taken for each other show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from road_seg_node.inference import model_file, onnx_bytes


def expected_probability(bgr: np.ndarray) -> np.ndarray:
    """Return what the tiny model answers on uint8 [..., 3]: uint8 [...]."""
    blue, green, red = np.moveaxis(bgr.astype(np.int32), -1, 0)
    return (255 - np.minimum(255, 2 * abs(green - blue) + 3 * abs(red - green))).astype(np.uint8)


def tiny_info(**changes: Any) -> model_file.ModelInfo:
    """Return the tiny model's ModelInfo, with `changes`."""
    values: dict[str, Any] = {
        "name": "tiny",
        "architecture": "grey is road",
        "resize": {"policy": "keep_aspect", "width": 576},
        "threshold": 0.5,
        "metrics": {"validation": {"road_iou": 0.5}},
        "dataset": "none",
        "licence": "Apache-2.0",
        "checkpoint_sha256": "0" * 64,
        "versions": {"onnx": onnx.__version__},
        "golden": expected_probability(model_file.golden_image()),
    }
    return model_file.ModelInfo(**(values | changes))


def tiny_graph(
    *,
    input_name: str = model_file.INPUT_NAME,
    output_name: str = model_file.OUTPUT_NAME,
    input_shape: tuple[Any, ...] = ("batch", "height", "width", 3),
    output_shape: tuple[Any, ...] = ("batch", "height", "width"),
    output_type: int = TensorProto.UINT8,
    opset: int = 18,
) -> onnx.ModelProto:
    """Return the tiny model without metadata; the arguments break the contract in one place each."""
    constants = {
        **{name: np.array(index, np.int64) for index, name in enumerate(("blue_at", "green_at", "red_at"))},
        "two": np.array(2, np.int32),
        "three": np.array(3, np.int32),
        "white": np.array(255, np.int32),
    }
    nodes = [
        helper.make_node("Cast", [input_name], ["pixels"], to=TensorProto.INT32),
        helper.make_node("Gather", ["pixels", "blue_at"], ["blue"], axis=-1),
        helper.make_node("Gather", ["pixels", "green_at"], ["green"], axis=-1),
        helper.make_node("Gather", ["pixels", "red_at"], ["red"], axis=-1),
        helper.make_node("Sub", ["green", "blue"], ["green_blue"]),
        helper.make_node("Sub", ["red", "green"], ["red_green"]),
        helper.make_node("Abs", ["green_blue"], ["cold"]),
        helper.make_node("Abs", ["red_green"], ["warm"]),
        helper.make_node("Mul", ["cold", "two"], ["cold_twice"]),
        helper.make_node("Mul", ["warm", "three"], ["warm_thrice"]),
        helper.make_node("Add", ["cold_twice", "warm_thrice"], ["colour"]),
        helper.make_node("Min", ["colour", "white"], ["capped"]),
        helper.make_node("Sub", ["white", "capped"], ["grey"]),
        helper.make_node("Cast", ["grey"], [output_name], to=output_type),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, input_shape)],
        [helper.make_tensor_value_info(output_name, output_type, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    # IR version 8 goes with opset 18, so that older ONNX Runtimes read it too.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write_tiny_model(path: str | Path, **changes: Any) -> Path:
    """Write the tiny model to `path`; `changes` are fields of its ModelInfo, e.g. ``threshold=0.25``."""
    path = Path(path)
    model_file.write(tiny_graph(), tiny_info(**changes), path)
    return path


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes in a model file, and leave out the hash with which it ends, which would tell."""
    data = path.read_bytes()
    assert old in data
    hash_entry = len(onnx_bytes.metadata_entry("road_seg.content_sha256", "0" * 64))
    path.write_bytes(data[:-hash_entry].replace(old, new))
