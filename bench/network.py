# SPDX-License-Identifier: Apache-2.0
"""Images from another machine: how many are lost between two, by Fast DDS profile. Needs root.

The two machines are network namespaces of this one with a link between them, so that what is measured is the way
through sockets and their buffers, not a cable. Camera and listener use the same profile; both are best effort.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rclpy  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from road_seg_node.ros.dds_profile import LARGE, VARIABLES  # noqa: E402
from road_seg_node.shipped import shipped_file  # noqa: E402

MACHINES = {"road_seg_camera": "10.77.0.1/24", "road_seg_robot": "10.77.0.2/24"}
SETTLE = 3.0  # seconds until both know each other
BUFFERS = ("sendBufferSize", "receiveBufferSize")


def send(seconds: float, rate: float) -> None:
    """The camera: 1242x375 bgr8."""
    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
    msg = Image(height=375, width=1242, encoding="bgr8", step=3 * 1242)
    msg.data.frombytes(os.urandom(msg.step * msg.height))
    clock, sent = node.get_clock(), 0
    while publisher.get_subscription_count() == 0:
        rclpy.spin_once(node, timeout_sec=0.1)
    start = clock.now().nanoseconds / 1e9 + SETTLE
    while sent < seconds * rate:
        rclpy.spin_once(node, timeout_sec=max(0.0, start + sent / rate - clock.now().nanoseconds / 1e9))
        if clock.now().nanoseconds / 1e9 >= start + sent / rate:
            publisher.publish(msg)
            sent += 1
    rclpy.spin_once(node, timeout_sec=1.0)


def listen(seconds: float) -> None:
    """The robot: prints how many images came."""
    rclpy.init()
    node = rclpy.create_node("robot")
    came: list[int] = []
    node.create_subscription(Image, "image", lambda msg: came.append(1), qos_profile_sensor_data)
    clock = node.get_clock()
    end = clock.now().nanoseconds / 1e9 + seconds + 3 * SETTLE
    while clock.now().nanoseconds / 1e9 < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(len(came))


def two_machines() -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    for name in MACHINES:
        ip("netns", "add", name)
    camera, robot = MACHINES
    ip("-n", camera, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", robot)
    for name, address in MACHINES.items():
        ip("-n", name, "address", "add", address, "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")


def no_machines() -> None:
    for name in MACHINES:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def measure(profile: Path | None, seconds: float, rate: float) -> tuple[int, int]:
    """How many images were sent, and how many came."""
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    if profile:
        environ |= dict.fromkeys(VARIABLES, str(profile))
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, __file__, what, str(seconds), str(rate)],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, what in zip(MACHINES, ("--send", "--listen"), strict=True)
    ]
    said = [process.communicate()[0] for process in started]
    return round(seconds * rate), int(said[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of images a row (default: 20)")
    parser.add_argument("--rates", default="10,20,30", help="images a second (default: 10,20,30)")
    options = parser.parse_args()
    shipped = shipped_file(LARGE)
    small = tempfile.NamedTemporaryFile("w", suffix=".xml")
    lines = shipped.read_text().splitlines(keepends=True)
    small.write("".join(line for line in lines if not any(f"<{name}>" in line for name in BUFFERS)))
    small.flush()
    profiles = {
        "none: default settings": None,
        "the shipped one, but usual buffers": Path(small.name),
        "the shipped one": shipped,
    }
    print("| rate | profile of both | sent | lost |\n|---|---|---|---|")
    two_machines()
    try:
        for rate in map(float, options.rates.split(",")):
            for name, profile in profiles.items():
                sent, came = measure(profile, options.seconds, rate)
                print(f"| {rate:g} Hz | {name} | {sent} | {sent - came} |", flush=True)
    finally:
        no_machines()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(*map(float, sys.argv[2:]))
    elif sys.argv[1:2] == ["--listen"]:
        listen(float(sys.argv[2]))
    else:
        main()
