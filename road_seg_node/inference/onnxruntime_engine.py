# SPDX-License-Identifier: Apache-2.0
"""The network on ONNX Runtime: TensorRT, CUDA, and the processor.

Asked for a provider that cannot work, ONNX Runtime writes a line to stderr and computes on the CPU instead.
Here that is an error with a reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from road_seg_node.inference.engine import ProviderError, Size, first_line, not_finite
from road_seg_node.inference.model_file import INPUT_NAME, ModelFile, ModelFileError, Tensor, check_signature

if TYPE_CHECKING:
    import onnxruntime

_SILENT = 4  # fatal errors only: everything less is raised, or told in a sentence of ours

# Operators that do the network's arithmetic. CUDA leaves the small integers of shapes to the CPU on purpose,
# so session.disable_cpu_ep_fallback, which forbids those as well, is no use.
_HEAVY = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "QLinearConv", "ConvInteger"})


@dataclass(frozen=True)
class _Kind:
    """One of ONNX Runtime's providers.

    Attributes:
        names: what ONNX Runtime calls it, and those that take what it leaves.
        remedy: what to install where this ONNX Runtime lacks it.
        options: of the provider, as ONNX Runtime documents them, for a model and a size or none.
        prepare: called with the onnxruntime module before the session is made.
        why_not: called with the module after ONNX Runtime left the provider out; returns the reason.
        precision: of its arithmetic on a model in float, where fp32 is not asked for.
    """

    names: tuple[str, ...]
    remedy: str
    options: Callable[[ModelFile, Size | None, bool], dict[str, str]]
    prepare: Callable[[Any], None]
    why_not: Callable[[Any], str]
    precision: str


def _cuda_options(model: ModelFile, size: Size | None, exact: bool) -> dict[str, str]:
    return {
        # The default, EXHAUSTIVE, times every algorithm again for each new image size, while a frame waits.
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "1",  # what tensor cores read
        "use_tf32": "0" if exact else "1",
        # Recorded once and replayed, so that the processor need not start each of the network's kernels.
        "enable_cuda_graph": "0" if size is None else "1",
    }


def _tensorrt_options(model: ModelFile, size: Size | None, exact: bool) -> dict[str, str]:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "road_seg_node" / "tensorrt"
    # TensorRT itself notes the GPU and its own version in an engine's name and refuses another's.
    cache = str(folder / model.sha256[:16])
    return {
        "trt_fp16_enable": "0" if exact else "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        # One engine for every camera: without a range each new size builds another, for minutes.
        "trt_profile_min_shapes": f"{INPUT_NAME}:1x32x32x3",
        "trt_profile_opt_shapes": f"{INPUT_NAME}:1x375x1242x3",
        "trt_profile_max_shapes": f"{INPUT_NAME}:1x2160x3840x3",
    }


def _preload_cuda(ort: Any) -> None:
    """Load CUDA and cuDNN from the nvidia-* packages beside us, where the dynamic linker does not look."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # what it misses, _why_not_cuda says in one sentence
            ort.preload_dlls()


def _preload_tensorrt(ort: Any) -> None:
    _preload_cuda(ort)
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt_libs")  # of the package tensorrt; importing it loads them


def _driver() -> ctypes.CDLL | None:
    """NVIDIA's, where there is one."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _why_not_cuda(ort: Any) -> str:
    driver = _driver()
    if driver is None:
        return (
            "there is no NVIDIA driver (libcuda.so.1) on this machine or in this container: "
            "install the driver, or start the container with --gpus all"
        )
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no device: see what nvidia-smi says, and CUDA_VISIBLE_DEVICES"
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))  # 1000 * major + 10 * minor
    needed = getattr(ort, "cuda_version", "") or ""
    if needed and version.value // 1000 < int(needed.split(".")[0]):
        return (
            f"the NVIDIA driver is made for CUDA {version.value // 1000}.{version.value % 1000 // 10} and "
            f"this ONNX Runtime for CUDA {needed}: install a newer driver, or an older onnxruntime-gpu"
        )
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        if "cannot open shared object file" in str(error):
            return f"a library is missing ({error}): pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return "driver and libraries load, so see what nvidia-smi says of the device and of free memory"


def _why_not_tensorrt(ort: Any) -> str:
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return "TensorRT 10 (libnvinfer.so.10) is not installed: pip install 'tensorrt>=10,<11'"
    return _why_not_cuda(ort)


_GPU = "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (the `gpu` extra)"
_KINDS = {
    "tensorrt": _Kind(
        names=("TensorrtExecutionProvider", "CUDAExecutionProvider"),
        remedy=f"{_GPU}, and pip install 'tensorrt>=10,<11'",
        options=_tensorrt_options,
        prepare=_preload_tensorrt,
        why_not=_why_not_tensorrt,
        precision="fp16",
    ),
    "cuda": _Kind(
        names=("CUDAExecutionProvider",),
        remedy=_GPU,
        options=_cuda_options,
        prepare=_preload_cuda,
        why_not=_why_not_cuda,
        precision="tf32",
    ),
    "cpu": _Kind(
        names=("CPUExecutionProvider",),
        remedy="pip install onnxruntime (the `cpu` extra)",
        options=lambda model, size, exact: {},
        prepare=lambda ort: None,
        why_not=lambda ort: "it gave no reason",
        precision="fp32",
    ),
}


def library(name: str) -> Any:
    """Return the module onnxruntime; raises ProviderError where it is not installed, or without the provider `name`."""
    ort, kind = _onnxruntime(), _KINDS[name]
    if kind.names[0] not in ort.get_available_providers():
        alone = name != "cpu" and _driver() is None  # no other build of ONNX Runtime would help
        raise ProviderError(
            f"this ONNX Runtime has no {name} provider"
            + (f", nor this machine an NVIDIA driver (with one: {kind.remedy})" if alone else f": {kind.remedy}")
        )
    return ort


def open_engine(
    name: str, model: ModelFile, size: Size | None, precision: str, threads: int, tell: Callable[[str], None]
) -> InMemory | OnDevice:
    """Make a session that really runs on the provider `name`, for images of any size or of `size` alone.

    `tell` is called with a sentence before TensorRT builds its engine. Raises ProviderError where the provider
    cannot work here, ModelFileError where no provider could read the model.
    """
    ort = library(name)
    kind, exact = _KINDS[name], precision == "fp32"
    kind.prepare(ort)
    if name == "tensorrt":
        tell(f"TensorRT builds its engine for {model.where}, unless it did before; the first time this takes minutes")
    options = _session_options(ort)
    options.intra_op_num_threads = threads
    if size is not None:
        for dimension, pixels in zip(("batch", "height", "width"), (1, *size), strict=True):
            options.add_free_dimension_override_by_name(dimension, pixels)
    try:
        providers = [(kind.names[0], kind.options(model, size, exact)), *kind.names[1:]]
        # By default the Python wrapper takes the CPU where a provider fails, with a notice on stdout.
        session = ort.InferenceSession(model.data, options, providers=providers, enable_fallback=0)
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        if name == "cpu" or not _cpu_reads(ort, model.data):
            raise ModelFileError(
                f"ONNX Runtime cannot load the model {model.where} ({first_line(error)}): "
                "export it again with export/export.py"
            ) from error
        raise ProviderError(
            f"{name} cannot run the model {model.where} ({first_line(error)}): {kind.why_not(ort)}"
        ) from error
    check_signature(inputs, outputs, model.where)
    if kind.names[0] not in session.get_providers():
        raise ProviderError(f"ONNX Runtime does not use {name} here: {kind.why_not(ort)}")
    left = _heavy_elsewhere(session, kind.names[0]) if name != "cpu" else []
    if left is None:
        tell(f"ONNX Runtime {ort.__version__} does not say what it computes on {name} and what elsewhere; 1.24 does")
    elif left:
        raise ProviderError(
            f"{name} leaves parts of the model {model.where} to other providers ({', '.join(left)}): "
            "export the model for this provider, or choose another"
        )
    precision = _precision(name, model, exact)
    if name == "cuda" and size is not None:
        return OnDevice(ort, session, size, precision)
    return InMemory(session, precision, follows_size=name == "cuda")


class InMemory:
    """A session that is given the image and gives back the answer in the processor's memory."""

    def __init__(self, session: onnxruntime.InferenceSession, precision: str, follows_size: bool) -> None:
        self.precision, self.follows_size = precision, follows_size
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, image: np.ndarray) -> np.ndarray:
        answer, *mean = self._session.run(self._outputs, {INPUT_NAME: image[np.newaxis]})
        if mean and not np.isfinite(mean[0]):
            raise not_finite()
        return answer[0] if answer.shape[:1] == (1,) else answer


class OnDevice:
    """A CUDA session for one size, whose input and output stay where they are in the GPU's memory."""

    follows_size = False

    def __init__(self, ort: Any, session: onnxruntime.InferenceSession, size: Size, precision: str) -> None:
        self.precision = precision
        self._session, self._lock = session, threading.Lock()
        make = ort.OrtValue.ortvalue_from_shape_and_type
        self._image = make([1, *size, 3], np.uint8, "cuda", 0)
        self._answer = make([1, *size], np.uint8, "cuda", 0)
        self._mean = make([], np.float32, "cuda", 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._image)
        for output, value in zip(session.get_outputs(), (self._answer, self._mean), strict=False):
            self._binding.bind_ortvalue_output(output.name, value)
        self._watched = len(session.get_outputs()) > 1

    def run(self, image: np.ndarray) -> np.ndarray:
        with self._lock:
            self._image.update_inplace(image[np.newaxis])
            self._session.run_with_iobinding(self._binding)
            if self._watched and not np.isfinite(self._mean.numpy()):
                raise not_finite()
            return self._answer.numpy()[0]


def _tensors(nodes: Sequence[Any]) -> list[Tensor]:
    return [(node.name, node.type.removeprefix("tensor(").removesuffix(")"), node.shape) for node in nodes]


def _session_options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _SILENT
    # Idle worker threads otherwise spin after every frame: half as much processor time again, no frame sooner
    # (measured at 10 Hz on two cores).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _heavy_elsewhere(session: onnxruntime.InferenceSession, provider: str) -> list[str] | None:
    """Return the arithmetic operators that the session computes elsewhere than on `provider`, each with where.

    None where ONNX Runtime, before 1.24, does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return sorted(
        {
            f"{node.op_type} on {part.ep_name}"
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != provider
            for node in part.get_nodes()
            if node.op_type in _HEAVY
        }
    )


def _precision(name: str, model: ModelFile, exact: bool) -> str:
    """Return what the arithmetic of `model` is done in on the provider `name`."""
    if model.quantized and name != "cuda":  # CUDA has no convolution in integers: it takes the weights back to floats
        return "int8"
    if model.precision == "fp16" and name != "cpu":
        return "fp16"
    return "fp32" if exact else _KINDS[name].precision


def _cpu_reads(ort: Any, model: bytes) -> bool:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _SILENT
    with contextlib.suppress(Exception):
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        return True
    return False


def _onnxruntime() -> Any:
    """Import ONNX Runtime, here and nowhere else, so that its telemetry is off before it loads."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ProviderError(
            f"ONNX Runtime cannot be imported by {sys.executable} ({first_line(error)}): "
            "pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' with an NVIDIA GPU"
        ) from error
    if not hasattr(ort, "InferenceSession"):
        # onnxruntime and onnxruntime-gpu share one folder: removing one leaves an empty shell of the other.
        raise ProviderError(
            "the installed ONNX Runtime is an empty shell: pip uninstall onnxruntime onnxruntime-gpu, "
            "then install one of the two again"
        )
    ort.set_default_logger_severity(_SILENT)
    return ort
