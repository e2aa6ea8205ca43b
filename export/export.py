# SPDX-License-Identifier: Apache-2.0
"""Export a checkpoint of the trainer as a model file of contract 1, and verify it against PyTorch.

    python export/export.py --checkpoint runs/NAME/best.pt --output road_seg.onnx
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import platform
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

try:
    import onnxscript
    import torch
except ImportError as missing:
    sys.exit(f"export.py: {missing.name} is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import cv2
import numpy as np
import onnx

from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.inference.model_file import ModelFileError, ModelInfo
from road_seg_node.inference.providers import ProviderError
from road_seg_node.listing import PICTURES, listed
from road_seg_node.synthetic_road.scene import Road
from train.frames import picture_file
from train.frames.data_error import DataError
from train.network.checkpoint import CheckpointError, load_checkpoint, network_of
from train.network.contract import RoadProbability
from train.network.half_weights import halve, round_weights

# Sizes (height, width) on which the file must answer as PyTorch does; odd ones and both ends of what cameras send.
PARITY_SIZES = ((64, 64), (227, 321), (375, 1242), (479, 639), (1080, 1920))
LARGEST_DIFFERENCE = 1  # of 255
OPSET = 18
UNSTATED_LICENCE = "not stated: it follows from the licences of the data that the weights were trained on"


class ExportError(ValueError):
    """What cannot be exported; the message says why."""


def to_onnx(module: RoadProbability) -> onnx.ModelProto:
    """The bytes-to-bytes module as an ONNX model with free batch, height and width."""
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    example = torch.zeros((2, 202, 322, 3), dtype=torch.uint8)
    # The exporter reports progress and deprecations of its own; what matters is proved below.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[model_file.INPUT_NAME],
            output_names=[model_file.OUTPUT_NAME],
            dynamic_shapes=(sizes,),
            verbose=False,
        )
    return program.model_proto


def parity_images(images: Path | None) -> list[np.ndarray]:
    """uint8 BGR images of every parity size: noise, a synthetic road and, where given, real frames.

    Raises:
        ExportError: `images` is no folder, holds no picture, or one that cannot be read.
    """
    files = []
    if images is not None:
        try:
            files = listed(images, PICTURES)
        except OSError as error:
            raise ExportError(f"--images {images} cannot be read: {error.strerror or error}.") from None
        if not files:
            raise ExportError(f"There is no PNG or JPEG picture in {images}; name a folder of frames, such as image_2.")
    rng = np.random.default_rng(0)
    pictures = []
    for i, (height, width) in enumerate(PARITY_SIZES):
        pictures.append(rng.integers(0, 256, (height, width, 3), np.uint8))
        pictures.append(Road(i).render(width, height)[0])
        if files:
            try:
                real = picture_file.read(files[i * len(files) // len(PARITY_SIZES)])
            except DataError as error:
                raise ExportError(str(error)) from None
            pictures.append(cv2.resize(real, (width, height)))
    return pictures


def largest_difference(module: RoadProbability, segmenter: RoadSegmenter, pictures: list[np.ndarray]) -> int:
    """Between PyTorch's bytes and the file's, over all pixels of all pictures."""
    worst = 0
    for picture in pictures:
        with torch.inference_mode():
            expected = module(torch.from_numpy(picture)[None])[0].numpy()
        worst = max(worst, int(np.abs(expected.astype(int) - segmenter.probability(picture)).max()))
    return worst


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    resize: dict[str, Any] | None = None,
    images: Path | None = None,
    licence: str = UNSTATED_LICENCE,
    threshold: float | None = None,
    half_weights: bool = False,
) -> ModelInfo:
    """Write `output` from `checkpoint`; nothing is left at `output` where the proof fails.

    Args:
        checkpoint: `best.pt` or `last.pt` of a run.
        output: the .onnx file; its stem is the model's name.
        resize: another policy or size than the preset's.
        images: folder of real frames for the parity check, beside noise and synthetic roads.
        licence: of the weights, for the metadata.
        threshold: from which probability a pixel is road, 0 to 1, instead of the best on the run's own validation.
        half_weights: keep the weights in half precision, for a file of half the size; the arithmetic stays in float32.

    Raises:
        CheckpointError: the checkpoint is no good.
        ExportError: `threshold` or the name of `output` is no good, or ONNX Runtime answers otherwise than PyTorch.
        OSError: `output` cannot be written.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ExportError(f"--threshold is {threshold:g}, but it must be from 0 to 1.")
    state = load_checkpoint(checkpoint)
    module = RoadProbability(network_of(state), resize or state["preset"]["resize"]).eval()
    if half_weights:
        round_weights(module.network)
    pictures = parity_images(images)  # before what takes long
    with torch.inference_mode():
        golden = module(torch.from_numpy(model_file.golden_image())[None])[0].numpy()
    info = ModelInfo(
        name=output.stem,
        architecture=module.network.architecture,
        resize=module.resize,
        threshold=state["metrics"]["threshold"] if threshold is None else threshold,
        metrics=state["metrics"],
        dataset=", ".join(state["datasets"]),
        licence=licence,
        checkpoint_sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxscript": onnxscript.__version__,
        },
        golden=golden,
    )
    if output.suffix != ".onnx" or output.is_dir():
        raise ExportError(f"{output} cannot be the model file: give the name of a file that ends in .onnx.")
    if not output.parent.is_dir():
        raise ExportError(f"There is no folder {output.parent} to write {output.name} into: make it, or name another.")
    candidate = output.with_name(f".{output.stem}.candidate.onnx")
    try:
        model = to_onnx(module)
        if half_weights:
            halve(model)
        model_file.write(model, info, candidate)
        worst = largest_difference(module, RoadSegmenter(candidate, "cpu"), pictures)
        if worst > LARGEST_DIFFERENCE:
            raise ExportError(
                f"ONNX Runtime answers up to {worst} of 255 otherwise than PyTorch (at most {LARGEST_DIFFERENCE} is "
                f"right), so {output} was not written. Try the pinned versions of torch, onnx and onnxruntime."
            )
        candidate.replace(output)
    except (ModelFileError, ProviderError) as error:
        raise ExportError(str(error)) from None
    finally:
        with suppress(OSError):
            candidate.unlink(missing_ok=True)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {info.architecture}, {worst} of 255 from PyTorch.")
    return info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt or last.pt of a run")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--resize", choices=("stretch", "keep_aspect", "keep_area"), help="overrides the preset")
    parser.add_argument("--size", metavar="WxH", help="network size with --resize: 576x160, or 576 for keep_aspect; "
                        "keep_area keeps the number of pixels")  # fmt: skip
    parser.add_argument("--images", type=Path, help="folder of real frames for the parity check")
    parser.add_argument("--threshold", type=float, help="0 to 1, instead of the best on the run's validation: what is "
                        "best on data sets that training left out holds better on new streets")  # fmt: skip
    parser.add_argument("--half-weights", action="store_true", help="keep the weights in half precision: half the size")
    parser.add_argument("--licence", default=UNSTATED_LICENCE, help="of the weights, for the metadata")
    options = parser.parse_args()
    try:
        resize = resize_from(options.resize, options.size)
        with interruption.told("export.py", "nothing was written"):
            export_checkpoint(
                options.checkpoint,
                options.output,
                resize,
                options.images,
                options.licence,
                options.threshold,
                options.half_weights,
            )
    except (CheckpointError, ExportError) as error:
        sys.exit(f"export.py: {error}")
    except OSError as error:
        sys.exit(f"export.py: {options.output} cannot be written: {error.strerror or error}.")


def resize_from(policy: str | None, size: str | None) -> dict[str, Any] | None:
    """The resize entry for --resize and --size, or None where neither is given.

    Raises:
        ExportError: one without the other, or a size that is not multiples of 32.
    """
    if policy is None and size is None:
        return None
    numbers = (size or "").split("x")
    wanted = 1 if policy == "keep_aspect" else 2
    right = len(numbers) == wanted and all(n.isdigit() and int(n) > 0 and int(n) % 32 == 0 for n in numbers)
    if policy is None or not right:
        raise ExportError(
            f"--resize {policy} with --size {size} is not right: stretch and keep_area take a size such as 576x160, "
            "keep_aspect a width such as 576, all multiples of 32."
        )
    if policy == "keep_area":
        return {"policy": policy, "pixels": int(numbers[0]) * int(numbers[1])}
    return {"policy": policy} | dict(zip(("width", "height"), map(int, numbers), strict=False))


if __name__ == "__main__":
    main()
