# SPDX-License-Identifier: Apache-2.0
"""Convert a model file to int8 (for CPUs) or fp16 (for GPUs), and measure what that costs in accuracy.

    python export/quantize.py --model road_seg.onnx --output road_seg.int8.onnx \\
        --calibration data/data_road/training --validation camvid_road/validation
    python export/quantize.py --precision fp16 --model road_seg.onnx --output road_seg.fp16.onnx --validation DIR

Converted are the convolutions that end in a ReLU, which do nearly all of the arithmetic, and the pooling between them.
The scores, the upsampling, the sigmoid and both resizings stay in fp32.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

try:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.transformers.float16 import convert_float_to_float16
except ImportError as missing:
    sys.exit(f"quantize.py: {missing.name} is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import numpy as np

from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.inference.model_file import ModelFileError, ModelInfo
from road_seg_node.inference.processor import EXACT_BITS
from road_seg_node.inference.providers import ProviderError
from road_seg_node.listing import PICTURES, listed
from train.frames import picture_file
from train.frames.data_error import DataError
from train.frames.kitti import find_frames
from train.network.half_weights import restore
from train.score.metrics import RoadCounts

PRECISIONS = ("int8", "fp16")
CALIBRATION_FRAMES = 32  # of each folder, evenly spaced
LARGEST_LOSS = 0.003  # of road IoU
_LOWERED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger")


class QuantizeError(ValueError):
    """A model that cannot be lowered, or not without harm; the message says why."""


class Pictures(CalibrationDataReader):
    """The calibration pictures, one by one, as the model's input."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = iter(paths)

    def get_next(self) -> dict[str, np.ndarray] | None:
        path = next(self._paths, None)
        return None if path is None else {model_file.INPUT_NAME: picture_file.read(path)[np.newaxis]}


def calibration_pictures(folder: Path) -> list[Path]:
    """At most CALIBRATION_FRAMES pictures of a folder, or of `image_2/` in it; ground truth is not needed.

    Raises:
        QuantizeError: the folder cannot be read or holds no picture.
    """
    inside = folder / "image_2" if (folder / "image_2").is_dir() else folder
    try:
        pictures = listed(inside, PICTURES)
    except OSError as error:
        raise QuantizeError(f"--calibration {inside} cannot be read: {error.strerror or error}.") from None
    if not pictures:
        raise QuantizeError(
            f"There is no PNG or JPEG picture in {inside}: calibrate on a folder of frames such as the robot will see."
        )
    number = min(CALIBRATION_FRAMES, len(pictures))
    return [pictures[i * len(pictures) // number] for i in range(number)]


def convolutions(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The convolutions that end in a ReLU, in the graph's order, by their weights' name without ".weight"."""
    before_relu = {node.input[0] for node in graph.node if node.op_type == "Relu"}
    return {
        node.input[1].removesuffix(".weight"): node
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in before_relu
    }


def lowered_nodes(graph: onnx.GraphProto, keep_float: Sequence[str], where: Path) -> list[onnx.NodeProto]:
    """The nodes to lower: convolutions, all but `keep_float`, and every ReLU and pooling.

    Raises:
        QuantizeError: nothing can be lowered, it has been already, or `keep_float` names what is not there.
    """
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    if half or any(node.op_type in _LOWERED for node in graph.node):
        raise QuantizeError(f"{where} is in int8 or fp16 already: give the float file that export.py wrote.")
    found = convolutions(graph)
    if not found:
        raise QuantizeError(f"{where} has no convolution that ends in a ReLU, so there is nothing to lower in it.")
    for name in keep_float:
        if name not in found:
            raise QuantizeError(f"{where} has no convolution {name!r} to keep in float; it has {', '.join(found)}.")
    outputs = {node.output[0] for name, node in found.items() if name not in keep_float}
    if not outputs:
        raise QuantizeError(f"Keeping every convolution of {where} in float leaves nothing to lower.")
    return [node for node in graph.node if node.op_type in ("Relu", "MaxPool") or node.output[0] in outputs]


def to_int8(model: onnx.ModelProto, output: Path, nodes: Sequence[onnx.NodeProto], pictures: Sequence[Path]) -> None:
    """Write `model` to `output` with `nodes` between QuantizeLinear and DequantizeLinear.

    Weights are int8, symmetric, one scale per output channel, within -64..64; activations uint8, each between the least
    and the largest value on `pictures`: what VNNI multiplies without conversion. Processors without VNNI add two
    products in 16 bits, which weights of all 8 bits overflow (road_seg_node/inference/processor.py says more); with
    these 7 bits every processor is exact. A ReLU becomes the clipping at zero.
    """
    quantize_static(
        model,
        output,
        Pictures(pictures),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted({node.op_type for node in nodes}),
        nodes_to_quantize=[node.name for node in nodes],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,  # EXACT_BITS, of the weights alone
    )


def to_fp16(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """The model with `nodes` in fp16, and a Cast wherever fp32 meets them."""
    inferred = onnx.shape_inference.infer_shapes(model)
    # The converter takes every tensor that has a value_info through fp16, also between two nodes left in fp32.
    touching = {name for node in nodes for name in (*node.input, *node.output)}
    wanted = [info for info in inferred.graph.value_info if info.name in touching]
    del inferred.graph.value_info[:]
    inferred.graph.value_info.extend(wanted)
    chosen = {node.name for node in nodes}
    return convert_float_to_float16(
        inferred,
        keep_io_types=True,
        disable_shape_infer=True,
        node_block_list=[node.name for node in inferred.graph.node if node.name not in chosen],
    )


def golden_answer(model: bytes) -> np.ndarray:
    """uint8 [GOLDEN_HEIGHT, GOLDEN_WIDTH]: what ONNX Runtime's CPU provider answers on the golden image."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run([model_file.OUTPUT_NAME], {model_file.INPUT_NAME: model_file.golden_image()[np.newaxis]})[0][0]


def compare(before: RoadSegmenter, after: RoadSegmenter, folder: Path) -> tuple[RoadCounts, RoadCounts, np.ndarray]:
    """Counts of both models over a folder in KITTI's layout, and how many pixels differ by 0..255: int64 [256]."""
    counts = RoadCounts(), RoadCounts()
    differences = np.zeros(256, np.int64)
    for frame in find_frames(folder):
        image, labels = frame.read(strict=False)
        answers = before.probability(image), after.probability(image)
        for count, answer in zip(counts, answers, strict=True):
            count.add(answer, labels)
        apart = np.abs(answers[0].astype(np.int16) - answers[1])
        differences += np.bincount(apart.ravel(), minlength=256)
    return *counts, differences


def quantize(
    model: Path,
    output: Path,
    validation: Sequence[Path],
    calibration: Sequence[Path] = (),
    precision: str = "int8",
    keep_float: Sequence[str] = (),
    largest_loss: float = LARGEST_LOSS,
) -> ModelInfo:
    """Write `output` from the float file `model`; nothing is left at `output` where accuracy suffers.

    The threshold stays the float file's: choosing it anew gained at most 0.0002 of road IoU on the shipped model.

    Args:
        model: a float file of export.py.
        output: the .onnx file to write; its own golden answer and figures are in it, all else is the float file's.
        validation: folders in KITTI's layout on which both files are measured.
        calibration: folders of pictures that set the ranges of activations; int8 only.
        precision: one of PRECISIONS.
        keep_float: convolutions that stay in fp32, such as "network.features.0".
        largest_loss: of road IoU, on each folder of `validation`.

    Raises:
        QuantizeError, DataError, ModelFileError, ProviderError: a sentence that says what is wrong.
    """
    before = RoadSegmenter(model, "cpu")
    if output.resolve() == model.resolve():
        raise QuantizeError(f"--output is the model {model} itself: give another name, such as {model.stem}.int8.onnx.")
    graph = onnx.load(model)
    restore(graph)
    nodes = lowered_nodes(graph.graph, keep_float, model)
    if precision == "int8" and not calibration:
        raise QuantizeError("int8 needs --calibration DIR: a folder of frames such as the robot will see.")
    pictures = {folder: calibration_pictures(folder) for folder in calibration}
    frames = {_short(folder): len(find_frames(folder)) for folder in validation}
    try:
        scratch = tempfile.TemporaryDirectory(prefix=f".{output.stem}.", dir=output.parent)
    except OSError as error:
        raise QuantizeError(f"{output} cannot be written: {error.strerror or error}.") from None

    with scratch as folder:
        candidate = Path(folder) / output.name
        if precision == "int8":
            to_int8(graph, candidate, nodes, [picture for group in pictures.values() for picture in group])
            lowered = onnx.load(candidate)
        else:
            lowered = to_fp16(graph, nodes)
        golden = golden_answer(lowered.SerializeToString())
        info = replace(
            before.info,
            architecture=f"{before.info.architecture} {precision}",
            versions=before.info.versions
            | {"python": platform.python_version(), "onnx": onnx.__version__}
            | {"onnxruntime": onnxruntime.__version__},
            golden=golden,
        )
        model_file.write(lowered, info, candidate)
        after = RoadSegmenter(candidate, "cpu")  # contract and golden answer

        threshold = info.threshold
        metrics: dict[str, Any] = {"precision": precision, "threshold": threshold, "kept_float": list(keep_float)}
        if precision == "int8":
            metrics["weight_bits"] = EXACT_BITS
        metrics["calibration_frames"] = {_short(path): len(group) for path, group in pictures.items()}
        metrics["float_file"] = before.info.metrics
        for key in ("road_iou", "float_road_iou", "best_threshold", "differences"):
            metrics[key] = {}
        for path in validation:
            name = _short(path)
            old, new, differences = compare(before, after, path)
            metrics["float_road_iou"][name] = round(old.iou(threshold), 4)
            metrics["road_iou"][name] = round(new.iou(threshold), 4)
            metrics["best_threshold"][name] = round(new.best_threshold(), 4)
            metrics["differences"][name] = _summary(differences)
            print(
                f"{name} ({frames[name]}): road IoU {old.iou(threshold):.4f} in fp32, {new.iou(threshold):.4f} in "
                f"{precision}, at {threshold:.3f}; best {new.iou(new.best_threshold()):.4f} at "
                f"{new.best_threshold():.3f}; of 255 apart: {_summary(differences)}",
                flush=True,
            )
            loss = old.iou(threshold) - new.iou(threshold)
            if loss > largest_loss:
                raise QuantizeError(
                    f"{precision} loses {loss:.4f} of road IoU on {path} ({largest_loss} is allowed), so {output} was "
                    "not written. Calibrate on more folders, or keep convolutions with --keep-float: the first are "
                    f"{', '.join(list(convolutions(graph.graph))[:3])}."
                )
        info = replace(info, metrics=metrics)
        model_file.write(lowered, info, output)
    sizes = f"{output.stat().st_size / 1e6:.1f} MB ({model.stat().st_size / 1e6:.1f} MB in fp32)"
    apart = int(np.abs(golden.astype(np.int16) - before.info.golden).max())
    print(f"{output}: {sizes}, {info.architecture}, golden answer at most {apart} of 255 from the float file's.")
    return info


def _short(folder: Path) -> str:
    return f"{folder.resolve().parent.name}/{folder.resolve().name}"


def _summary(differences: np.ndarray) -> dict[str, float]:
    """Mean, 99th percentile and largest, of a histogram int64 [256]."""
    share = differences.cumsum() / differences.sum()
    return {
        "mean": round(float(differences @ np.arange(256) / differences.sum()), 3),
        "p99": int(np.searchsorted(share, 0.99)),
        "largest": int(np.flatnonzero(differences)[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the float model file (.onnx)")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--precision", choices=PRECISIONS, default="int8", help="int8 for CPUs, fp16 for GPUs")
    parser.add_argument(
        "--calibration", nargs="+", type=Path, default=[], metavar="DIR", help="folders of frames; int8 needs them"
    )
    parser.add_argument(
        "--validation",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders in KITTI's layout (default: `validation` beside the calibration folder, if there is one)",
    )
    parser.add_argument(
        "--keep-float", nargs="+", default=[], metavar="LAYER", help="convolutions to leave (network.features.0)"
    )
    parser.add_argument(
        "--largest-loss", type=float, default=LARGEST_LOSS, metavar="IOU", help=f"of road IoU (default: {LARGEST_LOSS})"
    )
    options = parser.parse_args()
    if not options.validation:
        beside = {folder.resolve().parent / "validation" for folder in options.calibration}
        options.validation = sorted(folder for folder in beside if folder.is_dir())
        if not options.validation:
            print("What this costs in accuracy is not measured: for that give --validation DIR.", flush=True)
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises steps that the exporter has done
    try:
        with interruption.told("quantize.py", "nothing was written"):
            quantize(
                options.model,
                options.output,
                options.validation,
                options.calibration,
                options.precision,
                options.keep_float,
                options.largest_loss,
            )
    except (QuantizeError, DataError, ModelFileError, ProviderError) as error:
        sys.exit(f"quantize.py: {error}")


if __name__ == "__main__":
    main()
