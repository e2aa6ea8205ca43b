# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation, and its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.score import birdseye
from train.score.answers import Answers, Predictions
from train.score.metrics import FIGURES, text
from train.score.tally import BIRDSEYE, Tally, count, shown

MOST_ROWS = 12  # of a table on the screen


def lanes_of(answers: Answers, frames: Iterable[Frame], submit: bool) -> set[Frame]:
    """The frames whose ego lane is evaluated or submitted: those with its ground truth, or KITTI's um."""
    if submit:
        frames = [frame for frame in frames if frame.drive == "um"]
        return set(frames) if isinstance(answers, Predictions) and answers.has_lane(frames) else set()
    frames = [frame for frame in frames if frame.lane_ground_truth.is_file()]
    return set(frames) if answers.has_lane(frames) else set()


def print_figures(view: str, tally: Tally) -> None:
    """KITTI's table of one view."""
    categories = tally.by_category(view)
    print(f"\n{view:16}" + "".join(f" {name:>9}" for name in FIGURES))
    for name, counts in shown(categories, MOST_ROWS).items():
        print(f"{name:16}" + "".join(f" {text(value):>9}" for value in counts.figures().values()))
    if len(categories) > MOST_ROWS:
        print(f"The {len(categories) - 1} categories that are pooled here are in the metrics.json of --out.")


def evaluate(
    answers: Answers,
    sets: dict[str, list[Frame]],
    views: Sequence[str],
    out: Path | None,
    threads: int = 0,
) -> None:
    """Print the tables, road IoU by data set and KITTI's by view; write the report into `out`."""
    frames = [frame for members in sets.values() for frame in members]
    answers.check(frames)
    lanes = lanes_of(answers, frames, submit=False)
    homographies = birdseye.homographies(frames) if BIRDSEYE in views else {}
    if out:
        try:
            from train.score import report
        except ImportError as missing:
            raise DataError(f"{missing.name} is not installed here, which --out needs. Run `make setup`.") from None
        report.prepare(out)
    tally = Tally()
    print(answers.title)
    if answers.caveat:
        print(f"The figures may be off on this machine: {answers.caveat}.")
    print(f"{'data set (frames)':36} {'road IoU':>9} {'at 0.5':>7} {'best':>7} {'at':>6}")
    for name, members in sets.items():
        counts = count(answers, members, lanes, homographies, tally, threads)
        best = counts.best_threshold()
        figures = (counts.iou(answers.threshold), counts.iou(), counts.iou(best), best)
        print(f"{name:36} {figures[0]:9.4f} {figures[1]:7.4f} {figures[2]:7.4f} {figures[3]:6.3f}", flush=True)
    for view in views:
        print_figures(view, tally)
    if lanes:
        print(answers.lane_note)
    if out:
        report.write(out, answers, ", ".join(sets), {view: tally.by_category(view) for view in views}, tally.ranking)
        print(f"\nWrote {out / report.FIGURES_FILE} and {out / report.PAGE_FILE}.")
