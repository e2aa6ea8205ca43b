# SPDX-License-Identifier: Apache-2.0
"""The node beside another DDS implementation than its own: Cyclone DDS, in a process of its own.

It subscribes to the outputs reliably, as rclpy does, and the bytes of both are compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE, image, pixels, scene, wait_until, weighted_probability
from node_process import write_weighted_model as write_model
from sensor_msgs.msg import Image

from road_seg_node.ros.dds_profile import VARIABLES, use_shipped_profile

pytest.importorskip("cyclonedds", reason="Cyclone DDS is not here: pip install cyclonedds")

OUTPUTS = ("mask", "probability", "overlay")


@pytest.fixture(autouse=True)
def profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped one, without which Cyclone DDS does not understand Fast DDS 3, of Kilted."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environ = dict(os.environ)
    use_shipped_profile(environ)
    for name in environ.keys() & set(VARIABLES):
        monkeypatch.setenv(name, environ[name])


@pytest.fixture
def reader(domain: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Writes what it reads of each output to a file of that name in `tmp_path`, until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("cyclone_reader.py"), str(domain), str(tmp_path), *OUTPUTS],
        stdin=subprocess.PIPE,
    )
    yield process
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("size", [(96, 64), (400, 300)])
def test_another_dds_reads_the_same_bytes(start, planner, reader, tmp_path, size: tuple[int, int]) -> None:
    start(model=write_model(tmp_path / "weighted.onnx"), provider="cpu")
    planner.listen(*OUTPUTS)
    planner.wait_for_camera_link()
    bgr = scene(*size)

    def files() -> dict[str, Path]:
        sec = answers["mask"].header.stamp.sec
        return {output: tmp_path / f"{output}-{sec}.npz" for output in OUTPUTS}

    def answered() -> bool:
        """Asked again while nothing comes: the node may not have found the other's readers yet."""
        answers.update(planner.ask(image(bgr)))
        try:
            wait_until(lambda: all(file.exists() for file in files().values()), "", 5.0)
        except AssertionError:
            return False
        return True

    answers: dict[str, Image] = {}
    wait_until(answered, "the outputs, read by the other DDS")
    np.testing.assert_array_equal(pixels(answers["probability"]), weighted_probability(bgr))
    for output, file in files().items():
        answer, stamp = answers[output], answers[output].header.stamp
        with np.load(file) as read:
            assert (int(read["sec"]), int(read["nanosec"])) == (stamp.sec, stamp.nanosec)
            assert str(read["frame_id"]) == answer.header.frame_id
            assert str(read["encoding"]) == answer.encoding
            shape = (answer.height, answer.width, answer.step, answer.is_bigendian)
            assert tuple(read["shape"]) == shape
            assert read["data"].tobytes() == bytes(answer.data)
