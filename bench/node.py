# SPDX-License-Identifier: Apache-2.0
"""From the camera to the mask over real DDS: the node beside the plainest one you could write.

    .venv/bin/python bench/node.py --rates 10,30,60 --seconds 60 --json node.json

Camera, node and listener are three processes. docs/benchmarks.md explains the table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from road_seg_node.camera.sources import HEIGHT, WIDTH
from road_seg_node.node.frame_accounts import WINDOW
from road_seg_node.ros.dds_profile import VARIABLES, use_shipped_profile
from road_seg_node.ros.ros_domain import unused_domain
from road_seg_node.shipped import COMPACT, shipped_file

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("transport", "wait", "convert", "infer", "publish")
OWN = ("wait", "convert", "publish")  # what the node adds to transport and inference
HEADER = (
    f"{'node':30} {'Hz':>3} {'sent':>5} {'arrived':>7} {'answered':>8} {'superseded':>10} {'masks':>5} "
    f"{'latency p50':>11} {'p99':>6} {'begin':>6} {'end':>6} {'transport':>9} {'infer':>6} {'own':>5} {'CPU s':>6}"
)


@dataclass(frozen=True)
class Variant:
    """A node to be measured, with the shipped Fast DDS profile in all three processes or with none."""

    name: str
    plain: bool
    profile: bool

    def environ(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environ.setdefault("ROS_DOMAIN_ID", str(unused_domain()))
        if self.profile:
            use_shipped_profile(environ)
        return environ

    def command(self, model: Path) -> list[str | Path]:
        if self.plain:
            return [ROOT / "bench" / "plain_node.py", model]
        return ["-m", "road_seg_node.node.node", "--ros-args", "-p", f"model:={model}", "--log-level", "warn"]


VARIANTS = (
    Variant("road_seg_node", plain=False, profile=True),
    Variant("plain node", plain=True, profile=False),
    Variant("plain node, shipped profile", plain=True, profile=True),
    Variant("road_seg_node, no profile", plain=False, profile=False),
)


def start(environ: dict[str, str], command: list[str | Path]) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *command], env=environ, cwd=ROOT, text=True, **pipes)


def end(process: subprocess.Popen[str]) -> Any:
    """Ctrl-C, and the JSON that the process prints at its end; None where there is none."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0].strip().splitlines()
    return json.loads(said[-1]) if said else None


def processor_seconds(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(variant: Variant, rate: float, seconds: float, model: Path) -> dict[str, Any]:
    """A row: what became of the frames of one run."""
    environ = variant.environ()
    processes = [start(environ, variant.command(model)), start(environ, [ROOT / "bench" / "mask_listener.py"])]
    node, listener = processes
    try:
        camera_command = [ROOT / "bench" / "steady_camera.py", "--rate", str(rate), "--seconds", str(seconds)]
        camera = start(environ, camera_command)
        processes.append(camera)
        assert camera.stdout is not None
        begun = json.loads(camera.stdout.readline())["begun"]
        before = processor_seconds(node)
        sent = json.loads(camera.stdout.readline())
        camera.wait(60)
        processor = processor_seconds(node) - before
        heard = end(listener)
        frames = end(node)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    row = {"node": variant.name, "hz": rate, "sent": sent["sent"], "late": sent["late"], "cpu_s": processor}
    row |= _plain(frames, begun) if variant.plain else _ours(heard["reports"], begun)
    latencies = [1000 * latency for stamp, latency in heard["masks"] if stamp >= begun]
    third = max(1, len(latencies) // 3)
    return row | {
        "masks": len(latencies),
        "latency_p50_ms": percentile(latencies, 0.5),
        "latency_p99_ms": percentile(latencies, 0.99),
        "first_third_p50_ms": percentile(latencies[:third], 0.5),
        "last_third_p50_ms": percentile(latencies[-third:], 0.5),
    }


def _plain(frames: list[tuple[int, dict[str, float]]], begun: int) -> dict[str, Any]:
    counted = [seconds for stamp, seconds in frames if stamp >= begun]
    row: dict[str, Any] = {"arrived": len(counted), "answered": len(counted), "superseded": 0}
    for stage in STAGES:
        values = [1000 * seconds[stage] for seconds in counted if stage in seconds]
        row |= {f"{stage}_p50_ms": percentile(values, 0.5), f"{stage}_p99_ms": percentile(values, 0.99)}
    return row | _own(row)


def _ours(reports: list[tuple[float, dict[str, str]]], begun: int) -> dict[str, Any]:
    """From /diagnostics: the median of its p50, once a second, and the worst of its p99."""
    before = [values for at, values in reports if at < begun / 1e9][-1]
    after = [values for at, values in reports if at > begun / 1e9 + 1]
    row: dict[str, Any] = {}
    for name, key in (("arrived", "received"), ("answered", "answered"), ("superseded", "superseded")):
        row[name] = int(after[-1][f"frames {key}"]) - int(before[f"frames {key}"])
    # Its percentiles are of the last WINDOW frames, which only then are all of this run.
    answered = int(before["frames answered"]) + WINDOW
    full = [values for values in after if int(values["frames answered"]) >= answered] or after[-1:]
    for stage in STAGES:
        p50, p99 = ([float(values[f"{stage} {p} [ms]"]) for values in full] for p in ("p50", "p99"))
        row |= {f"{stage}_p50_ms": statistics.median(p50), f"{stage}_p99_ms": max(p99)}
    row |= {"provider": after[-1]["provider"], "precision": after[-1]["precision"]}
    return row | _own(row)


def _own(row: dict[str, Any]) -> dict[str, float]:
    return {"own_p50_ms": sum(row[f"{stage}_p50_ms"] or 0.0 for stage in OWN)}


def percentile(values: list[float], fraction: float) -> float | None:
    return sorted(values)[round(fraction * (len(values) - 1))] if values else None


def line(row: dict[str, Any]) -> str:
    def figure(name: str, width: int) -> str:
        value = row[name]
        return f"{'-' if value is None else format(value, '.1f'):>{width}}"

    return (
        f"{row['node']:30} {row['hz']:3.0f} {row['sent']:5} {row['arrived']:7} {row['answered']:8} "
        f"{row['superseded']:10} {row['masks']:5} {figure('latency_p50_ms', 11)} {figure('latency_p99_ms', 6)} "
        f"{figure('first_third_p50_ms', 6)} {figure('last_third_p50_ms', 6)} {figure('transport_p50_ms', 9)} "
        f"{figure('infer_p50_ms', 6)} {figure('own_p50_ms', 5)} {figure('cpu_s', 6)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="10,30,60", help="of the camera, in Hz (default: 10,30,60)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each run (default: 60)")
    parser.add_argument(
        "--model", type=Path, default=shipped_file(COMPACT), help="a model file (default: the shipped one)"
    )
    parser.add_argument("--only", default="", help="only nodes whose name matches this regular expression")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    print(f"{WIDTH}x{HEIGHT} bgr8, {options.seconds:g} s each, {os.cpu_count()} cores, {options.model.name}")
    print(HEADER, flush=True)
    rows = []
    for rate in rates:
        for variant in VARIANTS:
            if re.search(options.only, variant.name):
                rows.append(measure(variant, rate, options.seconds, options.model))
                print(line(rows[-1]), flush=True)
    if options.json:
        beside = options.json.with_name(options.json.name + ".part")
        beside.write_text(json.dumps(rows, indent=1) + "\n")
        beside.replace(options.json)


if __name__ == "__main__":
    main()
