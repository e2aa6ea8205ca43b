# SPDX-License-Identifier: Apache-2.0
"""Several cameras: one node for all of them beside a node for each.

    .venv/bin/python bench/cameras.py --cameras 2,4 --rates 10,15 --seconds 20 --json cameras.json

Every camera and every node is a process, and so is the listener to all masks. docs/benchmarks.md explains it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.node import ROOT, Variant, end, percentile, processor_seconds, start
from road_seg_node.camera.sources import HEIGHT, WIDTH
from road_seg_node.shipped import COMPACT, shipped_file

HEADER = (
    f"{'nodes':24} {'cameras':>7} {'Hz':>3} {'sent':>5} {'answered':>8} {'share':>6} {'latency p50':>11} "
    f"{'p99':>6} {'CPU s':>6} {'ms a mask':>9} {'MB':>5}"
)


@dataclass(frozen=True)
class Layout:
    """How cameras are shared out among nodes; threads: of each node, 0: as they have it."""

    name: str
    together: bool
    threads: int = 0

    def commands(self, cameras: Sequence[str], model: Path) -> list[list[str | Path]]:
        common = ["-p", f"model:={model}", "-p", f"threads:={self.threads}", "--log-level", "warn"]
        program: list[str | Path] = ["-m", "road_seg_node.node.node", "--ros-args", *common]
        if self.together:
            topics = ", ".join(f"/{camera}/image" for camera in cameras)
            return [[*program, "-p", f"image_topics:=[{topics}]"]]
        return [[*program, "-r", f"__ns:=/{camera}"] for camera in cameras]

    def mask(self, camera: str) -> str:
        return f"/road_seg/{camera}/mask" if self.together else f"/{camera}/road_seg/mask"


LAYOUTS = (
    Layout("one for all", together=True),
    Layout("one each", together=False),
    Layout("one each, 1 thread", together=False, threads=1),
)


def measure(layout: Layout, count: int, rate: float, seconds: float, model: Path) -> dict[str, Any]:
    environ = Variant("", plain=False, profile=True).environ()
    names = [f"camera_{number}" for number in range(count)]
    processes: list[subprocess.Popen[str]] = []

    def begin(command: list[str | Path]) -> subprocess.Popen[str]:
        processes.append(start(environ, command))
        return processes[-1]

    steady: list[str | Path] = [ROOT / "bench" / "steady_camera.py", "--rate", str(rate), "--seconds", str(seconds)]
    try:
        nodes = [begin(command) for command in layout.commands(names, model)]
        listener = begin([ROOT / "bench" / "mask_listener.py", *map(layout.mask, names)])
        cameras = [begin([*steady, "--hold", "--ros-args", "-r", f"__ns:=/{name}"]) for name in names]
        for camera in cameras:
            said(camera)
        before = sum(map(processor_seconds, nodes))
        for camera in cameras:
            print(file=camera.stdin, flush=True)
        begun = min(said(camera)["begun"] for camera in cameras)
        sent = [said(camera)["sent"] for camera in cameras]
        for camera in cameras:
            camera.wait(60)
        processor = sum(map(processor_seconds, nodes)) - before
        memory = sum(map(resident, nodes))
        masks = [latency for stamp, latency in end(listener)["masks"] if stamp >= begun]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    latencies = [1000 * latency for latency in masks]
    return {
        "nodes": layout.name,
        "cameras": count,
        "hz": rate,
        "sent": sum(sent),
        "answered": len(masks),
        "latency_p50_ms": percentile(latencies, 0.5),
        "latency_p99_ms": percentile(latencies, 0.99),
        "cpu_s": processor,
        "cpu_ms_a_mask": 1000 * processor / max(1, len(masks)),
        "resident_mb": memory,
    }


def said(process: subprocess.Popen[str]) -> Any:
    """The next line of JSON that it prints."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def resident(process: subprocess.Popen[str]) -> float:
    """Memory in MB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['nodes']:24} {row['cameras']:7} {row['hz']:3.0f} {row['sent']:5} {row['answered']:8} "
        f"{row['answered'] / row['sent']:6.1%} {row['latency_p50_ms']:11.1f} {row['latency_p99_ms']:6.1f} "
        f"{row['cpu_s']:6.1f} {row['cpu_ms_a_mask']:9.1f} {row['resident_mb']:5.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="2,4", help="how many (default: 2,4)")
    parser.add_argument("--rates", default="10,15", help="of each camera, in Hz (default: 10,15)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run (default: 20)")
    parser.add_argument("--model", type=Path, default=shipped_file(COMPACT), help="default: the shipped model")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    print(f"{WIDTH}x{HEIGHT} bgr8, {options.seconds:g} s each, {os.cpu_count()} cores, {options.model.name}")
    print(HEADER, flush=True)
    rows = []
    for count in map(int, options.cameras.split(",")):
        for rate in map(float, options.rates.split(",")):
            for layout in LAYOUTS:
                rows.append(measure(layout, count, rate, options.seconds, options.model))
                print(line(rows[-1]), flush=True)
    if options.json:
        beside = options.json.with_name(options.json.name + ".part")
        beside.write_text(json.dumps(rows, indent=1) + "\n")
        beside.replace(options.json)


if __name__ == "__main__":
    main()
