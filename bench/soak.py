# SPDX-License-Identifier: Apache-2.0
"""Run the node for a long time, with a reload every few seconds and listeners that come and go every second.

    .venv/bin/python bench/soak.py --minutes 20 --json soak.json

Exits with 1 if its memory grew by over 10 MB after the first minute, a frame is unaccounted for, or a reload failed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Before rclpy is imported: Fast DDS reads it once.
from road_seg_node.ros.dds_profile import use_shipped_profile
from road_seg_node.ros.ros_domain import unused_domain

os.environ.setdefault("ROS_DOMAIN_ID", str(unused_domain()))
use_shipped_profile(os.environ)

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.task import Future  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from bench.node import ROOT, Variant, end, start  # noqa: E402
from road_seg_node.shipped import COMPACT, shipped_file  # noqa: E402

GROWTH = 10.0  # MB
SETTLED = 60.0  # seconds in which libraries allocate what they keep
QUIET = 3.0  # seconds after the camera's end in which the last frames get their fate


class Operator(Node):
    """Listens to the masks all the time, to the other outputs every other second, and has the model loaded again."""

    def __init__(self, pid: int, reload: float) -> None:
        """pid: the node's; reload: seconds between two reloads."""
        super().__init__("operator")
        self.masks = 0
        self.reloads: list[Future] = []
        self.memory: list[tuple[float, float]] = []  # seconds since the begin, MB resident
        self.report: dict[str, str] = {}
        self._pid, self._begun = pid, time.monotonic()
        self._passing: list[Any] = []
        self._reload = self.create_client(Trigger, "/road_seg/reload_model")
        self.create_subscription(Image, "/road_seg/mask", self._on_mask, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_timer(1.0, self._every_second)
        self.reloading = self.create_timer(reload, self._on_reload)

    def _on_mask(self, _msg: Image) -> None:
        self.masks += 1

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.report = {item.key: item.value for status in msg.status for item in status.values}

    def _on_reload(self) -> None:
        """Unless nothing would answer, or the one before is not done, beside which the node refuses another."""
        if self._reload.service_is_ready() and all(reload.done() for reload in self.reloads[-1:]):
            self.reloads.append(self._reload.call_async(Trigger.Request()))

    def _every_second(self) -> None:
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        self.memory.append((time.monotonic() - self._begun, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        if self._passing:
            for subscription in self._passing:
                self.destroy_subscription(subscription)
            self._passing = []
        else:
            names = ("overlay", "probability")
            self._passing = [
                self.create_subscription(Image, f"/road_seg/{name}", lambda msg: None, 1) for name in names
            ]


def soak(minutes: float, rate: float, reload: float, model: Path) -> dict[str, Any]:
    seconds = 60 * minutes
    node = start(dict(os.environ), Variant("road_seg_node", plain=False, profile=True).command(model))
    processes = [node]
    rclpy.init()
    try:
        operator = Operator(node.pid, reload)
        command: list[str | Path] = [
            ROOT / "bench" / "steady_camera.py",
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
        ]
        camera = start(dict(os.environ), command)
        processes.append(camera)
        while camera.poll() is None:
            rclpy.spin_once(operator, timeout_sec=0.1)
            if node.poll() is not None:
                sys.exit("soak.py: the node ended; its own words are above.")
        operator.reloading.cancel()
        until = time.monotonic() + QUIET
        while time.monotonic() < until or not all(reload.done() for reload in operator.reloads):
            rclpy.spin_once(operator, timeout_sec=0.1)
        report, operator.report = operator.report, {}
        end(node)
        status = node.returncode
    finally:
        for process in processes:
            process.kill()
            process.wait()
        rclpy.try_shutdown()
    settled = min(SETTLED, seconds / 4)
    later = [resident for at, resident in operator.memory if at >= settled]
    tenth = max(1, len(later) // 10)
    counts = {key.removeprefix("frames "): int(value) for key, value in report.items() if key.startswith("frames ")}
    return {
        "minutes": minutes,
        "hz": rate,
        "frames": counts,
        "masks": operator.masks,
        "reloads": len(operator.reloads),
        "reloads_failed": sum(not reload.result().success for reload in operator.reloads),
        "memory_mb": statistics.median(later[:tenth]),
        "growth_mb": statistics.median(later[-tenth:]) - statistics.median(later[:tenth]),
        "peak_growth_mb": max(later) - statistics.median(later[:tenth]),
        "memory_every_half_minute_mb": [round(resident, 1) for _, resident in operator.memory[::30]],
        "exit_status": status,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--rate", type=float, default=30.0, help="of the camera, in Hz (default: 30)")
    parser.add_argument("--reload", type=float, default=10.0, help="seconds between two reloads (default: 10)")
    parser.add_argument("--model", type=Path, default=shipped_file(COMPACT), help="default: the shipped model")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    found = soak(options.minutes, options.rate, options.reload, options.model)
    print(json.dumps(found, indent=1))
    if options.json:
        beside = options.json.with_name(options.json.name + ".part")
        beside.write_text(json.dumps(found, indent=1) + "\n")
        beside.replace(options.json)
    good = found["growth_mb"] <= GROWTH and not found["frames"]["pending"] and not found["reloads_failed"]
    return 0 if good and found["exit_status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
