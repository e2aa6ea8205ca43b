# SPDX-License-Identifier: Apache-2.0
"""Legal contract-1 models of a few nodes, whose every output byte a test can predict.

The tiny model's road is what is grey: probability = 255 - min(255, 2 * |green - blue| + 3 * |red - green|). The factors
differ, so that red and blue taken for each other show. The weighted model's is in node_process.py.

Their graphs are in test/models/, since a robot has no onnx package to make them with. To make these files anew:

    python test/tiny_model.py
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from road_seg_node.inference import model_file, onnx_bytes

if TYPE_CHECKING:
    import onnx

MODELS = Path(__file__).parent / "models"
TINY, WEIGHTED, SLOW = (MODELS / f"{name}.onnx" for name in ("tiny", "weighted", "slow"))
WORK = 0x0123456789ABCDEF  # stands in SLOW for the number of matrix products,
FROM = 0x0FEDCBA987654321  # and this for the least first byte of an image on which they are made


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
        "versions": {"onnx": "1.20"},
        "golden": expected_probability(model_file.golden_image()),
    }
    return model_file.ModelInfo(**(values | changes))


def write_tiny_model(path: str | Path, **changes: Any) -> Path:
    """Write the tiny model to `path`; `changes` are fields of its ModelInfo, e.g. ``threshold=0.25``."""
    path = Path(path)
    model_file.write_bytes(TINY.read_bytes(), tiny_info(**changes), path)
    return path


def weighted_bytes(work: int, least: int = 0) -> bytes:
    """The weighted model; with `work` matrix products of 2 GFLOP each on images whose first byte is `least` or more."""
    if not work:
        return WEIGHTED.read_bytes()
    data = SLOW.read_bytes()
    for mark, value in ((WORK, work), (FROM, least)):
        assert data.count(struct.pack("<q", mark)) == 1
        data = data.replace(struct.pack("<q", mark), struct.pack("<q", value))
    return data


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes in a model file, and leave out the hash with which it ends, which would tell."""
    data = path.read_bytes()
    assert old in data
    hash_entry = len(onnx_bytes.metadata_entry("road_seg.content_sha256", "0" * 64))
    path.write_bytes(data[:-hash_entry].replace(old, new))


def tiny_graph(
    *,
    input_name: str = model_file.INPUT_NAME,
    output_name: str = model_file.OUTPUT_NAME,
    input_shape: tuple[Any, ...] = ("batch", "height", "width", 3),
    output_shape: tuple[Any, ...] | None = ("batch", "height", "width"),
    output_type: int = 2,  # TensorProto.UINT8
    opset: int = 18,
) -> onnx.ModelProto:
    """Return the tiny model without metadata; the arguments break the contract in one place each."""
    from onnx import TensorProto, helper, numpy_helper

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


def weighted_graph(slow: bool) -> onnx.ModelProto:
    """The model of node_process.weighted_probability; slow: with WORK matrix products, which change nothing."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "weights": np.array([1, 2, 4], np.int32),
        "seven": np.array(7, np.int32),
        "last_axis": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", [model_file.INPUT_NAME], ["pixels"], to=TensorProto.INT32),
        helper.make_node("Mul", ["pixels", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "last_axis"], ["sum"], keepdims=0),
        helper.make_node("Div", ["sum", "seven"], ["mean"]),
    ]
    if slow:
        more_nodes, more_constants = _matrix_products()
        nodes, constants = nodes + more_nodes, constants | more_constants
    nodes.append(
        helper.make_node("Cast", ["delayed" if slow else "mean"], [model_file.OUTPUT_NAME], to=TensorProto.UINT8)
    )
    like = tiny_graph().graph
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "weighted", list(like.input), list(like.output), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _matrix_products() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes and constants that make "delayed" of "mean", after WORK products."""
    from onnx import TensorProto, helper

    constants = {
        "square": np.array([1024, 1024], np.int64),
        "work": np.array(WORK, np.int64),
        "from": np.array(FROM, np.int64),
        "first": np.array([0], np.int64),
        "row": np.array([-1], np.int64),
        "zero": np.array(0, np.float32),
        "all_axes": np.arange(4, dtype=np.int64),
    }
    product = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("MatMul", ["product", "matrix"], ["next_product"]),
        ],
        "product",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [1024, 1024]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_product", TensorProto.FLOAT, [1024, 1024]),
        ],
    )
    part = helper.make_tensor("part", TensorProto.FLOAT, [1], [1 / 1024])
    nodes = [
        # The products start from a pixel, or they would be folded into a constant, and end in a zero.
        helper.make_node("ConstantOfShape", ["square"], ["matrix"], value=part),
        helper.make_node("Cast", [model_file.INPUT_NAME], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "all_axes"], ["one"], keepdims=0),
        helper.make_node("Add", ["matrix", "one"], ["first_product"]),
        helper.make_node("Reshape", ["pixels", "row"], ["bytes"]),
        helper.make_node("Gather", ["bytes", "first"], ["first_byte"]),
        helper.make_node("Cast", ["first_byte"], ["first_number"], to=TensorProto.INT64),
        helper.make_node("GreaterOrEqual", ["first_number", "from"], ["works"]),
        helper.make_node("Cast", ["works"], ["one_or_none"], to=TensorProto.INT64),
        helper.make_node("Mul", ["one_or_none", "work"], ["turns"]),
        helper.make_node("Loop", ["turns", "", "first_product"], ["last_product"], body=product),
        helper.make_node("ReduceMean", ["last_product"], ["mean_product"], keepdims=0),
        helper.make_node("Mul", ["mean_product", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["integer_nothing"], to=TensorProto.INT32),
        helper.make_node("Add", ["mean", "integer_nothing"], ["delayed"]),
    ]
    return nodes, constants


def in_files() -> dict[Path, bytes]:
    """What the files in test/models/ are to hold, made anew."""
    import onnx

    found, weighted, slow = {}, weighted_graph(slow=False), weighted_graph(slow=True)
    for path, model in ((TINY, tiny_graph()), (WEIGHTED, weighted), (SLOW, slow)):
        model_file._add_mean(model.graph)
        onnx.checker.check_model(model)
        found[path] = model.SerializeToString()
    return found


if __name__ == "__main__":
    for path, data in in_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
