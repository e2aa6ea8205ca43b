# SPDX-License-Identifier: Apache-2.0
"""KITTI Road's metric and road IoU of a model or of predictions, and the files of a submission to KITTI's server.

    python train/evaluate.py --model models/road_seg_compact.onnx --data DIR [DIR ...] [--synthetic 50]
    python train/evaluate.py --predictions DIR --data data/data_road/training --view both --out report
    python train/evaluate.py --model road_seg.onnx --data data/data_road/testing --submission submission
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from train.frames.data_error import DataError
from train.frames.drives import leave_out, only_drives
from train.frames.frame import Frame
from train.frames.kitti import find_frames, find_images
from train.frames.scenes import scene
from train.frames.sources import HELP, sources_of
from train.score import birdseye, submission
from train.score.answers import Answers, answers_of
from train.score.evaluation import evaluate, lanes_of
from train.score.tally import BIRDSEYE, PERSPECTIVE

FIRST_SEED = 3_000_000  # of the synthetic scenes; the trainer's own are elsewhere
SCENE_SIZE = (1242, 375)
VIEWS = {PERSPECTIVE: [PERSPECTIVE], BIRDSEYE: [BIRDSEYE], "both": [PERSPECTIVE, BIRDSEYE]}


def scenes(number: int) -> list[Frame]:
    """Scenes of 1242x375, in the category "synthetic"."""
    return [scene(i, FIRST_SEED + i, *SCENE_SIZE, time=i * 0.5) for i in range(number)]


def find(options: argparse.Namespace) -> dict[str, list[Frame]]:
    """The frames by the name of their data set."""
    found: dict[tuple[str, Path], list[Frame]] = {}
    for source in sources_of(options.data):
        place = Path(os.path.realpath(source.place))
        if source.description is None:
            finder = find_images if options.submission else find_frames
            found[f"{place.parent.name}/{place.name}", place] = finder(place)
        else:
            training, validation = source.find()
            found |= {(f"{source.name}, training", place): training, (f"{source.name}, validation", place): validation}
    everything = [frame for frames in found.values() for frame in frames]
    kept = set(only_drives(everything, options.only) if options.only else everything)
    if options.leave_out:
        kept &= set(leave_out(everything, options.leave_out))
    names = [name for name, _ in found]
    sets = {}
    for (name, place), frames in found.items():
        frames = [frame for frame in frames if frame in kept]
        if frames:
            sets[f"{name if names.count(name) == 1 else place} ({len(frames)})"] = frames
    if found and not sets:
        raise DataError(f"With --only and --leave-out no frame is left of {', '.join(options.data)}.")
    if options.synthetic:
        sets[f"synthetic ({options.synthetic})"] = scenes(options.synthetic)
    return sets


def submit(answers: Answers, sets: dict[str, list[Frame]], views: Sequence[str], folder: Path) -> None:
    """Write the files of a submission, in the views asked for."""
    frames = [frame for members in sets.values() for frame in members]
    answers.check(frames)
    lanes = lanes_of(answers, frames, submit=True)
    homographies = birdseye.homographies(frames) if BIRDSEYE in views else {}
    written = submission.write(answers, frames, lanes, homographies, folder)
    print(f"Wrote {len(written)} files of {len(frames)} frames into {folder}.")
    if written[-1].suffix == ".zip":
        print(f"Upload {written[-1]} at https://www.cvlibs.net/datasets/kitti/eval_road.php.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="FILE", help="a model file (.onnx) or a checkpoint (.pt)")
    source.add_argument("--predictions", type=Path, metavar="DIR", help="8-bit PNGs such as um_road_000000.png")
    parser.add_argument("--data", nargs="+", default=[], metavar="DATA", help=HELP)
    parser.add_argument("--only", nargs="+", default=[], metavar="DRIVE", help="only these drives")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="DRIVE", help="all drives except these")
    parser.add_argument("--synthetic", type=int, default=0, metavar="N", help="add N synthetic scenes")
    parser.add_argument("--view", choices=VIEWS, help="default: perspective; both with --submission")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="threads; results do not change (default: 1)")
    result = parser.add_mutually_exclusive_group()
    result.add_argument("--out", type=Path, metavar="DIR", help="write metrics.json and report.png to DIR")
    result.add_argument("--submission", type=Path, metavar="DIR", help="write the files for KITTI's server to DIR, and "
                        "evaluate nothing")
    options = parser.parse_args()
    if not options.data and not options.synthetic:
        parser.error("give --data DIR or --synthetic N")
    options.view = VIEWS[options.view or ("both" if options.submission else PERSPECTIVE)]
    if options.synthetic and (options.predictions or options.submission or BIRDSEYE in options.view):
        parser.error("--synthetic needs --model and the perspective view, and goes into no submission")
    if options.synthetic < 0:
        parser.error("--synthetic must be at least 0")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    if options.submission and len(options.data) > 1:
        parser.error("a submission is of one folder, such as data/data_road/testing")
    return options


def main() -> None:
    sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be UTF-8
    options = arguments()
    with interruption.told("evaluate.py", "nothing is kept of what was counted"):
        carry_out(options)


def carry_out(options: argparse.Namespace) -> None:
    """What the options ask for; a user's mistake ends the program with its sentence and exit code 2."""
    try:
        sets = find(options)
        answers = answers_of(options.model, options.predictions)
        if options.submission:
            submit(answers, sets, options.view, options.submission)
        else:
            evaluate(answers, sets, options.view, options.out, options.jobs)
    except (DataError, ModelFileError, ProviderError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
