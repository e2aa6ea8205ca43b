# SPDX-License-Identifier: Apache-2.0
"""The page that people look at after an evaluation: figures, curves, and the best and the worst frames."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.frames.picture_file import write_whole
from train.frames.pictures import errors
from train.score.answers import Answers
from train.score.metrics import FIGURES, RoadCounts, text
from train.score.tally import POOLED, shown

FIGURES_FILE, PAGE_FILE = "metrics.json", "report.png"
SHOWN = 3  # best and worst frames
MOST_CURVES = 6  # with more categories a plot shows the pooled counts alone
MOST_ROWS = 12  # of the table, likewise
WIDTH = 15.0  # inches, of 100 pixels each


def prepare(folder: Path) -> None:
    """Make the report's folder and try to write there, so that a wrong one shows before the evaluation.

    Raises:
        DataError: it cannot be made or written.
    """
    try:
        folder.mkdir(exist_ok=True)  # not its parents: the path may be mistyped
    except OSError as error:
        raise DataError(f"{folder} cannot be made a folder: {error.strerror or error}.") from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}.") from None


def write(
    folder: Path,
    answers: Answers,
    data: str,
    views: Mapping[str, Mapping[str, RoadCounts]],
    ranking: Sequence[tuple[float, Frame]],
) -> None:
    """Write metrics.json, the figures by view and category, and report.png, the page.

    `ranking` holds (IoU, frame); the frames at its ends are read and answered again for their pictures.
    """
    figures = {view: {name: counts.figures() for name, counts in rows.items()} for view, rows in views.items()}
    write_whole(folder / FIGURES_FILE, (json.dumps(figures, indent=2, allow_nan=False) + "\n").encode())
    ranked = sorted(ranking, key=lambda entry: (entry[0], entry[1].image))
    number = min(SHOWN, (len(ranked) + 1) // 2)
    pictures = []
    for i in range(number):
        for end, (iou, frame) in (("best", ranked[-1 - i]), ("worst", ranked[i])):
            image, labels = frame.read(strict=False)
            picture = errors(image, answers.road(frame, image), labels, answers.threshold)
            pictures.append((f"{end}: {frame.image.stem}, IoU {iou:.4f}", picture))
    title = f"{answers.title}\n{data}"
    write_whole(folder / PAGE_FILE, page(title, views, pictures, answers.threshold))


def page(
    title: str,
    views: Mapping[str, Mapping[str, RoadCounts]],
    frames: Sequence[tuple[str, np.ndarray]],
    threshold: float,
) -> bytes:
    """A PNG.

    Args:
        title: what was evaluated, on what.
        views: counts by view and category, "urban" among them.
        frames: (caption, picture uint8 [H, W, 3] BGR) in rows of two.
        threshold: of the pictures; it is marked in the curves.
    """
    tables = {name: shown(counts, MOST_ROWS) for name, counts in views.items()}
    pictures = [frames[i : i + 2] for i in range(0, len(frames), 2)]
    heights = [0.5]
    for rows in tables.values():
        heights += [0.5 + 0.28 * (len(rows) + 1), 4.6]
    if pictures:
        heights.append(0.4)
    heights += [max(p.shape[0] / p.shape[1] for _, p in row) * (WIDTH - 1) / 2 + 0.4 for row in pictures]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=100, layout="constrained")
    bands = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    next(bands).text(0.5, 0.5, title, ha="center", va="center", fontsize=13)
    for view, counts in views.items():
        _table(next(bands).subplots(), view, tables[view])
        curves, thresholds, reliability = next(bands).subplots(1, 3)
        _precision_recall(curves, shown(counts, MOST_CURVES))
        _by_threshold(thresholds, counts[POOLED], threshold)
        _reliability(reliability, counts[POOLED])
    if pictures:
        legend = f"At {threshold:.3f}. Green: road, and found. Red: road, and missed. Blue: called road, and is not."
        next(bands).text(0.5, 0.4, f"{legend} Dark: counts nowhere.", ha="center", va="center", fontsize=11)
    for row in pictures:
        for axes, (caption, picture) in zip(next(bands).subplots(1, 2), row, strict=True):
            axes.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), interpolation="antialiased")
            axes.set_title(caption, fontsize=10)
            axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


def _table(axes: Axes, view: str, rows: Mapping[str, RoadCounts]) -> None:
    axes.set_axis_off()
    axes.set_title(view, fontsize=12, fontweight="bold")
    cells = [[text(value) for value in counts.figures().values()] for counts in rows.values()]
    names = list(rows)
    table = axes.table(cells, rowLabels=names, colLabels=FIGURES, loc="center", cellLoc="right", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(10)
    table.scale(0.9, 1.3)


def _precision_recall(axes: Axes, categories: Mapping[str, RoadCounts]) -> None:
    for name, counts in categories.items():
        if not counts.road.any():
            continue
        precision, recall = counts.precision_recall()
        best = counts.f_by_threshold().argmax()
        (line,) = axes.plot(recall, precision, label=name, linewidth=2.5 if name == POOLED else 1.2)
        axes.plot(recall[best], precision[best], "o", color=line.get_color())
    axes.set(title="precision and recall; dots at MaxF", xlabel="recall", ylabel="precision")
    _square(axes)
    if axes.lines:
        axes.legend(loc="lower left")


def _by_threshold(axes: Axes, counts: RoadCounts, threshold: float) -> None:
    if counts.road.any():
        f, thresholds = counts.f_by_threshold(), np.arange(256) / 255
        axes.plot(thresholds[: len(f)], f, label="F1")
        axes.plot(thresholds, counts.iou_by_threshold(), label="IoU")
        axes.axvline(f.argmax() / 255, color="grey", linestyle=":", label=f"best, {f.argmax() / 255:.3f}")
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"own, {threshold:.3f}")
    axes.set(title=f"F1 and IoU, {POOLED}", xlabel="threshold")
    _square(axes)
    axes.legend(loc="lower center")


def _reliability(axes: Axes, counts: RoadCounts) -> None:
    said, found, share = counts.calibration()
    edges = np.linspace(0, 1, len(share) + 1)
    axes.bar(edges[:-1], share, width=edges[1], align="edge", color="lightgrey", label="share of pixels")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(said, found, "o-", label="share that is road")
    axes.set(title=f"reliability, {POOLED}; ECE {text(counts.calibration_error())}", xlabel="P(road)")
    _square(axes)
    axes.legend(loc="upper left")


def _square(axes: Axes) -> None:
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
