# SPDX-License-Identifier: Apache-2.0
"""What data sets hold, before hours of training go into them: road, sizes, drives, broken and duplicate frames.

    python train/data_report.py --data data/data_road/training --out report
    python train/data_report.py --data cityscapes:DIR mine.yaml:DIR --validation-share 0.1

It splits as train.py does. Exit code 1 where frames are broken, or those of a data set are all road, or all not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

import cv2
import numpy as np
from tqdm import tqdm

from train.frames import duplicates, picture_file
from train.frames.data_error import DataError
from train.frames.datasets import gather
from train.frames.frame import MOST_NAMED, Frame, Unlabelled
from train.frames.pictures import errors
from train.frames.sources import HELP, sources_of
from train.frames.threads import in_order
from train.labels import IGNORE

MOST_DRIVES = 12  # in the table
TILE, COLUMNS, ROWS = (320, 200), 4, 6  # of the sheet: width and height in pixels, and how many
SHEET, FIGURES = "sheet.jpg", "data.json"


@dataclass
class Look:
    """What one frame showed.

    Attributes:
        size: height and width in pixels.
        road, not_valid: pixels; None of a frame without ground truth.
        hash: see `duplicates`.
    """

    frame: Frame
    size: tuple[int, int]
    road: int | None
    not_valid: int | None
    hash: np.ndarray

    @property
    def not_road(self) -> int | None:
        """The valid pixels that are not road."""
        if self.road is None or self.not_valid is None:
            return None
        return self.size[0] * self.size[1] - self.road - self.not_valid


def look(frame: Frame) -> Look | str:
    """What a frame shows, or what is wrong with it."""
    try:
        image, labels = frame.read_reduced(lambda height, width: 8 if min(height, width) >= 512 else 1)
    except DataError as error:
        return str(error)
    counts: tuple[int | None, int | None] = (None, None)
    if not isinstance(frame, Unlabelled):
        counts = int((labels == 1).sum()), int((labels == IGNORE).sum())
    return Look(frame, labels.shape, *counts, duplicates.perceptual_hash(image))


def share(looks: Sequence[Look], what: str) -> str:
    """Of all pixels of frames with ground truth, in per cent."""
    labelled = [one for one in looks if one.road is not None]
    pixels = sum(one.size[0] * one.size[1] for one in labelled)
    if not pixels:
        return "-"
    counted = sum(getattr(one, what) for one in labelled)
    valid = pixels - sum(one.not_valid or 0 for one in labelled) if what == "road" else pixels
    return f"{100 * counted / max(1, valid):.1f} %"


def print_sets(sets: dict[tuple[str, str], list[Look]]) -> None:
    print(f"{'data set':24} {'used to':9} {'frames':>7} {'drives':>7} {'road':>7} {'not valid':>10}  sizes")
    for (name, use), looks in sets.items():
        drives = len({one.frame.drive for one in looks})
        sizes = Counter(f"{one.size[1]}x{one.size[0]}" for one in looks).most_common(3)
        listed = ", ".join(f"{size} ({number})" for size, number in sizes)
        more = ", ..." if len({one.size for one in looks}) > 3 else ""
        figures = (len(looks), drives, share(looks, "road"), share(looks, "not_valid"))
        print(f"{name:24} {use:9} {figures[0]:7} {figures[1]:7} {figures[2]:>7} {figures[3]:>10}  {listed}{more}")


def print_drives(sets: dict[tuple[str, str], list[Look]]) -> None:
    """The largest drives, with how many of their frames are held out, and their road."""
    drives: dict[tuple[str, str], list[Look]] = defaultdict(list)
    held: Counter[tuple[str, str]] = Counter()
    for (data_set, use), looks in sets.items():
        for one in looks:
            drives[data_set, one.frame.drive].append(one)
            held[data_set, one.frame.drive] += use == "validate"
    print(f"\n{'data set':24} {'drive':32} {'frames':>7} {'held out':>9} {'road':>7}")
    for key, members in sorted(drives.items(), key=lambda item: -len(item[1]))[:MOST_DRIVES]:
        print(f"{key[0]:24} {key[1]:32} {len(members):7} {held[key]:9} {share(members, 'road'):>7}")
    if len(drives) > MOST_DRIVES:
        print(f"and {len(drives) - MOST_DRIVES} more drives")
    both = sum(0 < number < len(drives[key]) for key, number in held.items())
    if both:
        print(f"{both} drives are on both sides of the split; neighbours look alike, so that validation flatters.")


def print_one_sided(sets: dict[tuple[str, str], list[Look]]) -> int:
    """Say which data sets have no road, or nothing else; returns how many."""
    number = 0
    for (name, use), looks in sets.items():
        frame = looks[0].frame if looks else None
        if frame and not any(one.road for one in looks):
            print(f"No frame of {name} to {use} has a pixel of road, such as {frame.ground_truth}.")
            print(f"  There, road is {frame.road_classes}.")
        elif frame and all(one.not_road == 0 for one in looks):
            print(f"No frame of {name} to {use} has a valid pixel that is not road, such as {frame.ground_truth}.")
        else:
            continue
        number += 1
    return number


def alike(training: Sequence[Look], held: Sequence[Look]) -> list[tuple[int, Look, Look]]:
    """(bits that differ, held-out frame, the frame to train on that is nearest), where the two are near."""
    if not training or not held:
        return []
    pairs = duplicates.near(*(np.stack([one.hash for one in looks]) for looks in (held, training)))
    return sorted(((bits, held[i], training[j]) for i, j, bits in pairs), key=lambda pair: pair[0])


def sheet(looks: Sequence[Look]) -> np.ndarray:
    """Frames spread evenly over all, their road tinted and what is not valid darkened: uint8 [H, W, 3] BGR."""
    width, height = TILE
    page = np.full((ROWS * height, COLUMNS * width, 3), 255, np.uint8)
    spread = np.linspace(0, len(looks), COLUMNS * ROWS, endpoint=False).astype(int)
    for i, chosen in enumerate(np.unique(spread)):
        frame = looks[chosen].frame
        image, labels = frame.read()
        picture = errors(image, np.where(labels == 1, np.uint8(255), np.uint8(0)), labels, 0.5)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:height, :width]
        top, left = i // COLUMNS * height, i % COLUMNS * width
        page[top : top + small.shape[0], left : left + small.shape[1]] = small
        where = left + 4, top + 14
        name = frame.image.stem[:44].encode("ascii", "replace").decode()  # OpenCV crashes on what is not UTF-8
        cv2.putText(page, name, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return page


def print_alike(training: Sequence[Look], held: Sequence[Look], everything: Sequence[Look]) -> dict[str, Any]:
    """Say which frames are nearly the same on both sides of the split, and which are the same anywhere."""
    pairs = alike(training, held)
    groups = duplicates.same(np.stack([one.hash for one in everything])) if everything else []
    spare = sum(len(group) - 1 for group in groups)
    print(f"\n{len(pairs)} of {len(held)} held-out frames have a near-duplicate among those to train on.")
    for bits, one, other in pairs[:MOST_NAMED]:
        print(f"  {one.frame.image} is like {other.frame.image} ({bits} of {one.hash.size} bits differ)")
    print(f"{spare} frames are copies of others.")
    for group in groups[:MOST_NAMED]:
        print(f"  {', '.join(str(everything[i].frame.image) for i in group)}")
    return {
        "near_duplicates": [[bits, str(one.frame.image), str(other.frame.image)] for bits, one, other in pairs],
        "copies": [[str(everything[i].frame.image) for i in group] for group in groups],
    }


def report(options: argparse.Namespace) -> int:
    """Print the report; returns the number of broken frames and of data sets that are all road, or all not.

    Raises:
        DataError: there is no such data set, or the report cannot be written.
    """
    frames: dict[tuple[str, str], list[Frame]] = {}
    for source in sources_of(options.data):
        found = gather([source.word], [], options.validation_share, 0.0, {})
        ((name, held),) = found.held.items()
        for use, members in (("train", found.training), ("validate", held)):
            frames.setdefault((name, use), []).extend(members)
    flat = [frame for members in frames.values() for frame in members]
    broken, looks = [], {}
    with closing(in_order(look, flat, len(os.sched_getaffinity(0)))) as found_looks:
        for frame, one in zip(flat, tqdm(found_looks, "Looking", len(flat), disable=None, leave=False), strict=True):
            if isinstance(one, str):
                broken.append(one)
            else:
                looks[frame] = one
    sets = {key: [looks[frame] for frame in members if frame in looks] for key, members in frames.items()}
    print_sets(sets)
    everything = list(looks.values())
    print_drives(sets)
    of_use = {use: [one for (_, to), members in sets.items() if to == use for one in members] for _, use in sets}
    figures = print_alike(of_use["train"], of_use["validate"], everything)
    print(f"\n{len(broken)} frames are broken." if broken else "\nNo frame is broken.")
    for sentence in broken[:MOST_NAMED]:
        print(f"  {sentence}")
    one_sided = print_one_sided(sets)
    if options.out and everything:
        figures["broken"] = broken
        figures["frames"] = [
            {"image": str(one.frame.image), "data_set": name, "use": use, "drive": one.frame.drive, "size": one.size}
            | {"road": one.road, "not_valid": one.not_valid}
            for (name, use), members in sets.items()
            for one in members
        ]
        picture_file.write_whole(options.out / FIGURES, (json.dumps(figures, indent=1) + "\n").encode())
        picture_file.write_whole(options.out / SHEET, cv2.imencode(".jpg", sheet(everything))[1].tobytes())
        print(f"Wrote {options.out / SHEET} and {options.out / FIGURES}.")
    return len(broken) + one_sided


def main() -> None:
    sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be UTF-8
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help=HELP)
    parser.add_argument("--validation-share", type=float, default=0.1, metavar="SHARE", help="as in the preset (0.1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {SHEET}, a picture, and {FIGURES} to DIR")
    options = parser.parse_args()
    if not 0 < options.validation_share < 1:
        parser.error("--validation-share must be between 0 and 1")
    try:
        with interruption.told("data_report.py", "nothing was written"):
            broken = report(options)
    except DataError as error:
        print(f"data_report.py: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
