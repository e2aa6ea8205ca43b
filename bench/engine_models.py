# SPDX-License-Identifier: Apache-2.0
"""The model files that bench/engine.py compares the engines on, and what each of them costs to compute."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from road_seg_node.inference import model_file
from road_seg_node.inference.model_file import ModelInfo
from road_seg_node.synthetic_road.scene import Road

ROOT = Path(__file__).resolve().parents[1]
FULL = "vgg_fcn8_random"
HEIGHT, WIDTH = 375, 1242


class CannotCompareError(RuntimeError):
    """A model or an engine is left out of the table; the message is a sentence that says why and what to do."""


@dataclass(frozen=True)
class Layer:
    """One convolution: its floating-point operations on one frame, and its number of weights."""

    operations: int
    weights: int


@dataclass(frozen=True)
class Model:
    """One network: its files, the frame it is measured on, and the answers that fp32 gives.

    Attributes:
        whole, bare: the model file, and the network alone in it: float [1, 3, h, w] to logits [1, 2, h, w].
            `bare` is None where the file has no convolutions.
        whole_int8, bare_int8: the same, quantised, or None.
        checkpoint: the trainer's, where there is one.
        sample: .npz of `frame` (uint8 [HEIGHT, WIDTH, 3] BGR), `tensor` (what the bare network sees of it) and
            the answers `probability` and `logits` of ONNX Runtime on the processor in fp32.
        layers: the convolutions at this size; the rest of the network is not counted.
    """

    name: str
    whole: Path
    bare: Path | None
    whole_int8: Path | None
    bare_int8: Path | None
    checkpoint: Path | None
    info: ModelInfo
    sample: Path
    size: tuple[int, ...]
    layers: list[Layer]


def make_full(folder: Path) -> Path:
    """Return folder/vgg_fcn8_random.onnx, made with its checkpoint beside it unless it is there.

    VGG-FCN-8 with all of VGG-16's channels for frames stretched to 576x160, as the paper's, with weights from a fixed
    seed. The scores are scaled so that the answer spreads over 0..255 and an engine's error shows in it.
    """
    output, checkpoint = folder / f"{FULL}.onnx", folder / f"{FULL}.pt"
    if output.is_file() and checkpoint.is_file():
        return output
    try:
        import torch

        from export.export import export_checkpoint
        from train.network.contract import RoadProbability
        from train.network.model import VGGFCN8
    except ImportError as error:
        raise CannotCompareError(f"it cannot be made, as {error.name} is not installed: make setup") from None
    torch.manual_seed(0)
    network = VGGFCN8().eval()
    resize = {"policy": "stretch", "width": 576, "height": 160}
    logits = []
    with torch.inference_mode():
        for layer in [*network.features, network.fc6, network.fc7]:
            if isinstance(layer, torch.nn.Conv2d):  # fan_in keeps what flows through as large as it came in
                torch.nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        network.register_forward_hook(lambda _module, _inputs, output: logits.append(output))
        RoadProbability(network, resize)(torch.from_numpy(frame())[None])
        difference = logits[0][:, 1] - logits[0][:, 0]
        for score in (network.score_top, network.score_pool4, network.score_pool3):
            score.weight /= difference.std()
        network.score_pool3.bias[1] = -difference.mean() / difference.std()
    preset = {"width": 1.0, "batch_norm": False, "head": "fc", "resize": resize}
    state = {"model": network.state_dict(), "preset": preset, "metrics": {"threshold": 0.5}, "datasets": ["none"]}
    torch.save(state, checkpoint)
    export_checkpoint(checkpoint, output)
    return output


def quantised(file: Path, folder: Path, calibration: Path | None) -> Path:
    """Return the int8 file of `file`: the one in `folder` or beside it, or made from the frames in `calibration`."""
    name = f"{file.stem}.int8.onnx"
    ready = [path for path in (folder / name, file.with_name(name)) if path.is_file()]
    if ready:
        return ready[0]
    if calibration is None:
        raise CannotCompareError(
            f"There is no int8 file {name}, so its rows are left out: give a folder of frames with --calibration, or "
            "the folder that holds the file with --models."
        )
    output = folder / name
    program = [sys.executable, str(ROOT / "export" / "quantize.py")]
    words = ["--model", str(file), "--calibration", str(calibration), "--output", str(output)]
    if file.stem == FULL:  # road IoU means nothing on random weights
        words += ["--largest-loss", "1"]
    done = subprocess.run([*program, *words], stderr=subprocess.PIPE, stdout=sys.stderr, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise CannotCompareError(f"{name} could not be made, so its rows are left out: {last}")
    return output


def prepare(file: Path, int8: Path | None, checkpoints: list[Path], folder: Path) -> Model:
    """Cut the bare networks out of `file` and `int8` into `folder`, compute the sample, and count the layers.

    Raises CannotCompareError where `int8` is of another model, ModelFileError where a file is no good.
    """
    import onnxruntime

    checked = model_file.read(file)
    info, whole = checked.info, onnx.load_from_string(checked.data)
    ends = _ends(whole)
    sample = {"frame": frame()}
    # The network's own input and output, as further outputs, give all that is to be compared in one run.
    seen = onnx.ModelProto()
    seen.CopyFrom(whole)
    seen.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends)
    session = onnxruntime.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {model_file.INPUT_NAME: sample["frame"][np.newaxis]})
    sample["probability"] = answers[0][0]
    size: tuple[int, ...] = sample["probability"].shape
    layers: list[Layer] = []
    bare = bare_int8 = None
    if ends:
        sample["tensor"], sample["logits"] = answers[-2:]
        shape = sample["tensor"].shape
        size = shape[2:]
        network = _between(whole, *ends, shape)
        layers = _layers(network)
        bare = _save(network, folder / f"{file.stem}.bare.onnx")
        if int8 is not None:
            other = model_file.read(int8)
            if other.info.checkpoint_sha256 != info.checkpoint_sha256:
                raise CannotCompareError(f"{int8} was made from another model than {file}: remove it")
            integers = onnx.load_from_string(other.data)
            bare_int8 = _save(_between(integers, *_ends(integers), shape), folder / f"{int8.stem}.bare.onnx")
    samples = folder / f"{file.stem}.npz"
    np.savez(samples, **sample)
    return Model(
        file.stem, file, bare, int8, bare_int8, _checkpoint_of(info, checkpoints), info, samples, tuple(size), layers
    )


def frame() -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3] BGR: a synthetic street."""
    return Road(0).render(WIDTH, HEIGHT)[0]


def _checkpoint_of(info: ModelInfo, checkpoints: list[Path]) -> Path | None:
    named = (path for path in checkpoints if hashlib.sha256(path.read_bytes()).hexdigest() == info.checkpoint_sha256)
    return next(named, None)


def _save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def _ends(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the network's float input and its logits, or nothing where there are no convolutions.

    They are what the first convolution reads, before it is quantised, and what the last transposed one writes.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    first = [node.input[0] for node in model.graph.node if node.op_type == "Conv"][:1]
    last = [node.output[0] for node in model.graph.node if node.op_type == "ConvTranspose"][-1:]
    while first and makers[first[0]].op_type in ("DequantizeLinear", "QuantizeLinear"):
        first = [makers[first[0]].input[0]]
    return (*first, *last) if first and last else ()


def _between(model: onnx.ModelProto, start: str, end: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The part of `model` that computes the tensor `end` from `start`, float of the fixed `shape`."""
    wanted, nodes = {end}, []
    for node in reversed(model.graph.node):  # ONNX sorts them: none reads what a later one writes
        if wanted & set(node.output):
            nodes.insert(0, node)
            wanted |= set(node.input) - {start}
    graph = helper.make_graph(
        nodes,
        "bare network",
        [helper.make_tensor_value_info(start, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, (1, 2, *shape[2:]))],
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _layers(network: onnx.ModelProto) -> list[Layer]:
    """The convolutions of a bare network in fp32."""
    graph = onnx.shape_inference.infer_shapes(network).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    layers = []
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            # Each weight's filter [.., k, k] is multiplied and added at each place of the output, or, transposed,
            # of the input.
            weight = shapes[node.input[1]]
            places = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            layers.append(Layer(2 * int(np.prod(places)) * int(np.prod(weight[1:])), int(np.prod(weight))))
    return layers
