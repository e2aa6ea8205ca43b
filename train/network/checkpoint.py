# SPDX-License-Identifier: Apache-2.0
"""Checkpoints on disk: never half written, the one before kept, and a damaged one passed over."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from train.network.model import VGGFCN8

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
NEEDED_TO_RESUME = {"epoch", "batch", "losses", "best", "network", "averaged", "optimizer", "schedule", "scaler"}

log = logging.getLogger("train")


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message names it."""


def write(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside its place and rename it, so that it is never half there.

    Raises:
        CheckpointError: the disk is full, or the folder is gone; what stood at `path` is untouched.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        # torch reports the disk's error as one of its own, in whose context the disk's is.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        try:
            beside.unlink(missing_ok=True)
        except OSError:
            pass
        raise CheckpointError(
            f"{path} cannot be written: {cause.strerror}. What was saved before is whole; make room and go on with "
            "--resume."
        ) from None


def write_last(state: dict[str, Any], folder: Path) -> None:
    """Write `last.pt`; the one before becomes `previous.pt`. Raises as `write` does."""
    new, last = folder / f"new.{LAST}", folder / LAST
    write(state, new)
    if last.exists():
        last.replace(folder / PREVIOUS)
    new.replace(last)


def exists(folder: Path) -> bool:
    """Whether a run was saved in `folder`."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def newest_good(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and what it holds; a damaged one is logged.

    Raises:
        CheckpointError: all are damaged.
    """
    wrong = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            state = read(path)
        except CheckpointError as error:
            wrong.append(str(error))
            continue
        for sentence in wrong:
            log.warning("%s Going on from %s.", sentence, path.name)
        return path, state
    raise CheckpointError(" ".join([*wrong, "There is no other checkpoint to resume from: start again."]))


def read(path: Path) -> dict[str, Any]:
    """A checkpoint that a run can go on from.

    Raises:
        CheckpointError: it is damaged, or holds less than that.
    """
    try:
        # torch.load does not look at the checksums that are in the file.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged ({str(error).rstrip('.')}).") from None
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (the checksum of {damaged} is wrong).")
    state = load_checkpoint(path)
    missing = NEEDED_TO_RESUME - state.keys()
    if missing:
        raise CheckpointError(f"{path} cannot be resumed: it lacks {', '.join(sorted(missing))}.")
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's dictionary on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint of this trainer.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"There is no checkpoint {path}; train.py writes best.pt into the run's folder."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception:  # torch raises many kinds for a file that it did not write, and none of them helps
        raise CheckpointError(f"{path} is not a checkpoint written by torch.save, or it is damaged.") from None
    if not isinstance(state, dict) or not {"model", "preset", "metrics"} <= set(state):
        raise CheckpointError(f"{path} is not a checkpoint of train.py: it lacks model, preset or metrics.")
    return state


def network_of(state: Mapping[str, Any]) -> VGGFCN8:
    """The averaged network of a checkpoint, ready to answer."""
    preset = state["preset"]
    network = VGGFCN8(preset["width"], preset["batch_norm"], preset["head"])
    network.load_state_dict(state["model"])
    return network.eval()
