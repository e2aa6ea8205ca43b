# SPDX-License-Identifier: Apache-2.0
"""How fast these cores, or this GPU, multiply matrices and copy memory, and the time that no engine can go below.

The roofline model is of Williams, Waterman and Patterson, 2009 (doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.engine_models import Layer
from road_seg_node.inference.processor import products_overflow

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
COPIED = 1 << 28  # bytes, far more than caches hold
SECONDS = 1.0  # for each measurement
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int8": 1}  # of a weight


@dataclass
class Roofline:
    """What was measured, the best of all that was tried.

    Attributes:
        products: by precision, (operations a second, which library).
        bandwidth: bytes a second, read and written counted both, and which library copied.
    """

    products: dict[str, tuple[float, str]] = field(default_factory=dict)
    bandwidth: tuple[float, str] = (0.0, "")

    def seconds(self, layers: list[Layer], precision: str) -> float | None:
        """The least time for one frame, or None where this precision was not measured.

        Layers run one after the other, and each takes as long as its operations at the matrix product's speed, or as
        its weights take to come from memory. That what flows between layers stays in the caches is taken for granted,
        and so is that every layer is computed in `precision`.
        """
        if precision not in self.products or not layers:
            return None
        speed, bandwidth = self.products[precision][0], self.bandwidth[0]
        return sum(max(x.operations / speed, x.weights * BYTES[precision] / bandwidth) for x in layers)

    def better(self, other: Roofline) -> None:
        """Take what was measured faster another time."""
        for precision, product in other.products.items():
            self.products[precision] = max(self.products.get(precision, product), product)
        self.bandwidth = max(self.bandwidth, other.bandwidth)

    def lines(self, device: str) -> Iterator[str]:
        for precision, (speed, library) in self.products.items():
            yield f"{device}, matrix product in {precision}: {speed / 1e9:,.0f} GFLOP/s ({library})"
        yield f"{device}, memory: {self.bandwidth[0] / 1e9:,.0f} GB/s read and written ({self.bandwidth[1]})"


def measure(device: str) -> Roofline:
    """Measure on "cpu" or "cuda" with every library that is installed; the fastest counts."""
    roofline = Roofline()
    side = SIDE[device]
    for candidates in (_torch, _onnx) if device == "cuda" else (_numpy, _torch, _onnx):
        with contextlib.suppress(ImportError, RuntimeError):
            for precision, library, call in candidates(device, side):
                # A library may lack a precision on this machine, and says so only when it is tried.
                with contextlib.suppress(RuntimeError, NotImplementedError):
                    seconds = _best(call)
                    if precision == "copy":
                        roofline.bandwidth = max(roofline.bandwidth, (2 * COPIED / seconds, library))
                    else:
                        found = (2 * side**3 / seconds, library)
                        roofline.products[precision] = max(roofline.products.get(precision, (0.0, "")), found)
    return roofline


Candidate = tuple[str, str, Callable[[], Any]]


def _best(call: Callable[[], Any]) -> float:
    call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _numpy(device: str, side: int) -> Iterator[Candidate]:
    a = np.random.default_rng(0).random((side, side), np.float32)
    out = np.empty_like(a)
    yield "fp32", "NumPy", lambda: np.matmul(a, a, out=out)
    source, target = np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)
    yield "copy", "NumPy", lambda: np.copyto(target, source)


def _torch(device: str, side: int) -> Iterator[Candidate]:
    import torch

    from train.run.learner import autocast_dtype

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    a = torch.rand(side, side, device=device)

    def product(a: torch.Tensor, tf32: bool = False) -> Callable[[], None]:
        out = torch.empty_like(a)

        def call() -> None:
            if device == "cuda":
                torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.matmul(a, a, out=out)
            wait()

        return call

    yield "fp32", "PyTorch", product(a)
    if autocast_dtype("bf16", torch.device(device)) is not None:  # else a processor imitates it, for many minutes
        yield "bf16", "PyTorch", product(a.bfloat16())
    if device == "cuda":
        yield "tf32", "PyTorch", product(a, tf32=True)
        yield "fp16", "PyTorch", product(a.half())
    bytes_ = torch.randint(-128, 127, (side, side), dtype=torch.int8, device=device)

    def integers() -> None:
        torch._int_mm(bytes_, bytes_.t())  # the second by columns, as cuBLAS wants it
        wait()

    if device == "cuda" or not products_overflow():  # else PyTorch has but a plain loop, at 2 GFLOP/s
        yield "int8", "PyTorch", integers
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        wait()

    yield "copy", "PyTorch", copy


def _onnx(device: str, side: int) -> Iterator[Candidate]:
    """The int8 product as a quantised model states it: both sides dequantised, then multiplied."""
    if device == "cuda":
        return
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.01),
        "zero": np.uint8(0),
        "weights": rng.integers(-127, 128, (side, side), np.int8),
        "weights_zero": np.int8(0),
    }
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["a"]),
            helper.make_node("DequantizeLinear", ["weights", "scale", "weights_zero"], ["b"]),
            helper.make_node("MatMul", ["a", "b"], ["product"]),
        ],
        "product",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (side, side))],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, (side, side))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    image = rng.integers(0, 256, (side, side), np.uint8)
    with contextlib.suppress(ImportError):
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        yield "int8", "ONNX Runtime", lambda: session.run(None, {"image": image})
    with contextlib.suppress(ImportError):
        import openvino

        compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")
        request = compiled.create_infer_request()
        yield "int8", "OpenVINO", lambda: request.infer({0: image}, share_inputs=True)
