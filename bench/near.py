# SPDX-License-Identifier: Apache-2.0
"""Road IoU on the road just ahead, as a low and steep camera sees it: larger texture, no horizon, no sky.

    python bench/near.py --data DIR [DIR ...] [--model FILE.onnx ...]

Such a view is the middle of a frame's lower edge, cut out with a shape of 4:3 and enlarged to 640x480. It is blurred
where a real camera's is sharp, so it says whether a model has holes there and not how good it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.inference.segmenter import RoadSegmenter
from road_seg_node.shipped import shipped_file
from train.frames.data_error import DataError
from train.frames.sources import HELP, sources_of
from train.score.metrics import RoadCounts

SIZE = (640, 480)  # width, height
NEARNESS = (1, 2, 3)  # how many times the texture is as large as in the whole frame; 1 is the whole frame


def near(picture: np.ndarray, nearness: int, interpolation: int) -> np.ndarray:
    """The view of uint8 [H, W] or [H, W, 3] that is `nearness` times nearer than the largest one of 4:3."""
    if nearness == 1:
        return picture
    height, width = picture.shape[:2]
    if width > 2 * height:  # the network sees a strip smaller than a picture of 4:3 of the same height
        high = min(height, round(1.6 * height / nearness))
    else:
        high = round(0.75 * width / nearness)
    wide = round(high * SIZE[0] / SIZE[1])
    left = (width - wide) // 2
    return cv2.resize(picture[height - high :, left : left + wide], SIZE, interpolation=interpolation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help=HELP)
    parser.add_argument("--model", nargs="+", type=Path, help="model files (default: the shipped ones)")
    parser.add_argument("--most", type=int, default=30, metavar="N", help="frames of each data set (default: 30)")
    options = parser.parse_args()
    if options.most < 1:
        parser.error("--most must be at least 1")
    files = options.model or sorted(shipped_file("models").glob("*.onnx"))
    try:
        models = [RoadSegmenter(file) for file in files]
        print("| frames | nearness |" + "".join(f" {file.stem} | best, at |" for file in files))
        print("|---|---|" + "---|---|" * len(models))
        for source in sources_of(options.data):
            training, validation = source.find()
            frames = validation or training
            number = min(options.most, len(frames))
            frames = [frames[i * len(frames) // number] for i in range(number)]
            for nearness in NEARNESS:
                counts = [RoadCounts() for _ in models]
                for frame in frames:
                    image, labels = frame.read(strict=False)
                    image = np.ascontiguousarray(near(image, nearness, cv2.INTER_CUBIC))
                    for count, model in zip(counts, models, strict=True):
                        count.add(model.probability(image), near(labels, nearness, cv2.INTER_NEAREST))
                row = f"| {source.name} ({len(frames)}) | {nearness} |"
                for count, model in zip(counts, models, strict=True):
                    best = count.best_threshold()
                    row += f" {count.iou(model.info.threshold):.3f} | {count.iou(best):.3f}, {best:.2f} |"
                print(row, flush=True)
    except (DataError, ModelFileError, ProviderError) as error:
        sys.exit(f"near.py: {error}")


if __name__ == "__main__":
    main()
