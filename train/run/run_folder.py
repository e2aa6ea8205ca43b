# SPDX-License-Identifier: Apache-2.0
"""The folder of a run, beside its checkpoints: what it was made of, and what it said.

preset.yaml        every value of the preset, with the command line's changes; --preset takes it
run.json           the other options, and of every start: command, code, machine
uncommitted.patch  what the code had besides its commit
log.txt            what was said
events.out.*       for TensorBoard
road_seg.onnx      the model file
report/            its evaluation on the held-out frames
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import yaml

from train.frames.data_error import DataError
from train.frames.picture_file import write_whole
from train.network import checkpoint
from train.preset import Preset
from train.run import environment
from train.run.distributed import Processes

PRESET, RECORD, PATCH, LOG = "preset.yaml", "run.json", "uncommitted.patch", "log.txt"
MODEL, REPORT = "road_seg.onnx", "report"


class RunLog(MemoryHandler):
    """Keeps what is said until the run has a folder, then writes it to log.txt there."""

    def __init__(self) -> None:
        super().__init__(capacity=sys.maxsize, flushLevel=sys.maxsize)

    def open(self, folder: Path) -> None:
        """Raises OSError."""
        self.shut()
        self.setTarget(_LogFile(folder / LOG))
        self.capacity = 1  # from now on every line at once
        self.flush()

    def shut(self) -> None:
        """Keep again what is said, until another folder is opened."""
        if self.target is not None:
            self.target.close()
        self.setTarget(None)
        self.capacity = sys.maxsize


class _LogFile(logging.FileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="surrogateescape")
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk ends the run with a sentence, except where that sentence is what cannot be written."""
        if record.levelno < logging.ERROR:
            raise  # noqa: PLE0704 (the error that is being handled)


def recorded(folder: Path) -> dict[str, Any]:
    """The options of the run in `folder`.

    Raises:
        DataError: there is none.
    """
    options: dict[str, Any] = _read(folder)["options"]
    return options


def check_frames(folder: Path, fingerprint: str) -> None:
    """Raises DataError where the run in `folder` is of other frames than those with this fingerprint."""
    if _read(folder).get("frames", fingerprint) != fingerprint:  # runs of older versions did not note it
        raise DataError(
            f"{folder} was trained and validated on other frames than --data and --leave-out say now. Resume it with "
            "the same ones, or start again with another --run-folder."
        )


def check_writable(folder: Path) -> None:
    """Raises DataError where the run's folder could not be made or written, before hours go into it."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise DataError(f"{there} is a file, so no run can be stored in {folder}. Choose another --run-folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(
            f"{there} is not writable, so no run can be stored in {folder}. Choose another --run-folder."
        )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(record["options"], dict) or not isinstance(record["starts"], list):
            raise TypeError("it is no record of a run")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is nothing to resume in {folder}: it has no {path.name}. Name a run.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Start the run again.") from None
    return record


def record(
    folder: Path,
    preset: Preset,
    options: dict[str, Any],
    frames: str,
    begin: str,
    processes: Processes,
    resumed: bool,
) -> None:
    """Note what the run is made of, and open its log; `begin` says where in the run this start begins.

    `frames` is their fingerprint.

    Raises:
        DataError: the folder cannot be made or written.
    """
    path = folder / RECORD
    code = environment.commit()
    start = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "begin": begin,
        "command": shlex.join([sys.executable, *sys.argv]),
        "directory": str(Path.cwd()),
        "code": code,
        "machine": environment.machine(processes),
    }
    starts = _read(folder)["starts"] if resumed else []
    if not checkpoint.exists(folder):  # a run that was broken off before its first may go on with another preset
        text = yaml.safe_dump(preset.as_dict(), sort_keys=False, allow_unicode=True)
        write_whole(folder / PRESET, text.encode())
    if code and code["uncommitted_changes"]:
        write_whole(folder / PATCH, (environment.git("diff", "HEAD") or "").encode())
    text = json.dumps({"options": options, "frames": frames, "starts": [*starts, start]}, indent=2)
    write_whole(path, f"{text}\n".encode())
    for handler in _run_logs():
        handler.open(folder)


def close_log() -> None:
    """End the log of a run that is done."""
    for handler in _run_logs():
        handler.shut()


def _run_logs() -> list[RunLog]:
    return [handler for handler in logging.getLogger("train").handlers if isinstance(handler, RunLog)]
