# SPDX-License-Identifier: Apache-2.0
"""The network and what changes its weights: one step at a time."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.network.contract import normalise
from train.network.loss import count_valid, road_loss, road_sums
from train.network.model import VGGFCN8
from train.preset import Preset, PresetError
from train.run.distributed import Processes
from train.run.optimizer import optimizer, schedule

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
STATE = ("network", "averaged", "optimizer", "schedule", "scaler")


class NotFiniteError(ArithmeticError):
    """The loss or its gradient is no number; the weights are still those of the step before."""


def new_network(preset: Preset) -> VGGFCN8:
    """The preset's network with weights from its seed."""
    torch.manual_seed(preset.seed)
    network = VGGFCN8(preset.width, preset.batch_norm, preset.head, preset.dropout)
    network.reset_decoder(preset.decoder_init)
    network.freeze(preset.frozen_blocks)
    return network


def autocast_dtype(autocast: str, device: torch.device) -> torch.dtype | None:
    """What the network computes in for a preset's `autocast`; None for fp32.

    That is also what bf16 becomes on a CPU without instructions for it: to imitate it takes over twice fp32's time.
    """
    if autocast == "bf16" and device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if any(able.get(name) for name in BF16_INSTRUCTIONS) else None
    return AUTOCAST.get(autocast)


def check_share(preset: Preset, processes: Processes, micro_batch: int | None) -> int:
    """Frames of a batch that each process has.

    Raises:
        PresetError: a batch cannot be shared equally by the processes, or has parts without a frame.
    """
    share, rest = divmod(preset.batch_size, processes.count)
    if rest:
        raise PresetError(
            f"A batch of {preset.batch_size} frames cannot be shared equally by {processes.count} processes. "
            "Change one of the two."
        )
    if micro_batch is not None and micro_batch < 1:
        raise PresetError(f"--micro-batch is {micro_batch}, but it must be at least 1.")
    return share


class Learner:
    """Network, averaged weights, optimizer, schedule and loss scaler of a run.

    `dtype` is what the network computes in where that is not fp32.

    A step is a function of the weights, the batch, the seed and the step's place in the run. So its state holds no
    random generator's, and a run that was killed and resumed ends with the weights of one that was not.
    """

    def __init__(
        self,
        preset: Preset,
        network: VGGFCN8,
        epoch_steps: int,
        processes: Processes,
        micro_batch: int | None = None,
    ) -> None:
        """
        Args:
            preset: what kind of run it is.
            network: to be trained, as the preset has it.
            epoch_steps: steps in an epoch, for the schedule.
            processes: that train together.
            micro_batch: how many frames a process has in memory at once; a larger share of a batch is accumulated.

        Raises:
            PresetError: a batch cannot be shared equally by the processes, or has parts without a frame.
        """
        share = check_share(preset, processes, micro_batch)
        self.preset, self.processes, self.device = preset, processes, processes.device
        self.dtype = autocast_dtype(preset.autocast, self.device)
        self.parts = math.ceil(share / (micro_batch or share))
        processes.synchronise_batch_norm(network)
        # In fp32 a CPU's backward pass is slower in channels_last: 2.23 s a frame against 1.94 at full width on AVX2.
        plain = self.device.type == "cpu" and self.dtype is None
        self.memory_format = torch.contiguous_format if plain else torch.channels_last
        self.network = network.to(self.device, memory_format=self.memory_format)
        self.parallel = processes.parallel(self.network)
        decay = get_ema_multi_avg_fn(preset.ema_decay)
        self.averaged = AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)
        self.optimizer = optimizer(network, preset)
        self.schedule = schedule(self.optimizer, preset, epoch_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=preset.autocast == "fp16")

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in STATE:
            getattr(self, name).load_state_dict(state[name])

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, images: Tensor, targets: Tensor, epoch: int, batch: int) -> float:
        """One update; returns the loss of the whole batch.

        Args:
            images: this process's share of the batch, uint8 [share, 3, h, w] RGB.
            targets: uint8 [share, h, w], see `train.labels`.
            epoch: the step's place in the run, from 0.
            batch: its place in the epoch, from 0.

        Raises:
            NotFiniteError: there is no update.
        """
        place = (self.preset.seed, epoch, batch + 1, self.processes.rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))  # for dropout
        self.network.train()
        self.optimizer.zero_grad()
        loss = self._accumulate(images, targets.to(self.device, non_blocking=True))
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.gradient_clip or math.inf)
        loss_now, norm_now = torch.stack([loss, norm]).tolist()
        if not math.isfinite(loss_now):
            raise NotFiniteError(f"The loss became {loss_now}")
        # Of fp16, the scaler expects gradients that are too large now and then, and leaves such a step out.
        if not math.isfinite(norm_now) and not self.scaler.is_enabled():
            raise NotFiniteError(f"The gradient became {norm_now}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return float(loss_now)

    def _accumulate(self, images: Tensor, targets: Tensor) -> Tensor:
        """Add the gradient of a batch's loss, part by part; returns the loss, float32 [], of all processes' shares."""
        dtype = self.dtype
        valid, total = self.processes.sum(count_valid(targets)), torch.zeros((), device=self.device)
        parts = list(zip(images.tensor_split(self.parts), targets.tensor_split(self.parts), strict=True))
        for i, (some, truth) in enumerate(parts):
            x = normalise(some.to(self.device, non_blocking=True)).contiguous(memory_format=self.memory_format)
            # The processes exchange gradients once a step, with the last part.
            alone = self.processes.count > 1 and i < len(parts) - 1
            with self.parallel.no_sync() if alone else nullcontext():
                with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                    logits = self.parallel(x)
                sums = self.processes.sum(road_sums(logits, truth, self.preset.dice_weight > 0))
                loss = road_loss(sums, valid, len(some) / len(images), self.preset.dice_weight)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return total
