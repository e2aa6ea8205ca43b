# SPDX-License-Identifier: Apache-2.0
"""RoadSegmenter beside every other way to run the same network, in one table; docs/benchmarks.md explains it.

    .venv/bin/python bench/engine.py --models ~/bench_models --calibration data/camvid_road/training --json engine.json

Every engine has a process of its own. They take turns, a few frames each, round after round, so that whatever else the
machine does affects all of them alike. While one works, the others wait.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    import onnx  # noqa: F401  what makes the files needs it
except ImportError as missing:
    sys.exit(f"engine.py: {missing.name} is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import numpy as np

from bench import roofline
from bench.engine_models import FULL, HEIGHT, WIDTH, CannotCompareError, Model, make_full, prepare, quantised
from bench.engine_rows import Opened, Process, Row, Turn, rows_of
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.shipped import shipped_file

SHIPPED = "models/road_seg_compact.onnx"
GIB = 1 << 30
WAITING = 0.2  # seconds of CPU time between two turns that are told
HEADER = (
    f"{'scope':12} {'engine':24} {'prec.':5} {'median ms':>9} {'p99 ms':>8} {'peak MB':>7} {'CPU s':>6} "
    f"{'largest':>7} {'mean':>5} {'GFLOP/s':>7} {'roofline':>8}"
)


@dataclass
class Result:
    """All turns of one row."""

    row: Row
    opened: Opened
    turns: list[Turn] = field(default_factory=list)

    def figures(self, limits: dict[str, roofline.Roofline]) -> dict[str, Any]:
        """The row of the table and of the JSON file."""
        layers = self.row.model.layers
        times = np.array([seconds for turn in self.turns for seconds in turn.seconds])
        median = float(np.median(times))
        limit = limits[device_of(self.row)].seconds(layers, self.opened.precision)
        largest, mean = self.opened.difference or (None, None)
        return {
            "model": self.row.model.name,
            "engine": self.row.engine,
            "precision": self.opened.precision,
            "asked": self.row.precision,
            "scope": self.row.scope,
            "frames": len(times),
            "median_ms": 1e3 * median,
            "p99_ms": 1e3 * float(np.percentile(times, 99)),
            "peak_mb": max(turn.peak for turn in self.turns) / 1e6,
            "cpu_s": sum(turn.processor for turn in self.turns) / len(times),
            "waiting_cpu_s": max(turn.waiting for turn in self.turns),
            "largest_difference": largest,
            "mean_difference": mean,
            "gflops": sum(layer.operations for layer in layers) / median / 1e9 if layers else None,
            "roofline": limit / median if limit else None,
        }


def device_of(row: Row) -> str:
    """The hardware that a row computes on: "cuda" for TensorRT as well, "cpu" for OpenVINO."""
    return "cuda" if row.device in ("cuda", "tensorrt") else "cpu"


def measure(rows: list[Row], rounds: int, frames: int, left_out: dict[str, list[str]]) -> list[Result]:
    """Let the rows take turns; for those that do not work, `left_out` gets the reason, and whom it concerns."""
    reserve = GIB + 4 * max((row.model.whole.stat().st_size for row in rows), default=0)
    results: dict[Row, Result] = {}
    waiting: dict[Row, Process] = {}
    refused: set[Row] = set()
    try:
        for i in range(rounds):
            for row in (row for row in rows if row not in refused):
                print(f"round {i + 1} of {rounds}: {row.label}", file=sys.stderr)
                try:
                    process = waiting.pop(row, None) or Process(row)
                    result = results.setdefault(row, Result(row, process.opened))
                    result.turns.append(process.turn(frames))
                except CannotCompareError as error:
                    refused.add(row)
                    results.pop(row, None)
                    left_out.setdefault(str(error), []).append(f"{row.engine} {row.precision} {row.scope}")
                    continue
                # Where memory is too short for all of them at once, the last are opened anew for each turn.
                if memory_available() > reserve and i + 1 < rounds:
                    waiting[row] = process
                else:
                    process.stop()
    finally:
        for process in waiting.values():
            process.stop()
    return list(results.values())


def memory_available() -> int:
    """Bytes that can be had without swapping (Linux)."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def table(model: Model, rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows of one model, the fastest of each scope first."""
    operations, weights = (sum(getattr(layer, what) for layer in model.layers) for what in ("operations", "weights"))
    cost = f"{weights / 1e6:.1f} M weights, {operations / 1e9:.1f} GFLOP at {model.size[1]}x{model.size[0]}"
    yield f"{model.name}: {model.info.architecture}, {cost}"
    yield HEADER
    for row in sorted(rows, key=lambda row: (row["scope"] != "whole", row["median_ms"])):
        largest, mean, speed, share = (
            "-" if row[key] is None else format(row[key], spec)
            for key, spec in (("largest_difference", ".0f"), ("mean_difference", ".2f"), ("gflops", ".0f"))
            + (("roofline", ".0%"),)
        )
        yield (
            f"{row['scope']:12} {row['engine']:24} {row['precision']:5} {row['median_ms']:9.2f} {row['p99_ms']:8.2f} "
            f"{row['peak_mb']:7.0f} {row['cpu_s']:6.3f} {largest:>7} {mean:>5} {speed:>7} {share:>8}"
        )


def comparisons(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What one row says of another, both of one model."""
    time = {(row["engine"], row["asked"], row["scope"]): row["median_ms"] for row in rows}
    for (engine, asked, scope), bare in time.items():
        whole = time.get((engine, asked, "whole"))
        if scope == "bare network" and whole is not None:
            yield f"{engine} {asked}: before and after the network {whole - bare:.2f} ms (whole less bare network)"
    for row in rows:
        if row["waiting_cpu_s"] > WAITING:
            seconds = f"{row['waiting_cpu_s']:.1f} s of CPU time"
            yield f"{row['engine']} {row['asked']} took {seconds} while it waited, which the others then lacked"
    for asked in ("fp32", "int8"):
        ours, bare = (time.get((engine, asked, "whole")) for engine in ("RoadSegmenter cpu", "session.run cpu"))
        if ours is not None and bare is not None:
            added = ours - bare
            yield f"RoadSegmenter adds {added:.2f} ms ({added / bare:.1%}) to session.run, {asked} on the CPU"
    best = min((row for row in rows if row["engine"].startswith("RoadSegmenter")), key=median_of, default=None)
    if best is None:
        return
    yield f"Of ours the fastest: {best['engine']} {best['precision']}, {1e3 / best['median_ms']:.1f} frames a second"
    rivals = [("ONNX Runtime CPU", "fp32", "whole")]
    rivals += [("OpenVINO", asked, scope) for scope in ("whole", "bare network") for asked in ("default", "int8")]
    for rival in rivals:
        if rival in time:
            yield f"  it takes {best['median_ms'] / time[rival]:.3f} of the time of {' '.join(rival)}"


def median_of(row: dict[str, Any]) -> float:
    return row["median_ms"]


def versions() -> str:
    found = []
    for package in ("torch", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "openvino"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown CPU"


def in_a_process(function: Any, *arguments: Any) -> Any:
    """Call `function` in a process of its own, whose memory and threads then are gone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def models(options: argparse.Namespace, folder: Path) -> Iterator[Model]:
    """The models that were asked for, with their int8 files where these can be had; says so where not."""
    kept = options.models or folder
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.model or [FULL, str(shipped_file(SHIPPED))]:
        checkpoints = list(options.checkpoint)
        try:
            file = in_a_process(make_full, kept) if name == FULL else Path(name)
            if name == FULL:
                checkpoints.append(file.with_suffix(".pt"))
            int8 = None
            try:
                int8 = quantised(file, kept, options.calibration)
            except CannotCompareError as error:
                print(error)
            yield in_a_process(prepare, file, int8, checkpoints, folder)
        except (CannotCompareError, ModelFileError) as error:
            print(f"{name} is left out: {error}")


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        action="append",
        metavar="FILE",
        help=f"a model file; may be repeated (default: {FULL}, which is created, and {SHIPPED})",
    )
    parser.add_argument("--checkpoint", action="append", type=Path, default=[], help="the checkpoint of a FILE")
    parser.add_argument("--models", type=Path, metavar="DIR", help="keep created models here (default: removed)")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="frames to calibrate int8 files with")
    parser.add_argument(
        "--only",
        type=pattern,
        default="",
        metavar="PATTERN",
        help='only rows whose "model engine precision scope" matches this regular expression',
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns of each row (default: 10)")
    parser.add_argument("--frames", type=int, default=20, help="frames in each turn (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    options = parser.parse_args()
    if min(options.rounds, options.frames) < 1:
        parser.error("--rounds and --frames must be 1 or more")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"there is no folder {options.json.parent} for --json")
    written: list[dict[str, Any]] = []
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores; {versions()}")
    print(f"{options.rounds} rounds of {options.frames} frames, {WIDTH}x{HEIGHT} uint8 in and out where whole")
    limits: dict[str, roofline.Roofline] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models(options, Path(folder)):
            left_out: dict[str, list[str]] = {}
            rows = [row for row in rows_of(model) if re.search(options.only, row.label)]
            if not rows:
                continue
            results = measure(rows, options.rounds, options.frames, left_out)
            for device in {device_of(result.row) for result in results}:
                limits.setdefault(device, roofline.Roofline()).better(in_a_process(roofline.measure, device))
            figures = [result.figures(limits) for result in results]
            print("", *table(model, figures), *comparisons(figures), sep="\n")
            for reason, names in left_out.items():
                print(f"Left out: {', '.join(names)}: {reason}", flush=True)
            written += figures
    for device, limit in limits.items():
        print("", *limit.lines(device), sep="\n")
    if options.json:
        beside = options.json.with_name(f".{options.json.name}.{os.getpid()}.part")
        beside.write_text(json.dumps(written, indent=1) + "\n")
        beside.replace(options.json)
    if not written:
        sys.exit("engine.py: no row was measured; the reasons are above.")


if __name__ == "__main__":
    main()
