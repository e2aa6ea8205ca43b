# SPDX-License-Identifier: Apache-2.0
"""Take the frames of a drive that a model is least sure of, with proposals of their road for a person to correct.

    python train/harvest.py drive.mcap --model models/road_seg_compact.onnx --out harvest --count 200
    python train/harvest.py monday.mcap tuesday.mp4 pictures/ --model road_seg.onnx --out harvest

DIR is then a data set in KITTI's layout: correct it in place, and train on it with train.py --data DIR.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

if importlib.util.find_spec("rclpy") is None:
    sys.exit("harvest.py: ROS 2's Python packages, with which bags are read, are not here. Run `make setup`, then "
             "`source .venv/bin/activate`.")  # fmt: skip

import numpy as np
from tqdm import tqdm

from road_seg_node.inference import RoadSegmenter
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from train.frames.data_error import DataError
from train.picking.choice import choose
from train.picking.drive import Drive, open_drives
from train.picking.folder import SHEET, Harvest, check_free, harvest
from train.picking.look import REASONS, Look, Looker, doubts


def look_at(drives: list[Drive], looker: Looker) -> list[Look]:
    """Raises DataError where no drive has a frame that can be read."""
    looks = []
    for drive in drives:
        looks += list(tqdm(looker.looks(drive), f"Looking at {drive.path}", unit=" frames", disable=None, leave=False))
    if not looks:
        raise DataError(f"No frame of {', '.join(str(drive.path) for drive in drives)} can be read.")
    return looks


def pick(looks: list[Look], count: int) -> list[tuple[Look, dict[str, Any]]]:
    """The looks of up to `count` frames, the most doubtful first, with what is recorded of each."""
    doubt, reasons = doubts(looks)
    coarse, hashes = (np.stack([getattr(look, name) for look in looks]) for name in ("coarse", "hash"))
    picked = []
    for i in choose(doubt, coarse, hashes, count):
        look = looks[i]
        measures = {name: round(value, 4) for name, value in look.measures.items() if not math.isnan(value)}
        record = {"source": str(look.file), "frame": look.index, "time": look.time, "doubt": round(float(doubt[i]), 4)}
        picked.append((look, record | {"reason": REASONS[reasons[i]], "measures": measures}))
    return picked


def write(into: Harvest, picked: Iterable[tuple[Look, dict[str, Any]]], model: RoadSegmenter) -> None:
    """Read the frames again, and put each into the harvest with what the model proposes."""
    wanted: dict[str, dict[int, tuple[int, Look, dict[str, Any]]]] = defaultdict(dict)
    for place, (look, record) in enumerate(picked):
        wanted[look.drive.name][look.index] = place, look, record
    drives = {look.drive.name: look.drive for look, _ in picked}
    for name, frames in wanted.items():
        for frame in drives[name].frames():
            if frame.index in frames:
                place, look, record = frames.pop(frame.index)
                picture = frame.decoded()
                caption = f"{name} {frame.index}  {record['doubt']:.2f}  {record['reason']}"
                stem, answer = (name, f"{frame.index:06}"), model.probability(picture)
                record["image"] = into.add(stem, place, caption, picture, answer, model.info.threshold)
            if not frames:
                break
        if frames:
            raise DataError(f"{drives[name].path} has changed while it was read: frame {min(frames)} is gone.")


def carry_out(options: argparse.Namespace) -> None:
    """Raises DataError, ModelFileError, ProviderError."""
    check_free(options.out)
    drives = open_drives(options.drives, options.topic, say)
    model = RoadSegmenter(options.model, tell=say)
    other = RoadSegmenter(options.other_model, tell=say) if options.other_model else None
    looks = look_at(drives, Looker(model, other, options.every, say))
    picked = pick(looks, options.count)
    with harvest(options.out) as into:
        write(into, picked, model)
        records = [record for _, record in picked]
        into.close({"model": str(options.model), "model_sha256": model.model_sha256, "frames": records})
    print(f"Took {len(picked)} of {len(looks)} frames looked at; {options.out / SHEET} shows the most doubtful first.")
    if len(picked) < options.count:
        print("The others are near-duplicates of these." if len(looks) > len(picked) else "There are no more.")
    print(f"Correct them in {options.out}, then: python train/train.py --data {options.out} --init {options.model}")


def say(sentence: str) -> None:
    print(f"harvest.py: {sentence}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="a bag, a video, or a folder of pictures")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the model file that is to learn")
    parser.add_argument("--other-model", type=Path, metavar="FILE",
                        help="a second one: where the two disagree is doubt, too")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="frames to take (200)")
    parser.add_argument("--topic", default="", help="the camera's topic, where a bag has several")
    parser.add_argument("--every", type=float, default=0.5, metavar="SECONDS", help="look at a frame of a bag or video "
                        "that often (0.5); each picture of a folder is looked at")  # fmt: skip
    options = parser.parse_args()
    if options.count < 1:
        parser.error("--count must be at least 1")
    if not 0 <= options.every < math.inf:
        parser.error("--every must be at least 0")
    try:
        with interruption.told("harvest.py", "nothing was written"):
            carry_out(options)
    except (DataError, ModelFileError, ProviderError) as error:
        say(f"{error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
