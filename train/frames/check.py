# SPDX-License-Identifier: Apache-2.0
"""Frames checked before hours go into them, each once: what was found is remembered with the files' size and time.

Of an image the header and the end are read, the ground truth is decoded. What is broken in the middle of an image is
found when it is decoded, in the first epoch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from train.frames.data_error import DataError
from train.frames.frame import Frame, Pixels, each
from train.frames.picture_file import write_whole

VERSION = 2  # of what is checked; what another one found is forgotten

log = logging.getLogger("train")


def check(frames: Sequence[Frame], shown: bool = False) -> dict[Frame, Pixels]:
    """What is in each frame that comes from files; `shown`: with a progress bar.

    Raises:
        DataError: frames are broken; it names them.
    """
    start, threads = time.monotonic(), len(os.sched_getaffinity(0))
    frames = [frame for frame in frames if frame.files()]
    memories = {alike: _Memory(*alike) for alike in {_alike(frame) for frame in frames}}
    states = dict(zip(frames, each(frames, _state, threads), strict=True))

    def found(frame: Frame) -> list[int]:
        return memories[_alike(frame)].found.get(str(frame.image), [])

    def look(frame: Frame) -> None:
        memories[_alike(frame)].found[str(frame.image)] = [*frame.check(), *states[frame]]

    new = [frame for frame in frames if found(frame)[2:] != states[frame]]
    try:
        each(tqdm(new, "Checking", disable=None if shown else True, leave=False), look, threads)
    finally:  # once the broken ones are mended, the others need not be read again
        for alike in {_alike(frame) for frame in new}:
            memories[alike].keep()
    if new:
        log.info("Checked %d frames in %.1f s.", len(new), time.monotonic() - start)
    return {frame: Pixels(*found(frame)[:2]) for frame in frames}


class _Memory:
    """What was found in the frames of a folder that are read alike.

    Attributes:
        found: by image: its Pixels, and the size and time of change of each of the frame's files.
    """

    def __init__(self, folder: Path, reading: str) -> None:
        name = hashlib.sha256(os.fsencode(f"{VERSION} {folder.absolute()} {reading}")).hexdigest()
        caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        self.file = caches / "road_seg_node" / "checked" / f"{name[:32]}.json"
        self.found: dict[str, list[int]] = {}
        try:
            self.found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            pass

    def keep(self) -> None:
        try:
            write_whole(self.file, json.dumps(self.found).encode())
        except DataError:
            pass  # there is no home, or it is full: the frames are checked again the next time


def _alike(frame: Frame) -> tuple[Path, str]:
    return frame.folder, frame.reading


def _state(frame: Frame) -> list[int]:
    """By which a frame's files are known again."""
    state = []
    for path in frame.files():
        try:
            file = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        state += [file.st_size, file.st_mtime_ns]
    return state
