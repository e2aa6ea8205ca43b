# SPDX-License-Identifier: Apache-2.0
"""Frames answered and counted in several processes, each with a model of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

import numpy as np

from train.frames.kitti import Frame
from train.score.answers import Answers
from train.score.metrics import RoadCounts
from train.score.tally import Tally, count

_answers: Answers  # of this process, which is a worker


class Workers:
    """`number` processes, whose counts are integers and sum to exactly what one process counts; a context manager."""

    def __init__(self, number: int, opened: Callable[[], Answers]) -> None:
        """`opened` makes the answers of a worker; a module's function, or a partial of one."""
        self.number = number
        # Spawned, not forked: ONNX Runtime's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, context, _open, (opened,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def count(
        self, frames: Sequence[Frame], lanes: set[Frame], homographies: Mapping[Frame, np.ndarray], tally: Tally
    ) -> RoadCounts:
        """As `train.tally.count`."""
        parts = [frames[i :: self.number] for i in range(self.number)]
        tasks = [
            self._pool.submit(
                _count, part, lanes, {frame: homographies[frame] for frame in part if frame in homographies}
            )
            for part in parts
        ]
        counts = RoadCounts()
        for task in tasks:
            own, part = task.result()
            counts += own
            tally.add_all(part)
        return counts


def _open(opened: Callable[[], Answers]) -> None:
    global _answers
    _answers = opened()


def _count(
    frames: Sequence[Frame], lanes: set[Frame], homographies: Mapping[Frame, np.ndarray]
) -> tuple[RoadCounts, Tally]:
    tally = Tally()
    return count(_answers, frames, lanes, homographies, tally), tally
