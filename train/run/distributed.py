# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training in the processes that torchrun starts: gloo on CPUs, NCCL on GPUs.

Each process has its share of every batch. What a batch's loss and batch norm's statistics are made of is summed over
the processes, so that their number changes nothing but the order of sums.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train import interruption
from train.preset import PresetError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among `count`; the first of them alone writes and speaks."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all processes' `values`, the same in each; its gradient reaches the values of all."""
        return values if self.count == 1 else _SumOverProcesses.apply(values)

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self.sum(torch.tensor(int(flag), device=self.device))) if self.count > 1 else flag

    def agree(self, value: T) -> T:
        """The first process's value."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def parallel(self, network: nn.Module) -> nn.Module:
        """A module that runs `network`, and means its gradients over the processes."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, devices, forward_sync_buffers=False)

    def synchronise_batch_norm(self, network: nn.Module) -> None:
        """Let the batch normalisations of `network` see the whole batch instead of this process's share."""
        if self.count == 1:
            return
        kind: type[nn.Module] = nn.SyncBatchNorm if self.device.type == "cuda" else BatchNormOverProcesses
        for name, layer in list(network.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):
                synchronised = kind(layer.num_features, layer.eps, layer.momentum)
                synchronised.load_state_dict(layer.state_dict())
                network.set_submodule(name, synchronised.to(self.device))


@contextmanager
def joined() -> Iterator[Processes]:
    """This process, among the others where torchrun started it.

    Raises:
        PresetError: more processes than GPUs.
    """
    gpu = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = True  # a run's batches have few sizes
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield Processes(torch.device("cuda" if gpu else "cpu"))
        return
    local, device = int(os.environ["LOCAL_RANK"]), torch.device("cpu")
    if gpu:
        if local >= torch.cuda.device_count():
            raise PresetError(f"Each process needs a GPU of its own: --nproc-per-node {torch.cuda.device_count()}.")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo")
    yield Processes(device, dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()


def leave(exit_code: int) -> NoReturn:
    """End the process, at the very end of a program.

    DDP keeps gloo's threads for good (PyTorch 2.13), and where one of them lets go of a tensor while Python shuts down,
    the process aborts. So a process that torchrun started does not wait for that.
    """
    if dist.is_torchelastic_launched():
        interruption.leave(exit_code)
    sys.exit(exit_code)


class BatchNormOverProcesses(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes on CPUs; torch's SyncBatchNorm is for GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        here = values.new_tensor([values.numel() / self.num_features])
        sums = _SumOverProcesses.apply(torch.cat([values.sum((0, 2, 3)), here]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = values - mean[:, None, None]
        variance = _SumOverProcesses.apply((centred * centred).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose backward is an all-reduce: each process's loss depends on every process's values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
