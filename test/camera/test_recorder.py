# SPDX-License-Identifier: Apache-2.0
"""What the camera sent and the node answered is in the file once it is closed; before that it has another name."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fork_server
import pytest
from node_process import PATIENCE, Planner, environment, image, scene, wait_until, write_weighted_model
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.camera.sources import open_source

Reader = pytest.importorskip("rosbags.rosbag2", reason="rosbags is not here: pip install rosbags").Reader


class RecorderProcess:
    """`python -m road_seg_node.camera.recorder` with its log."""

    def __init__(self, domain: int, **parameters: Any) -> None:
        arguments = [text for key, value in parameters.items() for text in ("-p", f"{key}:={value}")]
        command = ["-m", "road_seg_node.camera.recorder", "--ros-args", *arguments]
        self.process = fork_server.ROS.start(*command, env=environment(domain))
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said += line

    def end(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join()
        return code


@pytest.fixture
def record(domain: int) -> Iterator[Any]:
    started: list[RecorderProcess] = []

    def start(**parameters: Any) -> RecorderProcess:
        started.append(RecorderProcess(domain, **parameters))
        return started[-1]

    yield start
    for recorder in started:
        recorder.end(signal.SIGKILL)


def recorded(path: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    with Reader(path) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(bytes(data))
    return found


def send_until_recorded(planner: Planner, part: Path, enough: Callable[[], bool] = lambda: True) -> list[Image]:
    """Sends images until a megabyte is on the disk, and `enough` is true; returns them."""
    infos = planner.node.create_publisher(CameraInfo, "/camera_info", 1)
    height, width = scene().shape[:2]
    info = CameraInfo(width=width, height=height, k=[90.0, 0.0, 40.0, 0.0, 90.0, 20.0, 0.0, 0.0, 1.0])
    sent: list[Image] = []

    def grown() -> bool:
        infos.publish(info)
        sent.append(image(scene()))
        planner.publish(planner.stamp(sent[-1]))
        return enough() and sum(file.stat().st_size for file in part.glob("*.mcap")) > 1_000_000

    planner.wait_for_camera_link()
    wait_until(grown, "the recording to grow")
    return sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_everything_is_in_the_file_once_it_is_closed(start, planner, record, tmp_path: Path, number: int) -> None:
    model = write_weighted_model(tmp_path / "weighted.onnx")
    start(model=model, provider="cpu", camera_height=1.5, grid_cell=0.2).wait_for("Waiting for images")
    recorder = record(output=tmp_path / "drive.mcap")
    wait_until(lambda: planner.node.count_subscribers("/road_seg/road_grid"), "the recorder")

    def all_written() -> bool:
        """Whether a grid's frame, masks and probabilities (and no other mono8) and diagnostics are on the disk."""
        written = b"".join(file.read_bytes() for file in (tmp_path / "drive.part").glob("*.mcap"))
        return b"front_camera_ground" in written and written.count(b"mono8\0") >= 10 and b"frames received" in written

    sent = send_until_recorded(planner, tmp_path / "drive.part", all_written)
    assert not (tmp_path / "drive.mcap").exists()
    assert recorder.end(number) == 0, recorder.said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive.mcap", "weighted.onnx"]
    messages = recorded(tmp_path / "drive.mcap")
    answers = {f"/road_seg/{name}" for name in ("mask", "probability", "road_grid")}
    assert set(messages) == {"/image", "/camera_info", "/diagnostics", *answers}
    images = [deserialize_message(data, Image) for data in messages["/image"]]
    assert all(msg in sent for msg in images)
    masks = [deserialize_message(data, Image) for data in messages["/road_seg/mask"]]
    assert all(mask.header in [msg.header for msg in sent] for mask in masks)
    assert f"/image {len(messages['/image'])}" in recorder.said
    # It plays as any other bag; the masks are images too, so the camera's topic is named.
    source = open_source(str(tmp_path / "drive.mcap"), topic="/image")
    assert [shot.picture for shot in source.shots()] == images
    assert "Traceback" not in recorder.said


def test_a_recorder_that_is_killed_leaves_no_file_of_that_name(planner, record, tmp_path: Path) -> None:
    recorder = record(output=tmp_path / "drive.mcap")
    send_until_recorded(planner, tmp_path / "drive.part")
    recorder.end(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["drive.part"]
    again = record(output=tmp_path / "drive.mcap")
    assert again.end(0) == 2
    assert "drive.part was left by a recording that was not closed" in again.said


def test_a_full_disk_is_told(planner, record, tmp_path: Path) -> None:
    """Of a disk that takes no more this stands in: no file may grow beyond two megabytes."""
    recorder = record(output=tmp_path / "drive.mcap")
    planner.wait_for_camera_link()
    resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    send_until_recorded(planner, tmp_path / "drive.part", lambda: recorder.process.poll() is not None)
    assert recorder.end() == 1
    assert "drive.mcap cannot be written: File too large. What was recorded is in" in recorder.said
    assert [path.name for path in tmp_path.iterdir()] == ["drive.part"]
    assert "Traceback" not in recorder.said


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "Name the file to record into: output:=drive.mcap."),
        ("drive.db3", "The file to record into must end in .mcap: '"),
        ("there.mcap", "there.mcap is there already"),
        ("file.mcap/drive.mcap", "There is no folder"),
        ("mistyped/drives/drive.mcap", "There is no folder"),
    ],
)
def test_a_file_that_cannot_be_recorded_into_is_told(record, tmp_path: Path, output: str, words: str) -> None:
    for name in ("there.mcap", "file.mcap"):
        (tmp_path / name).touch()
    recorder = record(output=tmp_path / output if output else '""')
    assert recorder.end(0) == 2, recorder.said
    assert words in recorder.said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.mcap", "there.mcap"]
    assert "Traceback" not in recorder.said
