# SPDX-License-Identifier: Apache-2.0
"""A run from its frames to its report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from operator import methodcaller
from pathlib import Path
from typing import Any

from train.frames.augment import CropBatches, reduction
from train.frames.cache import DecodedFrames
from train.frames.check import check
from train.frames.data_error import DataError
from train.frames.datasets import SYNTHETIC, RunFrames, gather
from train.frames.frame import Frame, Unlabelled
from train.frames.memory import Room, default_room
from train.frames.sources import absolute
from train.frames.targets import TargetsOf, from_truth, pair_for_training
from train.network import checkpoint
from train.network.contract import normalise
from train.network.weights import find_weights, start_from
from train.preset import Preset
from train.run import run_folder
from train.run.distributed import Processes
from train.run.events import Events
from train.run.learner import Learner, check_share, new_network
from train.run.run import Run
from train.run.teacher import Teacher
from train.score.answers import Checkpoint, ModelFile
from train.score.evaluation import evaluate
from train.score.tally import PERSPECTIVE

CALIBRATION_BATCHES = 16  # for the batch norm of a model file to start from

# Writes a model file from a checkpoint, and proves it on the pictures of a folder: what is called with the three paths.
Export = Callable[[Path, Path, Path | None], object]

log = logging.getLogger("train")


@dataclass(frozen=True)
class Plan:
    """What a run is to be.

    Attributes:
        preset: every value of the training.
        data: data sets, see `train.frames.sources`; with none, it trains on synthetic scenes alone.
        left_out: drives not to train or validate on.
        micro_batch: how many frames a process has in memory at once; None for its share of a batch.
        folder: of the run.
        resume: go on with the run that is there.
        cache: bytes that decoded frames may take in each process; None for half of what is free.
        save_every: minutes between checkpoints, besides those at each epoch's end.
        fold: (i, k) for the i-th of k folds, i from 1: what is held out, instead of the preset's share. Such a run is
            evaluated, but not exported.
    """

    preset: Preset
    data: tuple[str, ...]
    left_out: tuple[str, ...]
    micro_batch: int | None
    folder: Path
    resume: bool
    save_every: float
    cache: float | None = None
    fold: tuple[int, int] | None = None

    def record(self) -> dict[str, Any]:
        """What a resume takes from the folder where its command line does not say it; beside it lies the preset."""
        return {
            "data": [absolute(word) for word in self.data],
            "leave_out": list(self.left_out),
            "micro_batch": self.micro_batch,
            "fold": self.fold,
        }


def carry_out(plan: Plan, processes: Processes, export: Export) -> None:
    """Train, or go on, to the end; the first process exports the model file and writes the report.

    Raises:
        DataError, PresetError, WeightsError: the plan cannot be carried out; nothing was written by this run.
        CheckpointError, TrainingError, Interrupted: see `Run.train`.
        Others as `export` does.
    """
    preset, folder = plan.preset, plan.folder
    if checkpoint.exists(folder) and not plan.resume:
        raise DataError(f"{folder} already holds a run. Continue with --resume, or choose another --run-folder.")
    run_folder.check_writable(folder)
    check_share(preset, processes, plan.micro_batch)
    saved = checkpoint.newest_good(folder) if checkpoint.exists(folder) else None
    source = None if saved else find_weights(preset.init, preset.width, preset.batch_norm)
    frames = gather(
        plan.data,
        plan.left_out,
        preset.validation_share,
        preset.synthetic_share,
        preset.folder_weights,
        plan.fold,
        unlabelled=preset.teacher_file is not None,
    )
    if plan.resume:
        run_folder.check_frames(folder, frames.fingerprint())
    if processes.first:
        look_at(frames)
    processes.any(False)  # the others wait for it
    room = Room(default_room() if plan.cache is None else plan.cache)
    targets_of = teaching(preset, folder, frames, processes)
    batches = batches_of(frames.training, frames.weights, preset, room, targets_of)
    network = new_network(preset)
    if saved is None:
        with closing(batches.made(preset.workers)) as made:
            images = (normalise(images) for images, _ in islice(made, CALIBRATION_BATCHES))
            log.info(start_from(network, source, images))
    learner = Learner(preset, network, len(batches), processes, plan.micro_batch)
    share = slice(processes.rank, None, processes.count)
    read = methodcaller("read")  # as each kind of frame does it: a scene has no files
    validation = {name: DecodedFrames(members[share], read, room) for name, members in frames.held.items()}
    run = Run(learner, batches, validation, folder, plan.save_every * 60)
    if saved is not None:
        run.resume(*saved)
    begin = f"epoch {run.epoch + 1}, batch {run.batch + 1}" if saved else "the beginning"
    if plan.resume:
        log.info(f"Going on from {begin}.")
    with ExitStack() as at_the_end:
        if processes.first:
            run_folder.record(
                folder, preset, plan.record(), frames.fingerprint(), begin, processes, resumed=plan.resume
            )
            run.events = at_the_end.enter_context(closing(Events(folder, run.steps)))
        where = f"{processes.count} processes on {learner.device.type}" if processes.count > 1 else learner.device.type
        if preset.autocast != "none" and learner.dtype is None:
            log.info(
                f"This CPU has no instructions for {preset.autocast}: the network computes in fp32, which is faster."
            )
        log.info(f"Training {learner.network.architecture} on {where}, into {folder}.")
        run.train()
        if processes.first:
            finish(plan, frames, export)
            run_folder.close_log()


def teaching(preset: Preset, folder: Path, frames: RunFrames, processes: Processes) -> TargetsOf:
    """What the network is to answer: the ground truth, mixed with a teacher's answers where there is one."""
    if preset.teacher_file is None:
        return from_truth
    teacher = Teacher(preset.teacher_file, preset.teacher_share, folder)
    if processes.first:
        teacher.answer(frames.training)
    processes.any(False)  # the others wait for it
    return teacher.targets


def look_at(frames: RunFrames) -> None:
    """Raises DataError where frames are broken, or those to train on or to validate on are all road, or all not."""
    held = [frame for members in frames.held.values() for frame in members]
    pixels = check([*frames.training, *held], shown=True)
    for members, what in ((frames.training, "train"), (held, "validate")):
        real = [frame for frame in members if frame in pixels and not isinstance(frame, Unlabelled)]
        if real and not any(pixels[frame].not_road for frame in real):
            raise DataError(
                f"None of the {len(real)} frames to {what} on has a valid pixel that is not road, such as "
                f"{real[0].ground_truth}. A network would learn that all is road; what is not valid counts nowhere."
            )
        if real and not any(pixels[frame].road for frame in real):
            raise DataError(
                f"None of the {len(real)} frames to {what} on has a pixel of road, such as {real[0].ground_truth}. "
                f"There, road is {real[0].road_classes}."
            )


def batches_of(
    frames: list[Frame], weights: list[float], preset: Preset, room: Room, targets_of: TargetsOf = from_truth
) -> CropBatches:
    """The preset's batches of these frames, which are kept decoded while there is room."""

    @cache
    def divisor(height: int, width: int) -> int:
        return reduction(height, width, preset.crops, preset.resize, preset.augmentation)

    pairs = DecodedFrames(frames, partial(pair_for_training, reduction=divisor, targets_of=targets_of), room)
    return CropBatches(pairs, weights, preset.batch_size, preset.crops, preset.resize, preset.augmentation, preset.seed)


def finish(plan: Plan, frames: RunFrames, export: Export) -> None:
    """Export the best checkpoint, and evaluate the model file on the held-out frames, as a robot runs it."""
    model, best = plan.folder / run_folder.MODEL, plan.folder / checkpoint.BEST
    if plan.fold is None:
        export(best, model, frames.training[0].image.parent if plan.data else None)
    # Synthetic scenes are pooled with nothing real.
    real = {name: members for name, members in frames.held.items() if name != SYNTHETIC} or frames.held
    sets = {f"{name} ({len(members)})": members for name, members in real.items()}
    answers = ModelFile(model) if plan.fold is None else Checkpoint(best)
    evaluate(answers, sets, [PERSPECTIVE], plan.folder / run_folder.REPORT)
    if plan.fold is None:
        log.info(f"\nWrote {model}. See it run:\n  ros2 launch road_seg_node seg.launch.py model:={model.resolve()}")
