# SPDX-License-Identifier: Apache-2.0
"""What a run trains and validates on: folders in KITTI's layout, held-out frames, and synthetic scenes."""

from __future__ import annotations

import argparse

import numpy as np

from road_seg_node.scene import Road
from train.augment import Pair
from train.data import DataError, find_frames, leave_out, read_all, split_validation
from train.preset import Preset

SCENE_SIZES = ((480, 360), (320, 227), (576, 160), (1242, 375))
TRAINING_SEED, VALIDATION_SEED = 1_000_000, 2_000_000  # of scenes; the demo's and the tests' seeds are small
SCENES_ONLY = 400  # scenes an epoch of a run without a data set
SCENE_POOL = 4  # times as many scenes as an epoch shows are rendered, so that epochs differ


def scenes(count: int, first_seed: int) -> list[Pair]:
    """Synthetic pairs of road scenes, each of its own seed."""
    pairs = []
    for i in range(count):
        width, height = SCENE_SIZES[i % len(SCENE_SIZES)]
        image, road = Road(first_seed + i).render(width, height, time=float(i % 7))
        pairs.append((image, road.astype(np.uint8)))
    return pairs


def gather(options: argparse.Namespace, preset: Preset) -> tuple[list[Pair], list[float], dict[str, list[Pair]]]:
    """Training pairs, how often an epoch shows each, and validation pairs by data set."""
    pairs: list[Pair] = []
    weights: list[float] = []
    validation: dict[str, list[Pair]] = {}
    found = {folder: find_frames(folder) for folder in options.data}
    if options.leave_out:
        kept = set(leave_out([f for frames in found.values() for f in frames], options.leave_out))
        found = {folder: [f for f in frames if f in kept] for folder, frames in found.items()}
    for folder, frames in found.items():
        name = folder.parent.name if folder.name == "training" else folder.name
        beside = folder.parent / "validation"
        held = find_frames(beside) if beside.is_dir() and folder.name == "training" else []
        held = [frame for frame in held if frame.drive not in options.leave_out]
        if not held:
            frames, held = split_validation(frames, preset.validation_share)
        if not frames or not held:
            raise DataError(f"{folder} has too few frames left to train on some and validate on others.")
        print(f"{name}: {len(frames)} frames to train on, {len(held)} held out to validate.", flush=True)
        decoded = read_all([*frames, *held])  # together, so that one message names what is broken
        pairs += decoded[: len(frames)]
        weights += [preset.folder_weights.get(name, 1.0)] * len(frames)
        validation[name] = decoded[len(frames) :]
    share = preset.synthetic_share
    count = round(sum(weights) * share / (1 - share)) if pairs else SCENES_ONLY
    if count:
        print(f"Rendering {SCENE_POOL * count} synthetic scenes, of which an epoch shows {count}.", flush=True)
        pairs += scenes(SCENE_POOL * count, TRAINING_SEED)
        weights += [1 / SCENE_POOL] * (SCENE_POOL * count)
        validation["synthetic"] = scenes(max(20, count // 10), VALIDATION_SEED)
    return pairs, weights, validation
