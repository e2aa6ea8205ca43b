# SPDX-License-Identifier: Apache-2.0
"""A look at each frame of a drive that may be taken: what a model says of it, in a few hundred bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from road_seg_node.inference import RoadSegmenter, road_mask
from road_seg_node.ros.images import ImageError
from train.frames.duplicates import NEAR, perceptual_hash
from train.picking import uncertainty
from train.picking.choice import ranks
from train.picking.drive import Drive, DriveFrame

ROUNDING = 1e-6  # seconds, of times since 1970
COARSE = (8, 6)  # columns and rows of a picture in which what is alike is near

# What can be in doubt, and how it is told.
REASONS = {
    "unsure": "unsure along the road's edge",
    "mirrored": "sees another road in the mirrored picture",
    "flicker": "sees another road in the next frame",
    "other": "the other model sees another road",
}


@dataclass
class Look:
    """What a frame showed, without the frame.

    Attributes:
        index, time, file: as a DriveFrame has them.
        size: height and width in pixels.
        measures: by the names of REASONS, each 0 to 1, or NaN where it is not known.
        hash: bool [256], see `duplicates`.
        coarse: uint8 [rows * columns * 4], the picture and its road.
    """

    drive: Drive
    index: int
    time: float | None
    file: Path
    size: tuple[int, int]
    measures: dict[str, float] = field(repr=False)
    hash: np.ndarray = field(repr=False)
    coarse: np.ndarray = field(repr=False)


class Looker:
    """Looks at drives with a model, and with a second one if there is one."""

    def __init__(
        self, model: RoadSegmenter, other: RoadSegmenter | None, every: float, tell: Callable[[str], None]
    ) -> None:
        """every: seconds from one frame to the next of a bag or video; of a folder each picture is looked at."""
        self._model, self._other, self._every, self._tell = model, other, every, tell
        self._models = [model, other] if other else [model]

    def looks(self, drive: Drive) -> Iterator[Look]:
        """One at a time, so that no more than two frames are decoded at once.

        Raises:
            DataError: the recording, or a picture of a folder, cannot be read.
            ProviderError: the model fails on it.
        """
        pending: tuple[Look, np.ndarray] | None = None  # whose next frame is still to come, and what was answered
        due = -math.inf
        broken: list[str] = []
        for frame in drive.frames():
            if pending is None and not _is_due(frame, due):
                continue
            try:
                picture = frame.decoded()
            except ImageError as error:
                broken.append(f"frame {frame.index}: {error}")
                continue
            if frame.index == 0:  # or it would be done beside this, from some frame on
                for model in self._models:
                    model.prepare(*picture.shape[:2])
            found, answer = perceptual_hash(picture), self._model.probability(picture)
            if pending is not None:
                look, before = pending
                if before.shape == answer.shape and np.count_nonzero(look.hash != found) <= NEAR:
                    look.measures["flicker"] = uncertainty.apart(before, answer)
                yield look
                pending = None
            if _is_due(frame, due):
                due = -math.inf if frame.time is None else frame.time + self._every
                pending = self._look(drive, frame, picture, answer, found), answer
        if pending is not None:
            yield pending[0]
        if broken:
            self._tell(f"{len(broken)} frame(s) of {drive.path} cannot be read and are left out: {broken[0]}")

    def _look(
        self, drive: Drive, frame: DriveFrame, picture: np.ndarray, answer: np.ndarray, found: np.ndarray
    ) -> Look:
        threshold = self._model.info.threshold
        mirrored = self._model.probability(picture[:, ::-1])[:, ::-1]
        measures = {
            "unsure": uncertainty.unsure(answer, road_mask(answer, threshold), threshold),
            "mirrored": uncertainty.apart(answer, mirrored),
            "flicker": math.nan,
            "other": uncertainty.apart(answer, self._other.probability(picture)) if self._other else math.nan,
        }
        seen = np.dstack([picture, answer])
        coarse = cv2.resize(seen, COARSE, interpolation=cv2.INTER_AREA).ravel()
        return Look(drive, frame.index, frame.time, frame.file, answer.shape, measures, found, coarse)


def doubts(looks: Iterable[Look]) -> tuple[np.ndarray, list[str]]:
    """Of each look, float [n] from 0 to 1: the mean rank of its measures among all; and that with the highest rank."""
    looks = list(looks)
    ranked = {name: ranks(np.array([look.measures[name] for look in looks])) for name in REASONS}
    table = np.stack(list(ranked.values()))
    return np.nanmean(table, axis=0), [list(REASONS)[i] for i in np.nanargmax(table, axis=0)]


def _is_due(frame: DriveFrame, due: float) -> bool:
    return frame.time is None or frame.time >= due - ROUNDING
