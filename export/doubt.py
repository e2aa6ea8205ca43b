# SPDX-License-Identifier: Apache-2.0
"""Write into a model file above which doubt the node warns that a scene is unlike what the model was trained on.

    python export/doubt.py --model road_seg.onnx --data DATA [DATA ...]
    python export/doubt.py --model road_seg.onnx --threshold 0.2

From frames: what 19 of 20 stay below. They should be such as the model was trained on, but held out of its training.
Nothing else in the file changes, neither its weights nor its answers.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded

try:
    import onnx
except ImportError:
    sys.exit("doubt.py: onnx is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import numpy as np

from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.inference.doubt import doubt
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from train.frames import picture_file, sources
from train.frames.data_error import DataError
from train.frames.frame import Frame

FAMILIAR = 0.95  # the share of familiar frames below the threshold; the node warns of half of the last five seconds'
FEWEST = 40  # frames: with fewer the threshold would hang on one or two of them


class DoubtError(ValueError):
    """Frames or a number that give no threshold; the message says why."""


def held_out(data: Sequence[str]) -> list[Frame]:
    """The frames of data sets as `train.py --data` takes them; where they say what is for validation, those alone.

    Raises:
        DataError: a data set is missing or broken.
    """
    found = [source.find(unlabelled=True) for source in sources.sources_of(list(data))]
    return [frame for frames, validation in found for frame in validation or frames]


def threshold_from(segmenter: RoadSegmenter, frames: Sequence[Frame]) -> float:
    """What FAMILIAR of the frames stay below, rounded up to three digits.

    Raises:
        DoubtError: there are fewer than FEWEST, or the model finds no road in them.
        DataError: a picture cannot be read.
    """
    if len(frames) < FEWEST:
        raise DoubtError(f"--data has {len(frames)} frames, but {FEWEST} are needed at least: name more sets.")
    doubts = [doubt(segmenter.probability(picture_file.read(frame.image))) for frame in frames]
    threshold = math.ceil(1000 * np.quantile(doubts, FAMILIAR)) / 1000
    print(
        f"Doubt of {len(frames)} frames: {np.median(doubts):.3f} in the median, {FAMILIAR:.0%} below {threshold:.3f}."
    )
    if threshold >= 1:
        raise DoubtError("The model finds no road at all in some of these frames: leave those without road out.")
    return threshold


def write_threshold(path: Path, threshold: float) -> None:
    """Exchange the doubt threshold of a model file. Raises ModelFileError; the file is then untouched."""
    if not 0 <= threshold <= 1:
        raise DoubtError(f"--threshold is {threshold:g}, but it must be from 0 to 1.")
    info = model_file.read(path).info
    model_file.write(onnx.load(path), replace(info, doubt_threshold=threshold), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the model file (.onnx), which is replaced")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", nargs="+", metavar="DATA", help=f"familiar frames: {sources.HELP}; needs no ground "
                        "truth")  # fmt: skip
    source.add_argument("--threshold", type=float, help="0 to 1, instead of frames")
    options = parser.parse_args()
    try:
        with interruption.told("doubt.py", "nothing was written"):
            threshold = options.threshold
            if threshold is None:
                threshold = threshold_from(RoadSegmenter(options.model, "cpu"), held_out(options.data))
            write_threshold(options.model, threshold)
    except (DoubtError, DataError, ModelFileError, ProviderError) as error:
        sys.exit(f"doubt.py: {error}")
    print(f"{options.model}: the node warns of a doubt above {threshold:g}.")


if __name__ == "__main__":
    main()
