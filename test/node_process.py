# SPDX-License-Identifier: Apache-2.0
"""The node in a process of its own, and a planner beside it that sends images and collects what comes back."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fork_server
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue, SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import get_parameter_value
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from tiny_model import tiny_info, weighted_bytes

from road_seg_node.inference import model_file
from road_seg_node.ros.dds_profile import variables
from road_seg_node.ros.ros_domain import discovery_port, unused_domain

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds; a wait this long means that it will not happen, on a busy machine either
QUICK_DISCOVERY = dict.fromkeys(variables(), str(REPOSITORY / "test" / "quick_discovery.xml"))


def weighted_probability(bgr: np.ndarray) -> np.ndarray:
    """What the weighted model answers: (b + 2 g + 4 r) / 7, so that no two channels may be exchanged."""
    return (bgr.astype(np.int32) @ np.array([1, 2, 4]) // 7).astype(np.uint8)


def write_weighted_model(path: Path, work: int = 0, least: int = 0, **changes: Any) -> Path:
    """Writes a contract-1 model of weighted_probability.

    `work` matrix products of 2 GFLOP each make it slow on images whose first byte is `least` or more: on all, as it is
    loaded too, or with 255 on those of slow_scene() alone.
    """
    golden = weighted_probability(model_file.golden_image())
    model_file.write_bytes(weighted_bytes(work, least), tiny_info(name="weighted", golden=golden, **changes), path)
    return path


def scene(width: int = 96, height: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def slow_scene(width: int = 96, height: int = 64, seed: int = 1) -> np.ndarray:
    """On which a model is slow that was written with `least` 255."""
    bgr = scene(width, height, seed)
    bgr[0, 0, 0] = 255
    return bgr


def image(bgr: np.ndarray, encoding: str = "bgr8", padding: int = 0) -> Image:
    """The message a camera would send of `bgr`, each row followed by `padding` bytes of rubbish."""
    order = {"bgr8": [0, 1, 2], "rgb8": [2, 1, 0], "bgra8": [0, 1, 2, 3], "rgba8": [2, 1, 0, 3], "mono8": [0]}
    opaque = np.dstack([bgr, np.full(bgr.shape[:2], 77, np.uint8)])
    rows = opaque[:, :, order[encoding]].reshape(len(bgr), -1)
    rows = np.hstack([rows, np.full((len(bgr), padding), 201, np.uint8)])
    msg = Image(height=bgr.shape[0], width=bgr.shape[1], encoding=encoding, step=rows.shape[1])
    msg.data.frombytes(rows.tobytes())
    return msg


def pixels(msg: Image) -> np.ndarray:
    """The answer as an array, read by the letter of sensor_msgs/Image."""
    channels = {"mono8": 1, "bgr8": 3}[msg.encoding]
    assert len(msg.data) == msg.step * msg.height
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, : msg.width * channels]
    return rows.reshape((msg.height, msg.width) if channels == 1 else (msg.height, msg.width, channels))


def environment(domain: int) -> dict[str, str]:
    """Of a ROS program that a test starts: it is soon discovered, and what it says is heard at once."""
    return {**QUICK_DISCOVERY, **os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"}


class NodeProcess:
    """The node with parameters, remappings and a ROS domain; its log is kept line by line."""

    def __init__(
        self,
        domain: int,
        arguments: list[str] | None = None,
        checkout: Path = REPOSITORY,
        within: Sequence[str] = (),
        **parameters: Any,
    ) -> None:
        """within: a command that runs another, such as ["ip", "netns", "exec", NAME]."""
        ros_arguments = ["--ros-args", *(arguments or [])]
        for name, value in parameters.items():
            ros_arguments += ["-p", f"{name}:={value}"]
        self.lines: list[str] = []
        env = environment(domain)
        self._process: fork_server.Program | subprocess.Popen[str]
        if checkout == REPOSITORY and not within:
            self._process = fork_server.ROS.start(REPOSITORY / "test" / "quick_node.py", *ros_arguments, env=env)
        else:  # where other modules are imported, or in other surroundings
            command = [*within, sys.executable, "-m", "road_seg_node.node.node", *ros_arguments]
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            self._process = subprocess.Popen(command, cwd=checkout, env=env, **pipes)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def logged(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self.logged(text) or self._process.poll() is not None, f"the log line {text!r}")
        if self._process.poll() is not None:
            self._reader.join()
        assert self.logged(text), f"the node ended without saying {text!r}:\n{self.log}"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Waits for the end of the process."""
        code = self._process.wait(PATIENCE)
        self._reader.join()
        return code

    def stop(self) -> int:
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            return self.exit_code()
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


@contextmanager
def quick_discovery() -> Iterator[None]:
    """For the first participant in this process: Fast DDS reads a profile once."""
    missing = QUICK_DISCOVERY.keys() - os.environ.keys()
    os.environ.update({name: QUICK_DISCOVERY[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


class Planner:
    """Sends images on /image, or compressed ones on /image/compressed, and collects the node's outputs.

    It is a participant of its own, in this process.
    """

    def __init__(self, domain: int, name: str = "road_seg", compressed: bool = False) -> None:
        self.domain = domain
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        with quick_discovery():
            self.node = rclpy.create_node("planner", context=self._context)
        self.node_name = name
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        of, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.camera = self.node.create_publisher(of, topic, qos_profile_sensor_data)
        self._seconds = itertools.count(1)
        self.received: dict[str, list[Image]] = {}
        self._reports: deque[tuple[int, dict[str, str]]] = deque(maxlen=100)  # when they were sent, in nanoseconds
        self.stamps: list[int] = []  # of diagnostics, by the node's clock
        self._clients: dict[str, Client] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._closed = False
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        """As executor.spin(), which would end, and hear nothing more, where a test destroys what it is to wait for."""
        while not self._closed:
            try:
                self._executor.spin_once()
            except InvalidHandle:
                continue

    def close(self) -> None:
        self._closed = True
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, *outputs: str) -> None:
        """Subscribes reliably, as RViz does, but deep enough to lose nothing while a test looks elsewhere."""
        for output in outputs:
            answers = self.received.setdefault(output, [])
            self.node.create_subscription(Image, f"/{self.node_name}/{output}", answers.append, QoSProfile(depth=50))
            wait_until(
                lambda output=output: self.node.count_publishers(f"/{self.node_name}/{output}"),
                f"~/{output} to be there",
            )

    def wait_for_camera_link(self) -> None:
        wait_until(self.camera.get_subscription_count, "the node to subscribe to the images")

    def stamp(self, msg: Any, frame_id: str = "front_camera") -> Any:
        """Gives `msg` a stamp that no other has."""
        msg.header.stamp.sec, msg.header.stamp.nanosec = next(self._seconds), 123456789
        msg.header.frame_id = frame_id
        return msg

    def publish(self, msg: Image | CompressedImage | bytes) -> None:
        """Sends a message, or the bytes of one as they go over the wire."""
        self.camera.publish(msg)

    def ask(self, msg: Image) -> dict[str, Image]:
        """Stamps `msg` and sends it, and returns each output's answer to it."""
        return self.ask_as_stamped(self.stamp(msg))

    def ask_as_stamped(self, msg: Image | CompressedImage) -> dict[str, Image]:
        """Sends `msg`, again while nothing comes (best effort may lose it), and returns each output's answer to it."""
        answers: dict[str, Image] = {}

        def answered() -> bool:
            for output, received in self.received.items():
                for answer in received:
                    if answer.header.stamp == msg.header.stamp:
                        answers[output] = answer
            return len(answers) == len(self.received)

        deadline = time.monotonic() + PATIENCE
        while not answered():
            assert time.monotonic() < deadline, f"of {list(self.received)} only {list(answers)} answered"
            self.publish(msg)
            again = time.monotonic() + 1.0
            while not answered() and time.monotonic() < again:
                time.sleep(0.005)
        return answers

    def counts(
        self,
        reached: Callable[[dict[str, int]], bool],
        sending: Callable[[], Image | CompressedImage | bytes] | None = None,
    ) -> dict[str, int]:
        """The frame counts of the first diagnostics, from now on, on which `reached` holds.

        Until then what `sending` returns is sent again and again, as best effort may lose any of them.
        """
        asked = time.time_ns()

        def read() -> dict[str, int]:
            prefix, items = "frames ", self._newest_report(asked).items()
            return {key.removeprefix(prefix): int(value) for key, value in items if key.startswith(prefix)}

        def enough() -> bool:
            if (found := read()) and reached(found):
                return True
            if sending is not None:
                self.publish(sending())
            return False

        wait_until(enough, lambda: f"the counts, last {read()}")
        return read()

    def diagnostics(self) -> dict[str, str]:
        """What the node reports of itself now."""
        asked = time.time_ns()
        wait_until(lambda: self._newest_report(asked), "/diagnostics")
        return self._newest_report(asked)

    def _newest_report(self, asked: int) -> dict[str, str]:
        """Of those that were made after `asked`, so of those sent since then not the first; {} where there is none."""
        since = [values for sent, values in tuple(self._reports) if sent > asked]
        return since[-1] if len(since) > 1 else {}

    def _on_diagnostics(self, msg: DiagnosticArray, info: dict[str, Any]) -> None:
        self.stamps.append(msg.header.stamp.sec)
        for status in msg.status:
            values = {value.key: value.value for value in status.values}
            level = ["OK", "WARN", "ERROR", "STALE"][status.level[0]]
            told = {**values, "name": status.name, "message": status.message, "level": level}
            self._reports.append((info["source_timestamp"], told))

    def set_parameter(self, name: str, value: str) -> SetParametersResult:
        """Sets a parameter of the node as `ros2 param set` does, through its service."""
        typed: ParameterValue = get_parameter_value(value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=typed)])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def change_state(self, transition: int) -> bool:
        """Asks for one of lifecycle_msgs' transitions as `ros2 lifecycle set` does; whether it worked."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "change_state", request).success

    def state(self) -> str:
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def call(self, of: type, service: str, request: Any) -> Any:
        """The answer of one of the node's services."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(of, f"/{self.node_name}/{service}")
        client = self._clients[service]
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(request)
        wait_until(future.done, f"the answer of {service}")
        return future.result()


@contextmanager
def node_and_planner(
    *outputs: str, compressed: bool = False, **parameters: Any
) -> Iterator[tuple[NodeProcess, Planner]]:
    """A node with `parameters` and a planner that hears its `outputs`, once they have found each other."""
    domain = any_domain()
    node, planner = NodeProcess(domain, **parameters), Planner(domain, compressed=compressed)
    try:
        node.wait_for("Waiting for images")
        planner.listen(*outputs)
        planner.wait_for_camera_link()
        yield node, planner
    finally:
        planner.close()
        node.stop()


def wait_until(condition: Callable[[], Any], what: str | Callable[[], str], patience: float = PATIENCE) -> None:
    """Waits for `condition`; fails after `patience` seconds with `what` was awaited, asked only then if callable."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s for {what() if callable(what) else what}"
        time.sleep(0.01)


_reserved: deque[tuple[int, socket.socket]] = deque(maxlen=12)  # few, for several runs at a time; the oldest are closed


def any_domain() -> int:
    """A ROS domain for one test, in which nothing takes part, nor will for long: not even in another run of the tests.

    What a test starts binds UDP ports only later, so until then a TCP port of the same number reserves the domain.
    """
    taken = {domain for domain, _ in _reserved}
    while True:
        domain = unused_domain(besides=taken)
        assert domain, "each of the ROS domains 1 to 101 is in use on this machine: end what runs there"
        reservation = socket.socket()
        try:
            reservation.bind(("127.0.0.1", discovery_port(domain)))
        except OSError:
            reservation.close()
            taken.add(domain)
            continue
        _reserved.append((domain, reservation))
        return domain
