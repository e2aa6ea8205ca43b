# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: as many runs as folds, each validated on frames that it was not trained on."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.frames.picture_file import write_whole
from train.preset import PresetError
from train.run.distributed import Processes
from train.run.run_folder import RECORD, REPORT, recorded
from train.run.session import Export, Plan, carry_out
from train.score.report import FIGURES_FILE
from train.score.tally import PERSPECTIVE

SHOWN = ("max_f", "ap", "pre", "rec", "iou")

log = logging.getLogger("train")

Figures = dict[str, dict[str, float | None]]  # by category and name, as metrics.json has them


def folder_of(folder: Path, number: int) -> Path:
    """The run folder of one fold; folds are numbered from 1."""
    return folder.with_name(f"{folder.name}-fold{number}")


def cross_validate(plan: Plan, folds: int, processes: Processes, export: Export) -> None:
    """Carry out `plan` once a fold, in `<folder>-fold1` and on, and write `<folder>-folds.json` with what they came to.

    A resume passes over the folds that are done.

    Raises:
        PresetError: fewer than two folds.
        Others as `carry_out` does.
    """
    if folds < 2:
        raise PresetError(f"--folds is {folds}, but it takes at least 2 to cross-validate.")
    reports = []
    for number in range(1, folds + 1):
        folder = folder_of(plan.folder, number)
        report = folder / REPORT / FIGURES_FILE
        begun = plan.resume and (folder / RECORD).is_file()
        if begun:
            check_fold(folder, number, folds)
        if begun and report.is_file():
            log.info(f"Fold {number} of {folds} is done.")
        else:
            log.info(f"Fold {number} of {folds}.")
            carry_out(replace(plan, folder=folder, fold=(number, folds), resume=begun), processes, export)
        reports.append(report)
    if not processes.first:
        return
    summary = summarise([json.loads(report.read_text())[PERSPECTIVE] for report in reports])
    path = plan.folder.with_name(f"{plan.folder.name}-folds.json")
    write_whole(path, (json.dumps({PERSPECTIVE: summary}, indent=2) + "\n").encode())
    log.info(f"\nMean and standard deviation of {folds} folds:\n{table(summary)}\nWrote {path}.")


def check_fold(folder: Path, number: int, folds: int) -> None:
    """Raises PresetError where `folder` holds a run of another fold, whose held-out frames would be others."""
    fold = recorded(folder).get("fold")
    if fold is None or list(fold) != [number, folds]:
        what = "no fold" if fold is None else f"fold {fold[0]} of {fold[1]}"
        raise PresetError(f"{folder} is {what}, not {number} of {folds}. Resume with the same --folds, or start again.")


def summarise(folds: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation (of a sample) and values by category and figure.

    A category that a fold lacks is left out: whole drives may be held out, and then each fold has others.
    """
    summary: dict[str, dict[str, Any]] = {}
    for category in folds[0]:
        if any(category not in fold for fold in folds):
            continue
        summary[category] = {}
        for name in folds[0][category]:
            values = [fold[category][name] for fold in folds]
            known = [value for value in values if value is not None]
            summary[category][name] = {
                "mean": statistics.mean(known) if known else None,
                "deviation": statistics.stdev(known) if len(known) > 1 else None,
                "values": values,
            }
    return summary


def table(summary: dict[str, dict[str, Any]]) -> str:
    """For people: a row a category, in hundredths."""
    lines = [f"{'perspective':16}" + "".join(f" {name:>14}" for name in SHOWN)]
    for category, figures in summary.items():
        cells = []
        for name in SHOWN:
            mean, deviation = figures[name]["mean"], figures[name]["deviation"]
            cells.append("-" if mean is None or deviation is None else f"{100 * mean:.2f} ± {100 * deviation:.2f}")
        lines.append(f"{category:16}" + "".join(f" {cell:>14}" for cell in cells))
    return "\n".join(lines)
