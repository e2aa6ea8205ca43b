# SPDX-License-Identifier: Apache-2.0
"""One training run, from its first step to its last."""

from __future__ import annotations

import math
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from train import checkpoint
from train.augment import CropBatches, Pair
from train.contract import normalise
from train.interruption import Interrupted, Interruption
from train.loss import road_loss
from train.model import VGGFCN8
from train.preset import Preset, PresetError
from train.validation import validate
from train.weights import Source, start_from

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
CALIBRATION_BATCHES = 16
FREE_TO_CHANGE = {"init", "workers"}  # what a resumed run may have otherwise: it changes no weight
# Knowing nothing costs ln 2 = 0.69. A run that is above this for so many steps in a row does not come back.
DIVERGED_LOSS, DIVERGED_STEPS = 3.0, 50


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to change."""


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Run:
    """Network, optimizer and averaged weights of a run, and where in the run they are.

    Attributes:
        epoch: epochs that are done.
        batch: batches of the next epoch that are done.
        losses: their losses.
        metrics: what the last validation said.
        best: the largest mean road IoU of all validations.

    Every step is a function of the weights, the seed, and the step's place in the run. So a checkpoint holds no
    generator's state, and a run that was killed and resumed ends with the weights of one that was not.
    """

    def __init__(
        self,
        preset: Preset,
        batches: CropBatches,
        validation: dict[str, list[Pair]],
        folder: Path,
        save_every: float = math.inf,
    ) -> None:
        """`save_every` is in seconds; at an epoch's end the run is saved in any case."""
        torch.manual_seed(preset.seed)
        self.preset, self.batches, self.validation, self.folder = preset, batches, validation, folder
        self.save_every = save_every
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = VGGFCN8(preset.width, preset.batch_norm, preset.head)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        decay = get_ema_multi_avg_fn(preset.ema_decay)
        self.averaged = AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)
        # Weight decay is for convolutions: on biases and batch norm it only harms.
        groups = [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": preset.weight_decay},
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=preset.learning_rate)
        total, warmup = preset.epochs * len(batches), round(preset.warmup_epochs * len(batches))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, warmup, total)
        )
        self.scaler = torch.amp.GradScaler(self.device, enabled=preset.autocast == "fp16")
        self.epoch, self.batch, self.best = 0, 0, -1.0
        self.losses: list[float] = []
        self.metrics: dict[str, Any] = {"epoch": 0, "threshold": 0.5}
        self.recent: deque[float] = deque(maxlen=DIVERGED_STEPS)
        self.interruption = Interruption()
        self.loader = DataLoader(batches, batch_size=None, num_workers=preset.workers)
        self.saved = time.monotonic()

    def answer(self) -> dict[str, Any]:
        """What an export or an evaluation needs: the averaged network and what is known of it."""
        return {
            "epoch": self.epoch,
            "preset": self.preset.as_dict(),
            "datasets": sorted(self.validation),
            "metrics": self.metrics,
            "model": self.averaged.module.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """Everything that a resume needs besides; tensors that stand in it twice are written once."""
        return self.answer() | {
            "batch": self.batch,
            "losses": self.losses,
            "best": self.best,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

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
        for name in ("network", "averaged", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "batch", "losses", "metrics", "best"):
            setattr(self, name, state[name])

    def start_from(self, source: Source | None) -> str:
        """Begin with weights that were found; returns a sentence that says which; raises WeightsError."""
        images = (normalise(images) for images, _ in islice(self.batches, CALIBRATION_BATCHES))
        said = start_from(self.network, source, images)
        self.averaged.module.load_state_dict(self.network.state_dict())
        return said

    def save(self) -> None:
        """Write `last.pt`; raises CheckpointError."""
        checkpoint.write_last(self.state(), self.folder)
        self.saved = time.monotonic()

    def train(self) -> None:
        """Train what is left. After each epoch `best.pt` is written where it is better, and `last.pt`.

        Raises:
            TrainingError: the loss is no number any more, or grows.
            CheckpointError: a checkpoint cannot be written.
            Interrupted: by Ctrl-C or SIGTERM, after everything was saved.
        """
        with self.interruption.awaited():
            while self.epoch < self.preset.epochs:
                start = time.monotonic()
                self.train_epoch()
                self.end_epoch(time.monotonic() - start)

    def train_epoch(self) -> None:
        """The batches of one epoch that are left."""
        self.network.train()
        self.batches.epoch, self.batches.first = self.epoch, self.batch
        progress = tqdm(
            self.loader,
            desc=f"Epoch {self.epoch + 1}",
            initial=self.batch,
            total=len(self.batches),
            disable=None,
            leave=False,
        )
        for images, labels in progress:
            loss = self.step(images, labels)
            self.check_progress(loss)
            self.losses.append(loss)
            self.batch += 1
            progress.set_postfix(loss=f"{loss:.4f}")
            if self.interruption.signal_number:
                self.save()
                raise Interrupted(self.interruption.signal_number)
            if time.monotonic() - self.saved > self.save_every:
                self.save()

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One update from images uint8 [batch, 3, h, w] RGB and labels int64 [batch, h, w]; returns the loss.

        Raises:
            TrainingError: loss or gradient is no number; the weights are as before.
        """
        place = np.random.SeedSequence((self.preset.seed, self.epoch, self.batch + 1))
        torch.manual_seed(int(place.generate_state(1, np.uint64)[0]))  # dropout
        x = normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        dtype = AUTOCAST.get(self.preset.autocast)
        with torch.autocast(self.device, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = self.network(x)
        loss = road_loss(logits, labels.to(self.device), self.preset.dice_weight)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.gradient_clip)
        loss_now, norm_now = torch.stack([loss.detach(), norm]).tolist()
        # Of fp16, the scaler expects gradients that are too large now and then, and leaves such a step out.
        if not math.isfinite(loss_now) or not (math.isfinite(norm_now) or self.scaler.is_enabled()):
            what = f"loss became {loss_now}" if not math.isfinite(loss_now) else f"gradient became {norm_now}"
            raise TrainingError(self.advice(f"The {what}"))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return loss_now

    def check_progress(self, loss: float) -> None:
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
            f"{what} in epoch {self.epoch + 1}, batch {self.batch + 1}. Start anew with a smaller learning_rate "
            f"({self.preset.learning_rate:g}) or gradient_clip ({self.preset.gradient_clip:g}), a longer "
            f"warmup_epochs, or autocast: none. {kept}"
        )

    def end_epoch(self, seconds: float) -> None:
        """Validate, write the checkpoints, and say how it went."""
        counts = validate(self.averaged.module, self.preset.resize, self.validation, self.device)
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
        better = mean > self.best
        self.best = max(self.best, mean)
        # The best first: killed between the two, the run does this epoch again and finds the same.
        if better:
            checkpoint.write(self.answer(), self.folder / checkpoint.BEST)
        self.save()
        table = ", ".join(f"{name} {c.iou(threshold):.3f}" for name, c in counts.items())
        print(
            f"Epoch {self.epoch}/{self.preset.epochs}: loss {loss:.4f}, road IoU {table}, mean "
            f"{mean:.4f}{' (best)' if better else ''}, {seconds:.0f} s.",
            flush=True,
        )
        if self.interruption.signal_number:
            raise Interrupted(self.interruption.signal_number)
