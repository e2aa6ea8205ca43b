# SPDX-License-Identifier: Apache-2.0
"""Which execution provider of ONNX Runtime this machine can really run, and with which options.

Asked for a provider that cannot work, ONNX Runtime writes a line to stderr and computes on the CPU instead.
Here that is an error with a reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from road_seg_node.model_file import ModelFileError

if TYPE_CHECKING:
    import onnxruntime


class ProviderError(RuntimeError):
    """A provider cannot do the work; the message is a sentence that says why and what to do."""


def _nothing(ort: Any) -> None:
    return None


def _no_reason(ort: Any) -> str:
    return "it gave no reason"


@dataclass(frozen=True)
class _Provider:
    """One way to run a model.

    Attributes:
        ort_name: what ONNX Runtime calls it.
        remedy: what to install where this ONNX Runtime lacks it.
        options: of the provider, as ONNX Runtime documents them.
        prepare: called with the onnxruntime module before the session is made.
        why_not: called with the module after ONNX Runtime left the provider out; returns the reason.
    """

    ort_name: str
    remedy: str
    options: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Any], None] = _nothing
    why_not: Callable[[Any], str] = _no_reason


def _preload_cuda(ort: Any) -> None:
    """Load CUDA and cuDNN from the nvidia-* packages beside us, where the dynamic linker does not look."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # what it misses, _why_not_cuda says in one sentence
            ort.preload_dlls()


def _why_not_cuda(ort: Any) -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
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


# In the order in which `auto` tries them. A new provider is a new entry.
_TABLE: dict[str, _Provider] = {
    "cuda": _Provider(
        ort_name="CUDAExecutionProvider",
        remedy="pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (the `gpu` extra)",
        # The default, EXHAUSTIVE, times every algorithm again for each new image size, while a frame waits.
        options={"cudnn_conv_algo_search": "HEURISTIC"},
        prepare=_preload_cuda,
        why_not=_why_not_cuda,
    ),
    "cpu": _Provider(ort_name="CPUExecutionProvider", remedy="pip install onnxruntime (the `cpu` extra)"),
}

PROVIDERS = ("auto", *_TABLE)

_SILENT = 4  # fatal errors only: everything less is raised, or told in a sentence of ours

# Operators that do the network's arithmetic. CUDA leaves the small integers of shapes to the CPU on purpose,
# so session.disable_cpu_ep_fallback, which forbids those as well, is no use.
_HEAVY = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "QLinearConv", "ConvInteger"})


def candidates(asked: str) -> tuple[str, ...]:
    """Return the providers to try for the parameter's value `asked`, in order."""
    if asked not in PROVIDERS:
        raise ProviderError(f"there is no provider {asked!r}: choose one of {', '.join(PROVIDERS)}")
    return tuple(_TABLE) if asked == "auto" else (asked,)


def open_session(provider: str, model: bytes, where: str) -> onnxruntime.InferenceSession:
    """Make a session that really runs on `provider`; `where` names the model's file in sentences.

    Raises ProviderError where the provider cannot work here, ModelFileError where no provider could read the
    model.
    """
    ort = _onnxruntime()
    entry = _TABLE[provider]
    if entry.ort_name not in ort.get_available_providers():
        raise ProviderError(f"this ONNX Runtime has no {provider} provider: {entry.remedy}")
    entry.prepare(ort)

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _SILENT
    # Idle worker threads otherwise spin after every frame: half as much processor time again, no frame sooner
    # (measured at 10 Hz on two cores).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = _session(ort, model, options, entry)
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        if provider == "cpu" or not _cpu_reads(ort, model):
            raise ModelFileError(
                f"ONNX Runtime cannot load the model {where} ({first_line(error)}): "
                "export it again with export/export.py"
            ) from error
        raise ProviderError(
            f"{provider} cannot run the model {where} ({first_line(error)}): {entry.why_not(ort)}"
        ) from error

    if entry.ort_name not in session.get_providers():
        raise ProviderError(f"ONNX Runtime does not use {provider} here: {entry.why_not(ort)}")
    left = _heavy_on_cpu(session) if provider != "cpu" else []
    if left:
        raise ProviderError(
            f"{provider} leaves {', '.join(left)} of the model {where} to the CPU: "
            "export the model for this provider, or choose the provider cpu"
        )
    return session


def _session(ort: Any, model: bytes, options: Any, entry: _Provider) -> onnxruntime.InferenceSession:
    named = [(entry.ort_name, entry.options)]
    # By default the Python wrapper takes the CPU where a provider fails, with a notice on stdout.
    return ort.InferenceSession(model, options, providers=named, enable_fallback=0)


def _heavy_on_cpu(session: onnxruntime.InferenceSession) -> list[str]:
    """Return the arithmetic operators that the session computes on the CPU, by name."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # ONNX Runtime before 1.24
        return []
    on_cpu = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    }
    return sorted(on_cpu & _HEAVY)


def _cpu_reads(ort: Any, model: bytes) -> bool:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _SILENT
    with contextlib.suppress(Exception):
        _session(ort, model, options, _TABLE["cpu"])
        return True
    return False


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, without ONNX Runtime's codes, for a sentence."""
    lines = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip()).splitlines()
    return lines[0] if lines else type(error).__name__


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
