# SPDX-License-Identifier: Apache-2.0
"""The trainer beside the plainest PyTorch loop, on the same network and frames; docs/benchmarks.md explains it.

    .venv/bin/python bench/train.py --preset compact --data data/data_road/training --json train.json

Each row has a network of its own. They take turns, a few steps each, round after round, so that whatever else the
machine does affects all of them alike.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from road_seg_node.synthetic_road.scene import Road
from train import preset as presets
from train.frames.augment import crop_pair
from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.frames.kitti import GROUND_TRUTH_COLOURS, find_frames
from train.frames.memory import Room
from train.labels import IGNORE
from train.network.contract import normalise
from train.preset import Preset, PresetError
from train.run.distributed import Processes
from train.run.learner import Learner, new_network
from train.run.optimizer import OPTIMIZERS
from train.run.session import batches_of

SCENES, SCENE_SIZE = 40, (1242, 375)
Batches = Iterator[tuple[Tensor, Tensor]]


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Frames read from their files each time, in the views that the trainer makes of them."""

    def __init__(self, frames: list[Frame], preset: Preset) -> None:
        self.frames, self.preset, self.rng = frames, preset, np.random.default_rng(preset.seed)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        preset, pair = self.preset, self.frames[i].read()
        image, labels = crop_pair(pair, preset.crops[0], preset.resize, preset.augmentation, self.rng)
        return torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy()), torch.from_numpy(labels.astype(np.int64))


def plain(preset: Preset, frames: list[Frame]) -> tuple[Callable[[], Batches], Callable[[Tensor, Tensor], float]]:
    """(batches, step) of the loop as PyTorch's tutorials have it: fp32, contiguous, the loader in line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = new_network(preset).to(device).train()
    optimizer = OPTIMIZERS[preset.optimizer](network.parameters(), lr=preset.learning_rate)
    loader = DataLoader(Files(frames, preset), batch_size=preset.batch_size, shuffle=True, drop_last=True)

    def step(images: Tensor, labels: Tensor) -> float:
        logits = network(normalise(images.to(device)))
        loss = functional.cross_entropy(logits, labels.to(device), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return lambda: iter(loader), step


def ours(
    preset: Preset, frames: list[Frame], compiled: bool = False
) -> tuple[Callable[[], Batches], Callable[[Tensor, Tensor], float]]:
    """(batches, step) of the trainer."""
    data = batches_of(frames, [1.0] * len(frames), preset, Room(math.inf))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = Learner(preset, new_network(preset), len(data), Processes(device))
    if compiled:
        learner.parallel = torch.compile(learner.parallel)
    return lambda: data.made(preset.workers), lambda images, labels: learner.step(images, labels, 0, 0)


@dataclass
class Row:
    """One way to train, and what its steps took.

    Attributes:
        waiting: seconds that each step waited for its batch.
        total: seconds of each step, that included.
    """

    name: str
    preset: Preset
    batches: Callable[[], Batches]
    step: Callable[[Tensor, Tensor], float]
    source: Batches = field(default_factory=lambda: iter(()))
    waiting: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)

    def turn(self, steps: int) -> None:
        """`steps` steps that count, after some whose batches were made while other rows had their turn."""
        ahead = 1 + 2 * self.preset.workers
        for i in range(ahead + steps):
            start = time.perf_counter()
            batch = next(self.source, None)
            if batch is None:  # an epoch is over
                self.source = self.batches()
                batch = next(self.source)
            got = time.perf_counter()
            self.step(*batch)  # it gives back the loss, so a GPU has done its work
            if i >= ahead:
                self.waiting.append(got - start)
                self.total.append(time.perf_counter() - start)

    def figures(self) -> dict[str, Any]:
        """The row of the table and of the JSON file."""
        median = float(np.median(self.total))
        return {
            "row": self.name,
            "batch": self.preset.batch_size,
            "steps": len(self.total),
            "images_per_s": self.preset.batch_size / median,
            "step_ms": 1e3 * median,
            "p90_ms": 1e3 * float(np.percentile(self.total, 90)),
            "waiting_ms": 1e3 * float(np.median(self.waiting)),
        }


COMPILED = "ours, torch.compile"  # only where asked for: it takes a C++ compiler, and a minute or more
# The plain loop, the trainer, and the trainer with one thing otherwise: what makes it, and its changes to the preset.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain PyTorch": (plain, {"workers": 0}),
    "ours": (ours, {}),
    "ours in fp32": (ours, {"autocast": "none"}),
    "ours, loader in line": (ours, {"workers": 0}),
    COMPILED: (partial(ours, compiled=True), {}),
}


def open_row(name: str, preset: Preset, frames: list[Frame]) -> Row:
    make, changes = KINDS[name]
    preset = replace(preset, **changes)
    return Row(name, preset, *make(preset, frames))


def write_scenes(folder: Path) -> None:
    """Synthetic road scenes as files in KITTI's layout."""
    for kind in ("image_2", "gt_image_2"):
        (folder / kind).mkdir()
    for i in range(SCENES):
        image, road = Road(i).render(*SCENE_SIZE)
        truth = np.where(road[..., None], GROUND_TRUTH_COLOURS["road"], GROUND_TRUTH_COLOURS["not road"])
        cv2.imwrite(str(folder / "image_2" / f"um_{i:06}.png"), image)
        cv2.imwrite(str(folder / "gt_image_2" / f"um_road_{i:06}.png"), truth.astype(np.uint8))


def compare(preset: Preset, frames: list[Frame], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the rows of one preset in turns and print them."""
    # One size of crop, since a batch of the plain loop has one and not all batches another.
    largest = max(preset.crops, key=lambda crop: crop.share)
    preset = replace(preset, crops=(largest,))
    if len(frames) < preset.batch_size:
        raise DataError(f"{options.data} has {len(frames)} frames, but a batch has {preset.batch_size}. Give more.")
    rows = [open_row(name, preset, frames) for name in options.rows]
    for _ in range(options.rounds):
        for row in rows:
            row.turn(options.steps)
    size = "whole frames" if largest.whole else f"{largest.width}x{largest.height}"
    print(f"\n{options.preset}: {new_network(preset).architecture}, batches of {preset.batch_size}, {size}")
    print(f"{'':24} {'images/s':>9} {'of plain':>9} {'step ms':>9} {'p90 ms':>9} {'waiting ms':>11} {'steps':>6}")
    figures = [{"preset": options.preset, **row.figures()} for row in rows]
    for found in figures:
        times = found["images_per_s"] / figures[0]["images_per_s"]
        print(
            f"{found['row']:24} {found['images_per_s']:9.2f} {times:8.2f}x {found['step_ms']:9.1f} "
            f"{found['p90_ms']:9.1f} {found['waiting_ms']:11.1f} {found['steps']:6}"
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="compact", help="name in train/presets, or YAML file (default: compact)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"a folder in KITTI's layout (default: {SCENES} synthetic scenes)"
    )
    parser.add_argument("--rows", nargs="+", choices=KINDS, default=[*KINDS][:-1], help=f"all but '{COMPILED}'")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each row (default: 5)")
    parser.add_argument("--steps", type=int, default=8, help="steps counted in each turn (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    options = parser.parse_args()
    if options.rounds < 1 or options.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.absolute().parent}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            preset = presets.load(options.preset, {})
            if options.data is None:
                write_scenes(Path(scratch))
            figures = compare(preset, find_frames(options.data or Path(scratch)), options)
        except (DataError, PresetError) as error:
            print(f"train.py: {error}", file=sys.stderr)
            sys.exit(2)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
