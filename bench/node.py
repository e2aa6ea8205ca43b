# SPDX-License-Identifier: Apache-2.0
"""How many camera frames arrive at the node and are answered, with the shipped Fast DDS profile and without.

    .venv/bin/python bench/node.py --rate 30 --frames 900

Camera, node and this listener are three processes over real DDS on this machine. The camera shows 1242x375 pictures
of the synthetic road, made beforehand so that drawing them costs nothing while it is measured.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

from road_seg_node.dds_profile import VARIABLES, use_shipped_profile
from road_seg_node.scene import Road

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1242, 375
PICTURES = 30
PATIENCE = 60.0  # seconds without anything new before a run is given up


class Listener(Node):
    """Takes the masks as a planner does, and the node's own counts from its diagnostics."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.latencies: list[float] = []  # milliseconds, camera stamp to mask
        self.counts: dict[str, str] = {}
        self.heard = time.monotonic()
        self.create_subscription(Image, "/road_seg/mask", self._on_mask, QoSProfile(depth=10))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10))

    def _on_mask(self, msg: Image) -> None:
        age = self.get_clock().now() - Time.from_msg(msg.header.stamp)
        self.latencies.append(age.nanoseconds / 1e6)
        self.heard = time.monotonic()

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.counts = {item.key: item.value for status in msg.status for item in status.values}


def start(module: str, environ: dict[str, str], **parameters: object) -> subprocess.Popen[bytes]:
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", f"road_seg_node.{module}", "--ros-args", *arguments]
    return subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)


def measure(folder: Path, rate: float, frames: int, model: Path | None, environ: dict[str, str]) -> tuple[float, ...]:
    """(arrived at the node, answered, masks that reached the listener, median and p99 latency in ms)."""
    os.environ.update(environ)
    rclpy.init()
    listener = Listener()
    node = start("node", environ, **({"model": model} if model else {}))
    camera = None
    try:
        while not listener.counts and node.poll() is None:
            rclpy.spin_once(listener, timeout_sec=0.1)
        camera = start("camera", environ, source=folder, rate=rate, count=frames, wait_for_subscribers=1)
        listener.heard = time.monotonic()
        while camera.poll() is None and time.monotonic() - listener.heard < PATIENCE:
            rclpy.spin_once(listener, timeout_sec=0.1)
        last = time.monotonic() + 2.5  # the node reports once a second
        while time.monotonic() < last:
            rclpy.spin_once(listener, timeout_sec=0.1)
    finally:
        for process in (camera, node):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(10)
        listener.destroy_node()
        rclpy.try_shutdown()
    if node.returncode or not listener.counts:
        sys.exit("bench/node.py: the node did not run; its own words are above.")
    arrived, answered = (int(listener.counts[f"frames {word}"]) for word in ("received", "answered"))
    times = sorted(listener.latencies) or [float("nan")]
    return arrived, answered, len(listener.latencies), statistics.median(times), times[int(0.99 * (len(times) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second (30)")
    parser.add_argument("--frames", type=int, default=900, help="frames in each run (900)")
    parser.add_argument("--model", type=Path, help="a model file (the one that ships)")
    options = parser.parse_args()
    bare = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    bare.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    profiled = dict(bare)
    use_shipped_profile(profiled)
    print(f"{options.frames} frames of {WIDTH}x{HEIGHT} bgr8 at {options.rate:g} Hz, {os.cpu_count()} cores")
    print(f"{'Fast DDS':16} {'sent':>5} {'arrived':>8} {'answered':>9} {'masks':>6} {'p50 ms':>7} {'p99 ms':>7}")
    with tempfile.TemporaryDirectory() as folder:
        road = Road(0)
        for i in range(PICTURES):
            cv2.imwrite(f"{folder}/{i:03}.jpg", road.render(WIDTH, HEIGHT, i / options.rate)[0])
        for name, environ in (("shipped profile", profiled), ("as it comes", bare)):
            # A process of its own for each run: Fast DDS reads its profile once.
            child = os.fork()
            if child == 0:
                for variable in VARIABLES:
                    os.environ.pop(variable, None)
                arrived, answered, masks, p50, p99 = measure(
                    Path(folder), options.rate, options.frames, options.model, environ
                )
                row = f"{name:16} {options.frames:5} {arrived:8.0f} {answered:9.0f} {masks:6.0f} {p50:7.1f} {p99:7.1f}"
                print(row, flush=True)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                sys.exit(1)


if __name__ == "__main__":
    main()
