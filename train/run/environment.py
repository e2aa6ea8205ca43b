# SPDX-License-Identifier: Apache-2.0
"""What a run was made by: the code's commit, the libraries, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from train.run.distributed import Processes

ROOT = Path(__file__).resolve().parents[2]
# Those whose version can change a weight or the model file.
PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "opencv-python-headless", "torch")


def git(*arguments: str) -> str | None:
    """What git says of this code, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def commit() -> dict[str, Any] | None:
    """The code's commit, and whether something was not committed; None where git does not know."""
    name, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return None if name is None else {"commit": name.strip(), "uncommitted_changes": bool(changes)}


def machine(processes: Processes) -> dict[str, Any]:
    """Python, libraries, and what computes."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    gpu = processes.device.type == "cuda"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name(processes.device) if gpu else "cpu",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "processes": processes.count,
    }


def processor() -> str:
    """The processor's name, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
