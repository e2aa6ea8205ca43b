# SPDX-License-Identifier: Apache-2.0
"""Shows the package at work: a camera and the node, two processes over DDS, and what comes of each frame.

Writes a contact sheet and a video of the overlay. The exit status is 0, 1 if a process failed or no frame was answered
(with --strict: fewer than 95%), and 2 if the input or ROS 2's settings cannot be used.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions

from road_seg_node.camera.shots import CameraError
from road_seg_node.camera.sources import HEIGHT, SYNTHETIC, WIDTH, open_source, synthetic_seed
from road_seg_node.demo.child_process import Child, DemoError
from road_seg_node.demo.collector import Collector, Seen, columns, contact_sheet
from road_seg_node.demo.viewer import Viewer, has_display
from road_seg_node.ros.dds_profile import use_shipped_profile
from road_seg_node.ros.ros_domain import unused_domain
from road_seg_node.ros.start import StartError, init
from road_seg_node.synthetic_road.scene import Road

RATE = 10.0  # Hz
ENOUGH = 0.95  # of the frames answered
STARTING = 180.0  # seconds; a large model on a GPU that has to be warmed up takes its time
SILENCE = 30.0  # seconds without a frame from the camera
GROUND_AHEAD, GROUND_SIDES = 40.0, 6.0  # metres of ground on the contact sheet
DRAIN = 3.0  # seconds without a mask after the last frame


class Progress:
    """One line that is written over in a terminal; elsewhere a line every five seconds."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._written = 0.0

    def show(self, text: str) -> None:
        if self._live:
            print(f"\r\033[K{text}", end="", flush=True)
        elif time.monotonic() - self._written >= 5.0:
            self._written = time.monotonic()
            print(text, flush=True)

    def end(self) -> None:
        if self._live:
            print("\r\033[K", end="", flush=True)


def keep_to_this_machine(environ: MutableMapping[str, str]) -> None:
    """Sets what keeps the demo away from a robot on the network, where the user has not set it."""
    if "ROS_DOMAIN_ID" not in environ:
        environ["ROS_DOMAIN_ID"] = str(unused_domain())
    if not {"ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"} & environ.keys():
        environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


class Ending:
    """Ends the demo on a signal, by SystemExit, but never within rclpy, whose C++ makes a RuntimeError of it."""

    def __init__(self) -> None:
        self._within = False
        self._number = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def spin(self, collector: Collector) -> None:
        """Lets the collector work for a tenth of a second at most."""
        self._within = True
        try:
            rclpy.spin_once(collector, timeout_sec=0.1)
        finally:
            self._within = False
        if self._number:
            sys.exit(128 + self._number)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._number = number
        if not self._within:
            sys.exit(128 + number)


def start(collector: Collector, children: list[Child], progress: Progress, ending: Ending) -> None:
    """Waits until the node is ready, then lets the camera begin."""
    began = time.monotonic()
    while not collector.node_is_ready():
        ending.spin(collector)
        for child in children:
            child.check()
        waited = time.monotonic() - began
        progress.show(f"The node loads its model ... {waited:.0f} s")
        if waited > STARTING:
            words = "\n".join(child.last_words() for child in children)
            raise DemoError(f"Camera and node did not find each other within {STARTING:.0f} s. They logged:\n{words}")
    settled = time.monotonic() + 1.0  # the node has to hear of these subscriptions before the first frame
    while time.monotonic() < settled:
        ending.spin(collector)
    collector.watch_images()


def watch(collector: Collector, camera: Child, node: Child, frames: int, progress: Progress, ending: Ending) -> None:
    """Collects until the camera has ended and nothing more comes."""
    seen = collector.seen
    counts, moved = (0, 0), time.monotonic()
    while True:
        ending.spin(collector)
        node.check()
        camera.check()
        if node.exit_code is not None:
            raise DemoError(f"The node ended early:\n{node.last_words()}")
        now = (len(seen.sent), len(seen.answers))
        if now != counts:
            counts, moved = now, time.monotonic()
        still = time.monotonic() - moved
        progress.show(f"{bar(len(seen.sent), frames)} {len(seen.sent)} of {frames} frames, {now[1]} answered")
        if camera.exit_code is None:
            if still > SILENCE:
                raise DemoError(f"The camera has sent nothing for {SILENCE:.0f} s. It logged:\n{camera.last_words()}")
        elif len(seen.answered()) == frames or still > DRAIN:
            return


def bar(done: int, total: int) -> str:
    full = 30 * done // total
    return f"[{'#' * full}{'.' * (30 - full)}]"


def road_iou(seen: Seen, seed: int, progress: Progress) -> float:
    """Intersection over union of the answers and the synthetic road's truth, over all answered frames' pixels."""
    road = Road(seed)
    both = either = 0
    for index, stamp in enumerate(seen.sent):
        if stamp not in seen.answers:
            continue
        progress.show(f"Comparing with the truth: {index + 1} of {len(seen.sent)} frames")
        found = seen.answers[stamp].road()
        truth = road.render(found.shape[1], found.shape[0], index / RATE)[1]
        both += int(np.count_nonzero(found & truth))
        either += int(np.count_nonzero(found | truth))
    return both / either if either else 0.0


def table(seen: Seen, iou: float | None) -> str:
    """What the demo has found, a line for each figure."""
    answered = len(seen.answered())
    rows = [
        ("frames sent", f"{len(seen.sent)}"),
        ("frames answered", f"{answered}"),
        ("frames dropped", f"{len(seen.sent) - answered}"),
    ]
    if answered:
        p50, p99 = np.percentile(1000 * seen.latencies(), [50, 99])
        rows.append(("latency, camera stamp to mask, p50", f"{p50:.1f} ms"))
        rows.append(("latency, camera stamp to mask, p99", f"{p99:.1f} ms"))
    rows.append(("frames a second", f"{seen.frames_a_second():.1f}"))
    rows.append(("provider", seen.provider))
    if iou is not None:
        rows.append(("road IoU against the truth", f"{iou:.3f}"))
    width = max(len(value) for _, value in rows)
    return "\n".join(f"  {name:<36}{value:>{width}}" for name, value in rows)


def run(
    source: str, model: Path | None, frames: int, output: Path, ending: Ending, strict: bool = False, view: bool = False
) -> int:
    """The demo; returns the exit status. Raises CameraError and DemoError."""
    seed = synthetic_seed(source)
    mounting = open_source(source).mounting  # a wrong input is told at once
    if short := use_shipped_profile(os.environ):
        print(short, flush=True)
    keep_to_this_machine(os.environ)
    output.mkdir(exist_ok=True)
    film, recording = output / "overlay.part.mp4", output / "demo.part.rrd"
    viewer = Viewer(recording, columns(mounting is not None), has_display()) if view else None
    progress = Progress()
    print(f"Camera ({source}) and node in two processes, ROS domain {os.environ['ROS_DOMAIN_ID']}.", flush=True)
    init([], signal_handler_options=SignalHandlerOptions.NO)
    children: list[Child] = []
    try:
        parameters: dict[str, object] = {"source": source, "rate": RATE, "count": frames, "wait_for_subscribers": 2}
        if seed is not None:
            parameters |= {"width": WIDTH, "height": HEIGHT}
        children.append(camera := Child("camera", output / "camera.log", parameters))
        settings: dict[str, object] = {"model": str(model)} if model else {}
        if mounting is not None:
            settings |= zip(("camera_height", "camera_tilt", "camera_roll"), mounting, strict=True)
            settings |= {"grid_ahead": GROUND_AHEAD, "grid_sides": GROUND_SIDES}
        children.append(node := Child("node", output / "node.log", settings))
        collector = Collector(film, RATE, mounting is not None, viewer)
        start(collector, children, progress, ending)
        watch(collector, camera, node, frames, progress, ending)
    finally:
        progress.end()
        for child in children:
            child.end()
        rclpy.try_shutdown()
    seen = collector.seen
    if len(seen.sent) != frames:
        raise DemoError(
            f"The camera sent {frames} frames, but the stamps of only {len(seen.sent)} came, so nothing can be "
            f"told about the others. Try again; the camera logged:\n{camera.last_words()}"
        )
    iou = None if seed is None else road_iou(seen, seed, progress)
    progress.end()
    print(table(seen, iou))
    written = write(collector, film, output)
    if viewer:
        viewer.close()
        written.append(str(recording.replace(output / "demo.rrd")))
    print(f"Written: {', '.join(written) if written else 'nothing, since no overlay came'}.")
    if viewer and not has_display():
        print(f"There is no display here, so nothing was shown live. To see it elsewhere: rerun {written[-1]}")
    answered = len(seen.answered())
    if answered < ENOUGH * frames:
        print(
            f"Warning: only {answered} of {frames} frames were answered. This machine is too slow, or too busy, for "
            f"{RATE:g} frames a second.",
            file=sys.stderr,
        )
        return 1 if strict or not answered else 0
    return 0


def write(collector: Collector, film: Path, output: Path) -> list[str]:
    """Writes contact sheet and film into `output`; returns their paths."""
    written = []
    sheet = contact_sheet(collector.seen, collector.columns)
    if sheet is not None:
        beside = output / "contact_sheet.part.png"
        if not cv2.imwrite(str(beside), sheet):
            raise DemoError(f"{beside} could not be written; is the disk full?")
        written.append(str(beside.replace(output / "contact_sheet.png")))
    if collector.close_film():
        written.append(str(film.replace(output / "overlay.mp4")))
    return written


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m road_seg_node.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input", nargs="?", default=SYNTHETIC, help=f"{SYNTHETIC}[:SEED], a folder of pictures, a video, or a bag"
    )
    parser.add_argument("--frames", type=int, default=100, help="how many frames the camera sends (default: 100)")
    parser.add_argument("--model", type=Path, help="a model file (default: the shipped one)")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder to write to (demo_output)")
    parser.add_argument(
        "--strict", action="store_true", help=f"exit with 1 if fewer than {100 * ENOUGH:g} of 100 frames are answered"
    )
    parser.add_argument("--view", action="store_true", help="show it live in rerun's viewer, and keep demo.rrd for it")
    options = parser.parse_args()
    if options.frames < 1:
        parser.error("--frames must be at least 1")
    if not options.output.absolute().parent.is_dir():  # it may be mistyped
        parser.error(f"there is no folder {options.output.parent} to make --output in")
    try:
        return run(
            options.input, options.model, options.frames, options.output, Ending(), options.strict, options.view
        )
    except (CameraError, StartError) as error:
        print(error, file=sys.stderr)
        return 2
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or options.output} cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
