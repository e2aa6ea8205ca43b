# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/engine.py's table: every engine, and the process of its own in which each is measured."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine_models import HEIGHT, WIDTH, CannotCompareError, Model
from road_seg_node.inference.model_file import INPUT_NAME
from road_seg_node.inference.providers import PROVIDERS

SETTLE = 0.3  # seconds in which the threads of the engine before stop spinning
WARM_UP = 2  # frames that are not counted, at the beginning of each turn

# What a person installs for each engine that is not ours.
PEERS = {
    "torch": "pip install torch --index-url https://download.pytorch.org/whl/cpu",
    "onnxruntime": "pip install onnxruntime",
    "cv2": "pip install opencv-python-headless",
    "openvino": "pip install openvino",
}

Answer = Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Row:
    """One engine on one model.

    Attributes:
        engine: its name in the table.
        precision: asked for; "auto" and "default" leave it to the engine.
        scope: "whole" (camera bytes to bytes) or "bare network" (float to logits).
        open: called as open(row) in the row's process; returns what answers the sample, and the precision used.
        device: "cpu" or "cuda", for the roofline; a provider's name for our own rows.
    """

    model: Model
    engine: str
    precision: str
    scope: str
    open: Callable[[Row], tuple[Answer, str]]
    device: str = "cpu"

    @property
    def label(self) -> str:
        return f"{self.model.name} {self.engine} {self.precision} {self.scope}"

    @property
    def file(self) -> Path:
        """The model file, or the bare network's, quantised where that is the precision."""
        files = (self.model.whole, self.model.whole_int8), (self.model.bare, self.model.bare_int8)
        path = files[self.scope == "bare network"][self.precision == "int8"]
        assert path is not None
        return path

    def sample(self) -> np.ndarray:
        """What goes in: uint8 [HEIGHT, WIDTH, 3], or float [1, 3, h, w] into the bare network."""
        return np.load(self.model.sample)["frame" if self.scope == "whole" else "tensor"]


def rows_of(model: Model) -> Iterator[Row]:
    """Every row that this model can have; which engines are installed is found out when they are opened."""
    precisions = ["fp32"] + (["int8"] if model.whole_int8 else [])
    scopes = ["whole"] + (["bare network"] if model.bare else [])
    for provider in PROVIDERS:
        if provider != "auto":
            for precision in precisions if provider == "cpu" else ["auto", *precisions]:
                yield Row(model, f"RoadSegmenter {provider}", precision, "whole", open_segmenter, provider)
    for precision in precisions:
        yield Row(model, "session.run cpu", precision, "whole", open_same_session)
    for scope in scopes:
        for precision in precisions:
            yield Row(model, "ONNX Runtime CPU", precision, scope, open_onnxruntime)
        yield Row(model, "ONNX Runtime CUDA", "default", scope, open_onnxruntime, "cuda")
        yield Row(model, "OpenCV DNN", "fp32", scope, open_opencv)
        for precision in ["default", *precisions]:
            yield Row(model, "OpenVINO", precision, scope, open_openvino)
    for engine, device in (("PyTorch eager", "cpu"), ("torch.compile", "cpu"), ("PyTorch eager", "cuda")):
        for precision in ("fp32", "bf16"):
            yield Row(model, engine + (" CUDA" if device == "cuda" else ""), precision, "whole", open_torch, device)


def open_segmenter(row: Row) -> tuple[Answer, str]:
    from road_seg_node.inference import RoadSegmenter

    # An int8 file is int8 as it is; only of a file in float can more be asked.
    asked = "auto" if row.precision == "int8" else row.precision
    segmenter = RoadSegmenter(row.file, provider=row.device, precision=asked)
    segmenter.prepare(HEIGHT, WIDTH)
    frame = row.sample()
    return lambda: segmenter.probability(frame), segmenter.precision


def open_same_session(row: Row) -> tuple[Answer, str]:
    """ONNX Runtime alone with the options of RoadSegmenter on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(row.file, options, providers=["CPUExecutionProvider"])
    batch = row.sample()[np.newaxis]
    return lambda: session.run(None, {INPUT_NAME: batch})[0], row.precision


def open_onnxruntime(row: Row) -> tuple[Answer, str]:
    import onnxruntime

    provider = f"{row.device.upper()}ExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise CannotCompareError("this ONNX Runtime has no CUDA: install onnxruntime-gpu[cuda,cudnn] instead")
    if row.device == "cuda":
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(row.file, providers=[provider])
    if provider not in session.get_providers():
        raise CannotCompareError("ONNX Runtime cannot use CUDA here, and fell back to the CPU")
    given = {session.get_inputs()[0].name: _batch(row)}
    # CUDA multiplies in TF32 unless told otherwise.
    precision = "tf32" if row.device == "cuda" else row.precision
    return lambda: session.run(None, given)[0], precision


def open_opencv(row: Row) -> tuple[Answer, str]:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(row.file))
    batch = _batch(row)

    def answer() -> np.ndarray:
        net.setInput(batch)
        return net.forward()

    return answer, "fp32"


def open_openvino(row: Row) -> tuple[Answer, str]:
    import openvino

    options = {"PERFORMANCE_HINT": "LATENCY"}
    if row.precision == "fp32":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    graph = core.read_model(row.file)
    batch = _batch(row)
    graph.reshape(list(batch.shape))  # a fixed size, which is what OpenVINO's documentation advises
    compiled = core.compile_model(graph, "CPU", options)
    request = compiled.create_infer_request()
    names = {"f32": "fp32", "f16": "fp16"}
    used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def answer() -> np.ndarray:
        request.infer({0: batch}, share_inputs=True)
        return request.get_output_tensor(0).data

    return answer, "int8" if row.precision == "int8" else names.get(used, used)


def open_torch(row: Row) -> tuple[Answer, str]:
    import torch

    if row.device == "cuda" and not torch.cuda.is_available():
        raise CannotCompareError("this PyTorch finds no GPU")
    module = _torch_module(row.model).to(row.device)
    if row.engine.startswith("torch.compile"):
        module = torch.compile(module)
    batch = torch.from_numpy(_batch(row))

    def answer() -> np.ndarray:
        with torch.inference_mode(), torch.autocast(row.device, torch.bfloat16, enabled=row.precision == "bf16"):
            return module(batch.to(row.device)).cpu().numpy()

    return answer, row.precision


def _torch_module(model: Model) -> Any:
    """The module that the model file was exported from or, without its checkpoint, one of the same shape."""
    from train.network.checkpoint import load_checkpoint, network_of
    from train.network.contract import RoadProbability
    from train.network.model import VGGFCN8

    if model.checkpoint is not None:
        network = network_of(load_checkpoint(model.checkpoint))
    else:
        try:
            network = VGGFCN8.of_architecture(model.info.architecture)
        except ValueError:
            raise CannotCompareError(
                f"there is no PyTorch network {model.info.architecture!r}: give its --checkpoint"
            ) from None
    return RoadProbability(network, model.info.resize).eval()


def _batch(row: Row) -> np.ndarray:
    sample = row.sample()
    return sample[np.newaxis] if row.scope == "whole" else sample


def difference(row: Row, answer: np.ndarray) -> tuple[float, float] | None:
    """(largest, mean) difference from fp32, of 255; of the bare network at its own size. None without its weights."""
    if row.open is open_torch and row.model.checkpoint is None:
        return None
    with np.load(row.model.sample) as sample:
        if row.scope == "whole":
            have, want = answer.reshape(sample["probability"].shape), sample["probability"]
        else:
            have, want = (_road(logits.reshape(sample["logits"].shape)) for logits in (answer, sample["logits"]))
    apart = np.abs(have.astype(np.float64) - want)
    return float(apart.max()), float(apart.mean())


def _road(logits: np.ndarray) -> np.ndarray:
    return np.round(255 / (1 + np.exp(logits[:, 0].astype(np.float64) - logits[:, 1])))


@dataclass(frozen=True)
class Opened:
    """What a row's process says once it answers: the precision used, and `difference` of its answer."""

    precision: str
    difference: tuple[float, float] | None


@dataclass(frozen=True)
class Turn:
    """What a row's process measured on some frames.

    Attributes:
        seconds: of each frame.
        processor: seconds of processor time in all of them, by all threads.
        waiting: seconds of processor time since the turn before, when nothing was asked.
        peak: bytes of memory that the process had at most so far, from its start.
    """

    seconds: list[float]
    processor: float
    waiting: float
    peak: int


class Process:
    """A row in a process of its own, so that its memory and its threads are its own too."""

    def __init__(self, row: Row) -> None:
        """Raises CannotCompareError where the engine is not installed, does not work here, or dies."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, row), daemon=True)
        self._process.start()
        theirs.close()
        self.opened: Opened = self._receive()

    def turn(self, frames: int) -> Turn:
        """Raises CannotCompareError where the engine fails."""
        self._pipe.send(frames)
        return self._receive()

    def stop(self) -> None:
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            got = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise CannotCompareError(f"its process died (exit status {self._process.exitcode})") from None
        if isinstance(got, CannotCompareError):
            self.stop()
            raise got
        return got


def _work(pipe: Connection, row: Row) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # libraries write there; what matters is sent
        os.dup2(silence, stream)
    try:
        answer, precision = row.open(row)
        pipe.send(Opened(precision, difference(row, np.array(answer()))))
        left = time.process_time()
        while True:
            frames = pipe.recv()
            waiting = time.process_time() - left
            time.sleep(SETTLE)
            for _ in range(WARM_UP):
                answer()
            seconds = []
            processor = time.process_time()
            for _ in range(frames):
                start = time.perf_counter()
                answer()
                seconds.append(time.perf_counter() - start)
            processor = time.process_time() - processor
            pipe.send(Turn(seconds, processor, waiting, _peak()))
            left = time.process_time()
    except EOFError:
        pass  # the parent has stopped asking
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        remedy = PEERS.get(package, "make setup")
        pipe.send(CannotCompareError(f"{package or error} is not installed: {remedy}"))
    except Exception as error:  # every library has its own; none may end the table
        words = " ".join(str(error).split()) or type(error).__name__
        pipe.send(CannotCompareError(words[:300]))


def _peak() -> int:
    """Bytes of memory that this process had resident at most (Linux)."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
