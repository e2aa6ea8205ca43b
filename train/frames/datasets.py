# SPDX-License-Identifier: Apache-2.0
"""What a run trains and validates on: folders in KITTI's layout, held-out frames, and synthetic scenes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from train.frames.data_error import DataError
from train.frames.drives import leave_out, split_fold, split_validation
from train.frames.frame import Frame, Unlabelled
from train.frames.scenes import scene
from train.frames.sources import sources_of

SCENE_SIZES = ((480, 360), (320, 227), (576, 160), (1242, 375))
TRAINING_SEED, VALIDATION_SEED = 1_000_000, 2_000_000  # of scenes; the demo's and the tests' seeds are small
SCENES_ONLY = 400  # scenes an epoch of a run without a data set
SCENE_POOL = 4  # times as many scenes as an epoch shows are rendered, so that epochs differ
SYNTHETIC = "synthetic"  # the data set's name

log = logging.getLogger("train")


@dataclass
class RunFrames:
    """The frames of a run.

    Attributes:
        training: to train on.
        weights: how often an epoch shows each of them.
        held: to validate on, by the name of the data set.
    """

    training: list[Frame] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    held: dict[str, list[Frame]] = field(default_factory=dict)

    def add(self, name: str, training: list[Frame], held: list[Frame], weight: float) -> None:
        self.training += training
        self.weights += [weight] * len(training)
        if held:
            self.held[name] = self.held.get(name, []) + held

    def fingerprint(self) -> str:
        """Of the frames' names and the data sets that hold them out; where the folders lie does not count."""
        names = [frame.image.name for frame in self.training]
        names += [f"{name}: {frame.image.name}" for name, members in sorted(self.held.items()) for frame in members]
        return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()


def scenes(count: int, first_seed: int) -> list[Frame]:
    """Synthetic scenes, each of its own seed."""
    sizes = [SCENE_SIZES[i % len(SCENE_SIZES)] for i in range(count)]
    return [scene(i, first_seed + i, *size, time=float(i % 7)) for i, size in enumerate(sizes)]


def gather(
    words: Sequence[str],
    left_out: Sequence[str],
    validation_share: float,
    synthetic_share: float,
    folder_weights: Mapping[str, float],
    fold: tuple[int, int] | None = None,
    unlabelled: bool = False,
) -> RunFrames:
    """The frames of the data sets that `words` name, see `sources`, and synthetic scenes.

    Held out are the frames that a data set has for that, else `validation_share` of it; or, of a `fold` (number, of how
    many), that fold of those to train on. The other two are the preset's, whose files explain them. `unlabelled` takes
    frames without ground truth too; they are not held out.

    Raises:
        DataError: a word names no data set, or one with too few frames; or no frame has ground truth.
    """
    frames = RunFrames()
    found = [(source, *source.find(unlabelled)) for source in sources_of(list(words))]
    if left_out:
        kept = set(leave_out([frame for _, members, _ in found for frame in members], left_out))
        found = [(source, [f for f in members if f in kept], held) for source, members, held in found]
    for source, members, held in found:
        name = source.name
        held = [frame for frame in held if frame.drive not in left_out]
        without = [frame for frame in members if isinstance(frame, Unlabelled)]
        members = [frame for frame in members if not isinstance(frame, Unlabelled)]
        if not members and not without:
            raise DataError(f"{source.place} has no frame to train on{source.splits}.")
        if not members:
            log.info("%s: %d frames to train on without ground truth.", name, len(without))
            frames.add(name, without, held, folder_weights.get(name, 1.0))
            continue
        if fold is not None:
            members, held = split_fold(members, *fold)
        elif not held:
            if source.splits:
                log.warning("%s has no frame to validate on%s; of the others a share is held out.", name, source.splits)
            members, held = split_validation(members, validation_share)
        if not members or not held:
            raise DataError(f"{source.place} has too few frames left to train on some and validate on others.")
        members += without
        log.info("%s: %d frames to train on, %d held out to validate.", name, len(members), len(held))
        frames.add(name, members, held, folder_weights.get(name, 1.0))
    trained_on = {frame.image for frame in frames.training}
    for name, held in frames.held.items():
        if known := [frame.image for frame in held if frame.image in trained_on]:
            raise DataError(
                f"{name} would validate on {known[0]} (and {len(known) - 1} more), which other --data trains on. Name "
                "each frame once."
            )
    if frames.training and not frames.held:
        raise DataError("No frame has ground truth, so none is left for validation. Name a folder that has it, too.")
    if frames.training and not sum(frames.weights):
        raise DataError("The preset's folder_weights are 0 for every folder, so there would be nothing to train on.")
    share = synthetic_share / (1 - synthetic_share)
    count = round(sum(frames.weights) * share) if frames.training else SCENES_ONLY
    if count:
        log.info("Rendering %d synthetic scenes, of which an epoch shows %d.", SCENE_POOL * count, count)
        rendered = scenes(SCENE_POOL * count, TRAINING_SEED)
        frames.add(SYNTHETIC, rendered, scenes(max(20, count // 10), VALIDATION_SEED), 1 / SCENE_POOL)
    return frames
