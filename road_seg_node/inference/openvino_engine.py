# SPDX-License-Identifier: Apache-2.0
"""The network on OpenVINO: for processors the fastest engine there is, AMD's and ARM's as well as Intel's.

OpenVINO is called itself. Its plugin for ONNX Runtime (onnxruntime-ep-openvino 1.8.1) offers no device on a processor
that is not Intel's, and what is done here with the graph cannot be done through it.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from road_seg_node.inference.engine import ProviderError, Size, first_line, not_finite
from road_seg_node.inference.model_file import INPUT_NAME, OUTPUT_NAME, ModelFile, Tensor, check_signature

if TYPE_CHECKING:
    import openvino

_TELEMETRY = "openvino_telemetry"
REMEDY = "pip install openvino (the `openvino` extra)"
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def open_engine(model: ModelFile, size: Size | None, precision: str, threads: int = 0) -> WholeGraph | NetworkOnly:
    """Compile `model` for images of any size, or faster for those of `size` alone; threads: 0, as OpenVINO has it.

    Raises ProviderError where OpenVINO is not installed or cannot run the model.
    """
    ov, core = library(), _core()
    options: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}  # one frame at a time, all cores on it
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    if precision == "fp32":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        graph = core.read_model(model.data)
        check_signature(_tensors(graph.inputs), _tensors(graph.outputs), model.where)
        if size is not None:
            graph.reshape({INPUT_NAME: [1, *size, 3]})
            ends = _resizes(graph)
            if ends is not None:
                exact = precision == "fp32"
                network = _between(ov, graph, *ends, np.float32 if exact else np.uint8)
                return NetworkOnly(core.compile_model(network, "CPU", options), model.quantized, exact)
        return WholeGraph(core.compile_model(graph, "CPU", options), model.quantized)
    except (RuntimeError, UnicodeDecodeError) as error:  # OpenVINO's exceptions have no other base; names that are none
        raise ProviderError(
            f"openvino cannot run the model {model.where} ({first_line(error)}): choose the provider cpu"
        ) from error


def _tensors(ports: Sequence[Any]) -> list[Tensor]:
    sizes = [[size.get_length() if size.is_static else None for size in port.partial_shape] for port in ports]
    kinds = [str(port.element_type.to_dtype()) for port in ports]
    return list(zip((port.any_name for port in ports), kinds, sizes, strict=True))


class WholeGraph:
    """Runs the file as it is, from camera bytes to probability, at any size."""

    follows_size = True

    def __init__(self, compiled: openvino.CompiledModel, quantized: bool) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()
        self.precision = _precision(compiled, quantized)
        self._watched = len(compiled.outputs) > 1

    def run(self, image: np.ndarray) -> np.ndarray:
        with self._lock:
            self._request.infer({0: image[np.newaxis]}, share_inputs=True)
            if self._watched and not np.isfinite(self._request.get_output_tensor(1).data):
                raise not_finite()
            answer = self._request.get_output_tensor(0).data
            return answer[0].copy() if answer.shape[0] == 1 else answer.copy()


class NetworkOnly:
    """Runs what lies between the graph's two resizes; OpenCV does these, at one camera size.

    OpenVINO's own resize of one large channel takes as long as a compact network does, and converts the whole camera
    image to float before it makes it small. OpenCV's INTER_LINEAR is the same function in a twentieth of the time.
    """

    follows_size = False

    def __init__(self, compiled: openvino.CompiledModel, quantized: bool, exact: bool) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()
        self.precision = _precision(compiled, quantized)
        self._exact = exact  # the small image in float, as the graph has it, not rounded to bytes
        self._input = self._request.get_input_tensor(0).data[0]  # [h, w, 3] BGR
        self._road = self._request.get_output_tensor(0).data[0, 0]  # [h, w], P(road)

    def run(self, image: np.ndarray) -> np.ndarray:
        small, (height, width) = self._input, image.shape[:2]
        with self._lock:
            source = image.astype(np.float32) if self._exact else image
            cv2.resize(source, small.shape[1::-1], dst=small, interpolation=cv2.INTER_LINEAR)
            self._request.infer()
            if not np.isfinite(self._road).all():
                raise not_finite()
            road = cv2.resize(self._road, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.convertScaleAbs(road, alpha=255.0)  # rounds to even and saturates, as the graph does


def _resizes(graph: openvino.Model) -> tuple[Any, Any] | None:
    """Return the graph's first and last node that resize, where they do what OpenCV's INTER_LINEAR does.

    None for a graph of another kind; it then runs as it is.
    """
    resizes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Interpolate"]
    if len(resizes) < 2:
        return None
    first, last = resizes[0], resizes[-1]
    for node, channels in ((first, 3), (last, 1)):
        attributes, shape = node.get_attributes(), node.output(0).get_partial_shape()
        alike = (
            attributes.get("mode") in ("linear", "linear_onnx")
            and attributes.get("coordinate_transformation_mode") == "half_pixel"
            and not attributes.get("antialias")
        )
        if not alike or shape.is_dynamic or shape.to_shape()[:2] != [1, channels]:
            return None
    above = _straight(first.input_value(0).get_node(), ("Parameter",), ("Convert", "Transpose"))
    scaled = ("Gather", "Squeeze", "Reshape", "Multiply", "Round", "Convert")
    answer = next(output for output in graph.outputs if OUTPUT_NAME in output.names).get_node()
    below = _straight(answer.input_value(0).get_node(), (last.get_friendly_name(),), scaled)
    return (first, last) if above and below else None


def _straight(node: Any, goal: tuple[str, ...], passed: tuple[str, ...]) -> bool:
    """Whether `node`, and what feeds its first input, are of the types `passed` up to one of type or name `goal`."""
    while not ({node.get_type_name(), node.get_friendly_name()} & set(goal)):
        if node.get_type_name() not in passed:
            return False
        node = node.input_value(0).get_node()
    return True


def _between(ov: Any, graph: openvino.Model, first: Any, last: Any, dtype: type) -> openvino.Model:
    """Return the model from `dtype` [1, h, w, 3], the small image, to float [1, 1, h, w], P(road)."""
    ops = importlib.import_module("openvino.opset13")
    _, _, height, width = first.output(0).get_shape()
    image = ops.parameter([1, height, width, 3], dtype, name=INPUT_NAME)
    planes = ops.transpose(ops.convert(image, "f32"), np.array([0, 3, 1, 2]))
    road = last.input_value(0)
    for reader in first.output(0).get_target_inputs():
        reader.replace_source_output(planes.output(0))
    return ov.Model([ops.result(road)], [image], "network")


def _precision(compiled: openvino.CompiledModel, quantized: bool) -> str:
    return "int8" if quantized else _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]


@lru_cache(maxsize=1)
def _core() -> openvino.Core:
    """Return the one core of this process, which is never given up.

    On processors with AVX-512 its CPU plugin gives the thread that makes it another stack for signals, and frees that
    with itself, be it on another thread: the first thread then dies of its next signal, Ctrl-C or a child's end.
    """
    return library().Core()


def library() -> Any:
    """Import OpenVINO, without its telemetry: that sends an event to Google Analytics when it is imported.

    Raises ProviderError where it is not installed.
    """
    loaded = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to make an import fail
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ProviderError(f"OpenVINO cannot be imported ({first_line(error)}): {REMEDY}") from error
    finally:
        del sys.modules[_TELEMETRY]
        if loaded is not None:
            sys.modules[_TELEMETRY] = loaded
