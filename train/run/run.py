# SPDX-License-Identifier: Apache-2.0
"""One training run, from its first step to its last."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from train.frames.augment import CropBatches
from train.frames.data_error import DataError
from train.interruption import Interrupted, Interruption, answered
from train.network import checkpoint
from train.preset import PresetError
from train.run.events import Events
from train.run.learner import Learner, NotFiniteError
from train.run.validation import Pairs, shown, validate
from train.score.metrics import RoadCounts

PLACE = ("epoch", "batch", "losses", "metrics", "best")
FREE_TO_CHANGE = {"init", "workers"}  # what a resumed run may have otherwise: it changes no weight
# Knowing nothing costs ln 2 = 0.69. A run that is above this for so many steps in a row does not come back.
DIVERGED_LOSS, DIVERGED_STEPS = 3.0, 50

log = logging.getLogger("train")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to change."""


class Run:
    """Epochs of training, each with a validation at its end, and the checkpoints.

    Attributes:
        epoch: epochs that are done.
        batch: batches of the next epoch that are done.
        losses: their losses.
        metrics: what the last validation said.
        best: the largest mean road IoU of all validations.
    """

    def __init__(
        self,
        learner: Learner,
        batches: CropBatches,
        validation: Mapping[str, Pairs],
        folder: Path,
        save_every: float = math.inf,
    ) -> None:
        """
        Args:
            learner: what is trained.
            batches: to train on.
            validation: this process's share of the held-out frames, by data set.
            folder: for the checkpoints.
            save_every: seconds; at an epoch's end the run is saved in any case.
        """
        self.learner, self.batches, self.validation, self.folder = learner, batches, validation, folder
        self.preset, self.processes, self.save_every = learner.preset, learner.processes, save_every
        batches.share = (self.processes.rank, self.processes.count)
        batches.pinned = self.processes.device.type == "cuda"
        self.epoch, self.batch, self.best = 0, 0, -1.0
        self.losses: list[float] = []
        self.metrics: dict[str, Any] = {"epoch": 0, "threshold": 0.5}
        self.recent: deque[float] = deque(maxlen=DIVERGED_STEPS)
        self.interruption = Interruption(alone=self.processes.count == 1)
        self.saved = time.monotonic()
        self.events: Events | None = None

    @property
    def steps(self) -> int:
        """Steps of the run that are done."""
        return self.epoch * len(self.batches) + self.batch

    def answer(self) -> dict[str, Any]:
        """What an export or an evaluation needs: the averaged network and what is known of it."""
        return {
            "epoch": self.epoch,
            "preset": self.preset.as_dict(),
            "datasets": sorted(self.validation),
            "metrics": self.metrics,
            "model": self.learner.averaged.module.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """Everything that a resume needs besides; tensors that stand in it twice are written once."""
        return self.answer() | {name: getattr(self, name) for name in PLACE} | self.learner.state_dict()

    def resume(self, path: Path, state: dict[str, Any]) -> None:
        """Go on where the checkpoint `path`, which holds `state`, was written.

        Raises:
            PresetError: it was made with another preset or other data.
        """
        mine, theirs = self.preset.as_dict(), state["preset"]
        differing = sorted(k for k in mine.keys() - FREE_TO_CHANGE if mine[k] != theirs.get(k))
        if differing:
            raise PresetError(
                f"{path} was made with other values of {', '.join(differing)}. Resume with the same ones, or start "
                "anew."
            )
        if state["datasets"] != sorted(self.validation):
            raise PresetError(f"{path} was trained on {', '.join(state['datasets'])}. Resume with the same --data.")
        self.learner.load_state_dict(state)
        for name in PLACE:
            setattr(self, name, state[name])

    def save(self) -> None:
        """Write `last.pt`; raises CheckpointError."""
        if self.processes.first:
            checkpoint.write_last(self.state(), self.folder)
        self.saved = time.monotonic()

    def train(self) -> None:
        """Train what is left. After each epoch `best.pt` is written where it is better, and `last.pt`.

        Raises:
            TrainingError: the loss is no number any more, or grows; or a frame turns out to be broken.
            CheckpointError: a checkpoint cannot be written.
            Interrupted: by a signal, after everything was saved; asked twice, before.
        """
        with answered(self.interruption.note):
            while self.epoch < self.preset.epochs:
                start = time.monotonic()
                try:
                    self.train_epoch()
                    self.end_epoch(time.monotonic() - start)
                except DataError as error:
                    self.save()
                    advice = "Everything is saved: fix it, and continue with --resume and the same --run-folder."
                    raise TrainingError(f"{error} {advice}") from None
                self.stop_if_asked()

    def train_epoch(self) -> None:
        """The batches of one epoch that are left.

        Raises:
            TrainingError: see `train`; or not all of them came.
            DataError: a frame is broken.
        """
        self.batches.epoch, self.batches.first = self.epoch, self.batch
        with closing(self.batches.made(self.preset.workers)) as batches:
            self.train_on(batches)
        if self.batch != len(self.batches):
            raise TrainingError(f"Epoch {self.epoch + 1} ended after {self.batch} of {len(self.batches)} batches.")

    def train_on(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """A step for each of `batches`, which go on where the run stands."""
        progress = tqdm(
            batches,
            desc=f"Epoch {self.epoch + 1}",
            initial=self.batch,
            total=len(self.batches),
            disable=None if self.processes.first else True,
            leave=False,
        )
        start = time.monotonic()
        for images, targets in progress:
            try:
                loss = self.learner.step(images, targets, self.epoch, self.batch)
            except NotFiniteError as error:
                raise TrainingError(self.advice(str(error))) from None
            self.check_growth(loss)
            self.losses.append(loss)
            self.batch += 1
            self.stop_if_asked()
            progress.set_postfix(loss=f"{loss:.4f}")
            if self.events:
                speed = self.preset.batch_size / (time.monotonic() - start)
                self.events.step(self.steps, loss, self.learner.learning_rate, speed)
            if time.monotonic() - self.saved > self.save_every:
                self.save()
            start = time.monotonic()

    def show(self, events: Events, counts: dict[str, RoadCounts], threshold: float) -> None:
        """The validation in TensorBoard: table, curves, and the same few frames each time."""
        events.epoch(self.steps, counts, threshold)
        for name, picture in shown(
            self.learner.averaged.module, self.preset.resize, self.validation, threshold, self.processes
        ):
            events.picture(self.steps, name, picture)
        events.flush()

    def stop_if_asked(self) -> None:
        """Save and raise Interrupted where a signal reached any of the processes."""
        if self.processes.any(self.interruption.signal_number != 0):
            self.save()
            raise Interrupted(self.interruption.signal_number or signal.SIGTERM, saved=True)

    def check_growth(self, loss: float) -> None:
        """Raises TrainingError where the loss has been worse than knowing nothing for long."""
        self.recent.append(loss)
        if len(self.recent) == DIVERGED_STEPS and min(self.recent) > DIVERGED_LOSS:
            raise TrainingError(
                self.advice(f"The loss has been above {DIVERGED_LOSS:g} for {DIVERGED_STEPS} steps, now {loss:.3g}")
            )

    def advice(self, what: str) -> str:
        best = self.folder / checkpoint.BEST
        kept = f"{best} is of the best epoch before." if self.best >= 0 else "No epoch was done."
        return (
            f"{what} in epoch {self.epoch + 1}, batch {self.batch + 1}. Start again with a smaller learning_rate "
            f"({self.preset.learning_rate:g}) or gradient_clip ({self.preset.gradient_clip:g}), a longer "
            f"warmup_epochs, or autocast: none. {kept}"
        )

    def end_epoch(self, seconds: float) -> None:
        """Validate, write the checkpoints, and say how it went."""
        network, resize = self.learner.averaged.module, self.preset.resize
        counts = validate(network, resize, self.validation, self.processes, self.preset.workers)
        loss = float(np.mean(self.losses))
        self.epoch, self.batch, self.losses = self.epoch + 1, 0, []
        # The mean over data sets, so that a large one does not drown a small one.
        curve = np.mean([c.iou_by_threshold() for c in counts.values()], axis=0)
        threshold, mean = int(curve.argmax()) / 255, float(curve.max())
        self.metrics = {
            "epoch": self.epoch,
            "loss": round(loss, 4),
            "threshold": threshold,
            "road_iou": {name: round(c.iou(threshold), 4) for name, c in counts.items()},
            "mean_road_iou": round(mean, 4),
        }
        if self.events:
            self.show(self.events, counts, threshold)
        better = mean > self.best
        self.best = max(self.best, mean)
        # The best first: killed between the two, the run does this epoch again and finds the same.
        if better and self.processes.first:
            checkpoint.write(self.answer(), self.folder / checkpoint.BEST)
        self.save()
        table = ", ".join(f"{name} {c.iou(threshold):.3f}" for name, c in counts.items())
        log.info(
            f"Epoch {self.epoch}/{self.preset.epochs}: loss {loss:.4f}, road IoU {table}, mean "
            f"{mean:.4f}{' (best)' if better else ''}, {seconds:.0f} s."
        )
