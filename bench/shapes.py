# SPDX-License-Identifier: Apache-2.0
"""How the shape of a camera's picture affects a model's time; docs/benchmarks.md explains it.

    .venv/bin/python bench/shapes.py [--model FILE.onnx ...] [--provider openvino]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.inference.segmenter import RoadSegmenter
from road_seg_node.shipped import shipped_file
from road_seg_node.synthetic_road.scene import Road

SIZES = ((1242, 375), (1280, 720), (1920, 1080), (640, 480), (640, 640))  # width, height


def milliseconds(segmenter: RoadSegmenter, image: np.ndarray, frames: int) -> list[float]:
    """Of `frames` answers, after two that do not count."""
    times = []
    for _ in range(frames + 2):
        start = time.perf_counter()
        segmenter.probability(image)
        times.append(1e3 * (time.perf_counter() - start))
    return times[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", type=Path, help="model files (default: the shipped ones)")
    parser.add_argument("--provider", default="auto", help="auto, tensorrt, cuda, openvino or cpu (default: auto)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each shape (default: 5)")
    parser.add_argument("--frames", type=int, default=20, help="frames in each turn (default: 20)")
    options = parser.parse_args()
    models = options.model or sorted(shipped_file("models").glob("*.onnx"))
    images = {f"{width}x{height}": Road(7).render(width, height)[0] for width, height in SIZES}
    times: dict[tuple[Path, str], list[float]] = {}
    try:
        # An engine for each shape, as a node with such a camera has it.
        engines = {(model, name): RoadSegmenter(model, options.provider) for model in models for name in images}
        for (_, name), segmenter in engines.items():
            segmenter.prepare(*images[name].shape[:2])
        for _ in range(options.rounds):
            for (model, name), segmenter in engines.items():
                times.setdefault((model, name), []).extend(milliseconds(segmenter, images[name], options.frames))
    except (ModelFileError, ProviderError) as error:
        sys.exit(f"shapes.py: {error}")
    print("| model | provider |" + "".join(f" {name} |" for name in images) + " slowest to fastest |")
    print("|---|---|" + "---|" * (len(images) + 1))
    for model in models:
        medians = [float(np.median(times[model, name])) for name in images]
        segmenter = engines[model, next(iter(images))]
        row = "".join(f" {median:.1f} ms |" for median in medians)
        print(f"| {model.stem} | {segmenter.provider} {segmenter.precision} |{row} {max(medians) / min(medians):.2f} |")


if __name__ == "__main__":
    main()
