# SPDX-License-Identifier: Apache-2.0
"""Where products of bytes overflow is known beforehand, and is where ONNX Runtime gets them wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from road_seg_node.inference.processor import products_overflow


def overflows(weight: int) -> bool:
    """Whether ONNX Runtime gets a product of bytes wrong here: 64 times 255 with `weight`."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [8, 64])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [8, 8])],
        [numpy_helper.from_array(np.full((64, 8), weight, np.int8), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": np.full((8, 64), 255, np.uint8)})
    return bool((product != 255 * weight * 64).any())


@pytest.mark.needs("onnx")
def test_this_processor_is_known_by_what_it_computes() -> None:
    assert overflows(127) == overflows(-127) == products_overflow()
    assert not overflows(64) and not overflows(-64)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_1 avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu sse4_1 avx2 fma\n", True),
        ("flags\t\t: avx2 avx512f avx512bw\n", True),  # AVX-512 without VNNI
        ("flags\t\t: avx2 avx512f avx512_vnni amx_int8\n", False),
        ("flags\t\t: avx2 avx_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", False),  # ARM
        ("", False),
        (None, False),
    ],
)
def test_a_processor_is_known_by_what_linux_lists(tmp_path: Path, listed: str | None, expected: bool) -> None:
    if listed is not None:
        (tmp_path / "cpuinfo").write_text(listed)
    assert products_overflow(tmp_path / "cpuinfo") == expected
