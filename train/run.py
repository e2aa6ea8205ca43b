# SPDX-License-Identifier: Apache-2.0
"""One training run, from its first step to its last."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from export.export import load_checkpoint
from train.augment import CropBatches, Pair
from train.checkpoint import save
from train.contract import normalise
from train.loss import road_loss
from train.model import VGGFCN8
from train.preset import Preset, PresetError
from train.validation import validate

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Run:
    """One training run: network, optimizer and averaged weights, and where they are saved."""

    def __init__(self, preset: Preset, loader: CropBatches, validation: dict[str, list[Pair]], folder: Path) -> None:
        torch.manual_seed(preset.seed)
        self.preset, self.batches, self.validation, self.folder = preset, loader, validation, folder
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
        total, warmup = preset.epochs * len(loader), round(preset.warmup_epochs * len(loader))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, warmup, total)
        )
        self.scaler = torch.amp.GradScaler(self.device, enabled=preset.autocast == "fp16")
        self.epoch, self.best = 0, -1.0

    def state(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Everything that a resume or an export needs."""
        return {
            "epoch": self.epoch,
            "best": self.best,
            "preset": self.preset.as_dict(),
            "datasets": sorted(self.validation),
            "metrics": metrics,
            "model": self.averaged.module.state_dict(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def resume(self, path: Path) -> None:
        """Go on where `path` stopped.

        Raises:
            PresetError: the checkpoint was made with another preset.
        """
        state = load_checkpoint(path)
        mine = self.preset.as_dict()
        differing = sorted(k for k in mine if mine[k] != state["preset"].get(k))
        if differing:
            raise PresetError(
                f"{path} was made with other values of {', '.join(differing)}. Resume with the same ones, or start "
                "anew."
            )
        if state["datasets"] != sorted(self.validation):
            raise PresetError(f"{path} was trained on {', '.join(state['datasets'])}. Resume with the same --data.")
        for name in ("network", "averaged", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["torch_rng"])
        self.epoch, self.best = state["epoch"], state["best"]

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with torchvision's VGG-16 weights in the encoder (and fc6, fc7) instead of from nothing.

        Raises:
            PresetError: they were made for another network than the preset's.
        """
        try:
            self.network.load_vgg16(weights)
        except ValueError as error:
            raise PresetError(f"{error} ImageNet's weights fit the preset vgg16.") from None
        self.averaged.module.load_state_dict(self.network.state_dict())

    def train(self) -> None:
        """Train the epochs that are left; `best.pt` and `last.pt` are written after each."""
        loader = DataLoader(self.batches, batch_size=None, num_workers=self.preset.workers)
        while self.epoch < self.preset.epochs:
            self.batches.epoch = self.epoch
            loss, seconds = self.train_epoch(loader)
            self.epoch += 1
            counts = validate(self.averaged.module, self.preset.resize, self.validation, self.device)
            # The mean over data sets, so that a large one does not drown a small one.
            curve = np.mean([c.iou_by_threshold() for c in counts.values()], axis=0)
            threshold, mean = int(curve.argmax()) / 255, float(curve.max())
            metrics = {
                "epoch": self.epoch,
                "loss": round(loss, 4),
                "threshold": threshold,
                "road_iou": {name: round(c.iou(threshold), 4) for name, c in counts.items()},
                "mean_road_iou": round(mean, 4),
            }
            better = mean > self.best
            self.best = max(self.best, mean)
            state = self.state(metrics)
            save(state, self.folder / "last.pt")
            if better:
                save(state, self.folder / "best.pt")
            table = ", ".join(f"{name} {c.iou(threshold):.3f}" for name, c in counts.items())
            print(
                f"Epoch {self.epoch}/{self.preset.epochs}: loss {loss:.4f}, road IoU {table}, mean "
                f"{mean:.4f}{' (best)' if better else ''}, {seconds:.0f} s.",
                flush=True,
            )

    def train_epoch(self, loader: DataLoader[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """(mean loss, seconds) of one epoch."""
        self.network.train()
        losses, start = [], time.monotonic()
        progress = tqdm(loader, total=len(self.batches), desc=f"Epoch {self.epoch + 1}", disable=None, leave=False)
        for images, labels in progress:
            loss = self.step(images, labels)
            losses.append(loss)
            progress.set_postfix(loss=f"{loss:.4f}")
        return float(np.mean(losses)), time.monotonic() - start

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One update from images uint8 [batch, 3, h, w] RGB and labels int64 [batch, h, w]; returns the loss."""
        x = normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        dtype = AUTOCAST.get(self.preset.autocast)
        with torch.autocast(self.device, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = self.network(x)
        loss = road_loss(logits, labels.to(self.device), self.preset.dice_weight)
        if not torch.isfinite(loss):
            raise PresetError(
                f"The loss became {loss.item()} in epoch {self.epoch + 1}. Lower learning_rate or gradient_clip, "
                "or set autocast to none; last.pt holds the epoch before."
            )
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return float(loss.detach())
