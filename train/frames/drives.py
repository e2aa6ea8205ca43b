# SPDX-License-Identifier: Apache-2.0
"""The drives of frames: leaving some out, and holding some out to validate on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction

from train.frames.data_error import DataError
from train.frames.frame import Frame

MANY_DRIVES = 10  # from so many on, whole drives are held out


def leave_out(frames: Iterable[Frame], drives: Sequence[str]) -> list[Frame]:
    """Frames whose drive is not among `drives`.

    Raises:
        DataError: a name that no frame has, since a misspelt drive would silently stay in; or no frame is left.
    """
    frames = list(frames)
    unwanted = set(only_drives(frames, drives))
    kept = [frame for frame in frames if frame not in unwanted]
    if not kept:
        raise DataError(f"Leaving out {', '.join(drives)} leaves no frame.")
    return kept


def only_drives(frames: Iterable[Frame], drives: Sequence[str]) -> list[Frame]:
    """Frames whose drive is among `drives`.

    Raises:
        DataError: a name that no frame has.
    """
    frames = list(frames)
    known = {frame.drive for frame in frames}
    for drive in drives:
        if drive not in known:
            raise DataError(f"No frame belongs to the drive '{drive}'. The drives are: {', '.join(sorted(known))}.")
    return [frame for frame in frames if frame.drive in drives]


def split_validation(frames: Sequence[Frame], share: float) -> tuple[list[Frame], list[Frame]]:
    """(training, validation) of one folder, near `share` of it held out, the same on every machine.

    With ten drives or more, whole drives are held out, evenly among their names; with fewer, the last
    frames of each drive. Neighbours in a drive look alike: a frame drawn at random would be half known.
    """
    drives = by_drive(frames)
    if len(drives) >= MANY_DRIVES:
        part = Fraction(str(share))  # 0.1 as it is written
        held = {name for i, name in enumerate(sorted(drives)) if (i + 1) * part // 1 > i * part // 1} or {max(drives)}
        validation = [f for f in frames if f.drive in held]
    else:
        validation = []
        for members in drives.values():
            held_out = min(max(1, round(share * len(members))), len(members) - 1)
            validation += members[len(members) - held_out :]
    chosen = set(validation)
    return [f for f in frames if f not in chosen], validation


def split_fold(frames: Sequence[Frame], number: int, folds: int) -> tuple[list[Frame], list[Frame]]:
    """(training, held out) of one folder for fold `number` of `folds`, from 1; each frame is held out in one fold.

    As `split_validation` does: with many drives, whole ones are held out; with few, as of KITTI's three categories, a
    part of each that hangs together, since neighbours in a drive look alike.
    """
    drives = by_drive(frames)
    held: set[Frame] = set()
    if len(drives) >= max(MANY_DRIVES, folds):
        held.update(frame for drive in sorted(drives)[number - 1 :: folds] for frame in drives[drive])
    else:
        for members in drives.values():
            held.update(members[len(members) * (number - 1) // folds : len(members) * number // folds])
    return [frame for frame in frames if frame not in held], [frame for frame in frames if frame in held]


def by_drive(frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """The frames of each drive."""
    drives: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        drives[frame.drive].append(frame)
    return drives
