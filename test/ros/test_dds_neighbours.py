# SPDX-License-Identifier: Apache-2.0
"""What the node says of images that do not come or are lost for the way they take, and that the advice helps."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_process import REPOSITORY, NodeProcess, wait_until, write_weighted_model

from road_seg_node.ros.dds_profile import UDP, VARIABLES

NOBODY = "65534"
# Reads what is root's as this checkout may be, but opens no file of root's for writing.
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+dac_read_search"]
AS_NOBODY += ["--ambient-caps=-all,+dac_read_search", "env", "PYTHONDONTWRITEBYTECODE=1", "ROS_LOG_DIR={folder}"]
OTHER_MEMORY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
CAMERA = """
import sys, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
width, height, burst = map(int, sys.argv[1:])
rclpy.init()
node = rclpy.create_node("camera")
camera = node.create_publisher(Image, "image", qos_profile_sensor_data)
msg = Image(height=height, width=width, encoding="bgr8", step=3 * width)
msg.data.frombytes(bytes(msg.step * height))
while True:
    for _ in range(burst):
        camera.publish(msg)
    rclpy.spin_once(node, timeout_sec=0.0)
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weighted_model(tmp_path_factory.mktemp("model") / "weighted.onnx")


@pytest.fixture
def camera(domain: int, tmp_path: Path) -> Iterator[Any]:
    """Starts a camera within another command; skips where that is not allowed."""
    started: list[subprocess.Popen[bytes]] = []

    def start_camera(within: list[str], size: tuple[int, int, int] = (96, 64, 1), **environ: str) -> None:
        tmp_path.chmod(0o777)
        command = [part.format(folder=tmp_path) for part in within]
        if os.geteuid() or not shutil.which(within[0]) or subprocess.run([*command, "true"], check=False).returncode:
            pytest.skip(f"{within[0]} does not do here what this test needs: run it as root")
        started.append(
            subprocess.Popen(
                [*command, sys.executable, "-c", CAMERA, *map(str, size)],
                env={**os.environ, "ROS_DOMAIN_ID": str(domain), **environ},
            )
        )

    yield start_camera
    for process in started:
        process.kill()
        process.wait()


def udp_alone(said: str) -> dict[str, str]:
    """The variable that the node's advice sets."""
    (advice,) = set(re.findall(rf"UDP alone for this node, (\w+)=(\S+{UDP})", said))
    assert advice[0] in VARIABLES and Path(advice[1]).is_file()
    return dict([advice])


@pytest.mark.parametrize(
    ("within", "words"),
    [
        (AS_NOBODY, "Processes of another user take part here (nobody; this node runs as root), and Fast DDS shares"),
        (OTHER_MEMORY, "Its process has another /dev/shm, as in another container that shares the network"),
    ],
)
def test_shared_memory_that_is_not_shared(
    start, planner, camera, model, monkeypatch: pytest.MonkeyPatch, within: list[str], words: str
) -> None:
    """Nothing comes from such a camera, and the node says why; as it says, UDP alone helps."""
    camera(within)
    node = start(model=model, provider="cpu", image_timeout=1.0)
    node.wait_for(words)
    assert planner.counts(lambda counts: True)["received"] == 0
    assert node.stop() == 0
    for name, value in udp_alone(node.log).items():
        monkeypatch.setenv(name, value)
    start(model=model, provider="cpu", image_timeout=1.0)
    planner.counts(lambda counts: counts["received"] > 0)


def test_a_camera_of_the_same_user_is_not_suspected(start, planner, model) -> None:
    """Even if it sends nothing."""
    node = start(model=model, provider="cpu", image_timeout=1.0)
    planner.wait_for_camera_link()
    node.wait_for("1 publisher(s)")
    assert node.logged("1 publisher(s)).") and not node.logged("/dev/shm")


@pytest.fixture
def two_machines() -> Iterator[tuple[list[str], list[str]]]:
    """Commands that run another in one of two network namespaces with a link between them."""
    names = [f"road_seg_test_{os.getpid()}_{side}" for side in "ab"]
    commands = [["ip", "netns", "add", name] for name in names]
    commands.append(["ip", "-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", names[1]])
    for number, name in enumerate(names, 1):
        commands.append(["ip", "-n", name, "address", "add", f"10.78.0.{number}/24", "dev", "eth0"])
        commands += [["ip", "-n", name, "link", "set", device, "up"] for device in ("lo", "eth0")]
    try:
        for command in commands:
            if os.geteuid() or shutil.which("ip") is None or subprocess.run(command, check=False).returncode:
                pytest.skip("network namespaces cannot be made here: run it as root, with iproute2")
        # Until then Fast DDS, which asks for the network's devices once, does not find the other side.
        wait_until(lambda: not any(is_tentative(name) for name in names), "the link between the namespaces to settle")
        yield (["ip", "netns", "exec", names[0]], ["ip", "netns", "exec", names[1]])
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def is_tentative(name: str) -> bool:
    """Whether an address in the network namespace is still being checked for another of its kind."""
    said = subprocess.run(["ip", "-n", name, "address"], capture_output=True, text=True, check=True).stdout
    return "tentative" in said


def test_images_from_another_machine(domain, camera, model, two_machines) -> None:
    """Many large ones at once are lost, and the advice is not shared memory; the profile's buffers are granted."""
    here, there = two_machines
    camera(there, (1242, 375, 3))
    without_profile = [*here, "env", *(word for name in VARIABLES for word in ("-u", name))]
    node = NodeProcess(domain, within=without_profile, model=model, provider="cpu")
    try:
        node.wait_for("Waiting for images")
        advice = "larger socket buffers, since they come over UDP: the Fast DDS profile of config/fastdds_large"

        def told() -> bool:
            """Images are lost for sure while the node stands still: its socket's buffer holds none as a whole."""
            for signal_number in (signal.SIGSTOP, signal.SIGCONT):
                node.send(signal_number)
                time.sleep(0.5)
            return node.logged(advice)

        wait_until(told, lambda: f"the advice:\n{node.log}")
        assert not node.logged("shared memory")
    finally:
        node.stop()
    profile = dict.fromkeys(VARIABLES, str(REPOSITORY / "config" / "fastdds_large_images.xml"))
    with_profile = [*here, "env", *(f"{name}={value}" for name, value in profile.items())]
    again = NodeProcess(domain, within=with_profile, model=model, provider="cpu")
    try:
        again.wait_for("Waiting for images")
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
        said = subprocess.run([*here, "ss", "-uamn"], capture_output=True, text=True, check=True).stdout
        # The kernel doubles what is asked for, for its own needs.
        assert max(map(int, re.findall(r"rb(\d+)", said))) == 2 * min(limit, 4194304)
    finally:
        again.stop()
