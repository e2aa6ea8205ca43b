# SPDX-License-Identifier: Apache-2.0
"""How fast the trainer reads data sets of several sizes, and in how much memory; docs/benchmarks.md explains it.

    .venv/bin/python bench/loader.py --frames 300 3000 30000 --cache 1 --json loader.json

The frames are synthetic roads of 1280x720, JPEG images and PNG ground truth. Each data set is read by a process of its
own, which makes the batches of two epochs and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from road_seg_node.synthetic_road.scene import Road
from train import preset as presets
from train.frames.check import check
from train.frames.kitti import GROUND_TRUTH_COLOURS, find_frames
from train.frames.memory import Room
from train.preset import PresetError
from train.run.session import batches_of

WIDTH, HEIGHT = 1280, 720
SCENES = 100  # that differ; a larger data set has copies of their files
DRIVE = 100  # frames
PACE = 200  # images a second that a GPU may want
COLUMNS = {
    "frames": "{:d}",
    "find_s": "{:.1f}",
    "check_s": "{:.1f}",
    "again_s": "{:.1f}",
    "first_images_per_s": "{:.0f}",
    "next_images_per_s": "{:.0f}",
    "first_cpu_ms": "{:.1f}",
    "next_cpu_ms": "{:.1f}",
    "first_cores": "{:.1f}",
    "next_cores": "{:.1f}",
    "index_mb": "{:.0f}",
    "peak_mb": "{:.0f}",
}


def write_frames(folder: Path, number: int) -> None:
    """A data set in KITTI's layout, in drives of 100 frames."""
    for kind in ("image_2", "gt_image_2"):
        (folder / kind).mkdir(parents=True)
    for i in range(number):
        drive = f"d{i // DRIVE:04}"
        names = (f"image_2/{drive}_{i:06}.jpg", f"gt_image_2/{drive}_road_{i:06}.png")
        if i >= SCENES:
            first = i % SCENES
            sources = (f"image_2/d0000_{first:06}.jpg", f"gt_image_2/d0000_road_{first:06}.png")
            for name, source in zip(names, sources, strict=True):
                shutil.copyfile(folder / source, folder / name)
            continue
        image, road = Road(i).render(WIDTH, HEIGHT)
        truth = np.where(road[..., None], GROUND_TRUTH_COLOURS["road"], GROUND_TRUTH_COLOURS["not road"])
        for name, picture in zip(names, (image, truth.astype(np.uint8)), strict=True):
            cv2.imwrite(str(folder / name), picture)


def resident() -> float:
    """MB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what reading the data set in `folder` takes."""
    preset = presets.load(options.preset, {} if options.workers is None else {"workers": options.workers})
    before, row = resident(), {}
    start = time.perf_counter()
    frames = find_frames(folder)
    row["find_s"] = time.perf_counter() - start
    row |= {"frames": len(frames), "index_mb": resident() - before}
    for name in ("check_s", "again_s"):
        start = time.perf_counter()
        check(frames)
        row[name] = time.perf_counter() - start
    batches = batches_of(frames, [1.0] * len(frames), preset, Room(options.cache * 1e9))
    for batches.epoch, name in enumerate(("first", "next")):
        start, cpu, images = time.perf_counter(), time.process_time(), 0
        with closing(batches.made(preset.workers)) as made:
            for batch, _ in made:
                images += len(batch)
                if images >= options.images:
                    break
        spent = time.process_time() - cpu
        row[f"{name}_images_per_s"] = images / (time.perf_counter() - start)
        row[f"{name}_cpu_ms"] = 1e3 * spent / images
        row[f"{name}_cores"] = PACE * spent / images
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[300, 3000], metavar="N", help="of each data set")
    parser.add_argument("--cache", type=float, default=1.0, metavar="GB", help="of decoded frames (default: 1)")
    parser.add_argument("--images", type=int, default=6000, metavar="N", help="the most an epoch has (default: 6000)")
    parser.add_argument("--preset", default="compact", help="a name in train/presets, or a YAML file")
    parser.add_argument("--workers", type=int, metavar="N", help="threads; overrides the preset")
    parser.add_argument("--scratch", type=Path, help="where the frames are written, 0.2 GB a thousand (the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a data set, in a process of its own
    options = parser.parse_args()
    if min(*options.frames, options.images) < 1:
        parser.error("--frames and --images must be at least 1")
    try:
        presets.load(options.preset, {})
    except PresetError as error:
        sys.exit(f"loader.py: {error}")
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    rows = []
    print(" ".join(f"{name.replace('_images_per_s', '/s'):>12}" for name in COLUMNS))
    for number in options.frames:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            write_frames(Path(scratch) / "training", number)
            command = [sys.executable, *sys.argv, "--measure", str(Path(scratch) / "training")]
            environment = os.environ | {"XDG_CACHE_HOME": scratch}  # nothing is remembered of a run before
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout)
        rows.append(row)
        print(" ".join(f"{text.format(row[name]):>12}" for name, text in COLUMNS.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
