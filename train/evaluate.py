# SPDX-License-Identifier: Apache-2.0
"""Road IoU of a model file, run by ONNX Runtime through its contract, as a robot runs it.

python train/evaluate.py --model models/road_seg_compact.onnx --data DIR [DIR ...] [--synthetic 50]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from road_seg_node.model_file import ModelFileError
from road_seg_node.providers import ProviderError
from road_seg_node.scene import Road
from road_seg_node.segmenter import RoadSegmenter
from train.augment import Pair
from train.data import DataError, find_frames, leave_out, only_drives
from train.metrics import RoadCounts

FIRST_SEED = 3_000_000  # of the synthetic scenes; the trainer's own are elsewhere
SCENE_SIZE = (1242, 375)


def count(segmenter: RoadSegmenter, pairs: Iterable[Pair]) -> RoadCounts:
    """Counts over image uint8 [H, W, 3] BGR and labels uint8 [H, W] of each pair."""
    counts = RoadCounts()
    for image, labels in pairs:
        counts.add(segmenter.probability(image), labels)
    return counts


def synthetic_pairs(number: int) -> Iterable[Pair]:
    """Road scenes of 1242x375, each of its own seed, none of which training saw."""
    for i in range(number):
        image, road = Road(FIRST_SEED + i).render(*SCENE_SIZE, time=i * 0.5)
        yield image, road.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model file (.onnx)")
    parser.add_argument("--data", nargs="+", type=Path, default=[], metavar="DIR", help="folders in KITTI's layout")
    parser.add_argument("--only", nargs="+", default=[], metavar="DRIVE", help="only these drives")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="DRIVE", help="all but these drives")
    parser.add_argument("--synthetic", type=int, default=0, metavar="N", help="and N synthetic scenes")
    options = parser.parse_args()
    if not options.data and not options.synthetic:
        parser.error("give --data DIR or --synthetic N")
    try:
        segmenter = RoadSegmenter(options.model, "cpu")
        sets: dict[str, Iterable[Pair]] = {}
        for folder in options.data:
            frames = find_frames(folder)
            frames = only_drives(frames, options.only) if options.only else frames
            frames = leave_out(frames, options.leave_out)
            sets[f"{folder.parent.name}/{folder.name} ({len(frames)})"] = (frame.read() for frame in frames)
        if options.synthetic:
            sets[f"synthetic ({options.synthetic})"] = synthetic_pairs(options.synthetic)
        threshold = segmenter.info.threshold
        print(f"{options.model}: {segmenter.info.architecture}, threshold {threshold:.3f}")
        print(f"{'data set (frames)':36} {'road IoU':>9} {'at 0.5':>7} {'best':>7} {'at':>6}")
        for name, pairs in sets.items():
            counts = count(segmenter, pairs)
            best = counts.best_threshold()
            figures = (counts.iou(threshold), counts.iou(), counts.iou(best), best)
            print(f"{name:36} {figures[0]:9.4f} {figures[1]:7.4f} {figures[2]:7.4f} {figures[3]:6.3f}", flush=True)
    except (DataError, ModelFileError, ProviderError) as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
