# SPDX-License-Identifier: Apache-2.0
"""What test_distributed.py starts with torchrun: each process says how many there are."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from train.run.distributed import joined, leave

with joined() as processes:
    print(processes.sum(torch.ones(1)).item(), flush=True)
leave(0)
