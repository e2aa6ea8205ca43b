# SPDX-License-Identifier: Apache-2.0
"""The camera made of a folder, a video or the synthetic road, and the node that publishes it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from node_process import PATIENCE, REPOSITORY, any_domain
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from road_seg_node.camera import DEFAULT_SEED, CameraError, open_frames
from road_seg_node.images import to_bgr
from road_seg_node.scene import Road


def plain(value: int, height: int = 20, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def take(source: str, count: int) -> list[np.ndarray]:
    return list(itertools.islice(open_frames(source), count))


def test_synthetic_frames_are_the_road_at_the_frames_times() -> None:
    frames = open_frames("synthetic:5", 160, 96, rate=4.0)
    road = Road(5)
    for index in range(3):
        np.testing.assert_array_equal(next(frames), road.render(160, 96, index / 4.0)[0])


def test_a_seed_names_a_road_and_without_one_there_is_a_default() -> None:
    default = next(open_frames("synthetic"))
    np.testing.assert_array_equal(default, next(open_frames(f"synthetic:{DEFAULT_SEED}")))
    assert not np.array_equal(default, next(open_frames(f"synthetic:{DEFAULT_SEED + 1}")))


def test_folder_goes_by_name_and_begins_again(tmp_path: Path) -> None:
    for name, value in (("b.PNG", 20), ("a.png", 10), ("c.jpg", 30)):
        cv2.imwrite(str(tmp_path / name), plain(value))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [frame[0, 0, 0] for frame in take(str(tmp_path), 5)] == [10, 20, 30, 10, 20]


def test_folder_of_kitti_gives_its_camera_images_only(tmp_path: Path) -> None:
    for folder, value in (("gt_image_2", 99), ("image_2", 10)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "um_000000.png"), plain(value))
    assert [frame[0, 0, 0] for frame in take(str(tmp_path), 2)] == [10, 10]


def test_grey_picture_becomes_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), plain(77)[..., 0])
    np.testing.assert_array_equal(take(str(tmp_path), 1)[0], plain(77))


def test_video_begins_again_after_its_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 20))
    for value in (40, 120, 200):
        film.write(plain(value))
    film.release()
    values = np.array([frame.mean() for frame in take(str(path), 5)])
    np.testing.assert_allclose(values, [40, 120, 200, 40, 120], atol=3)


def test_sources_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.png").write_bytes(b"no picture")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    expected = {
        "synthetic:two": "whole number",
        "synthetic:-1": "whole number",
        str(tmp_path / "absent"): "absent",
        "": "give a folder",
        str(tmp_path / "empty"): "has no pictures",
        str(tmp_path / "broken"): "one.png cannot be read as a picture",
        str(tmp_path / "film.mp4"): "cannot be read as a video",
    }
    for source, words in expected.items():
        with pytest.raises(CameraError, match=words):
            open_frames(source)


def test_a_later_unreadable_picture_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), plain(10))
    (tmp_path / "b.png").write_bytes(b"no picture")
    frames = open_frames(str(tmp_path))
    next(frames)
    with pytest.raises(CameraError, match=r"b\.png cannot be read"):
        next(frames)


def start_camera(domain: int, **parameters: Any) -> subprocess.Popen[str]:
    arguments = [text for key, value in parameters.items() for text in ("-p", f"{key}:={json.dumps(value)}")]
    return subprocess.Popen(
        [sys.executable, "-m", "road_seg_node.camera", "--ros-args", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_published_frames_and_camera_info(tmp_path: Path) -> None:
    """Every stamp arrives by camera_info, each image has the stamp of one, and its pixels are the picture's."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), picture)
    domain, count = any_domain(), 12
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    infos: list[CameraInfo] = []
    images: list[Image] = []
    node.create_subscription(CameraInfo, "camera_info", infos.append, QoSProfile(depth=100))
    camera = start_camera(
        domain, source=str(tmp_path), rate=50, count=count, frame_id="front", wait_for_subscribers=1
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not node.count_publishers("camera_info"):
            assert time.monotonic() < deadline, "the camera did not come up"
            executor.spin_once(timeout_sec=0.1)
        for _ in range(20):  # it would begin now, if it did not wait for someone to watch the images
            executor.spin_once(timeout_sec=0.05)
        assert not infos
        node.create_subscription(Image, "image", images.append, qos_profile_sensor_data)
        while camera.poll() is None:
            assert time.monotonic() < deadline, "the camera did not end after its last frame"
            executor.spin_once(timeout_sec=0.1)
        assert camera.returncode == 0, camera.communicate()[0]
    finally:
        camera.kill()
        camera.communicate()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert len(infos) == count
    stamps = [(info.header.stamp.sec, info.header.stamp.nanosec) for info in infos]
    assert stamps == sorted(set(stamps))
    assert images  # best effort, so not each of them has to come
    for image in images:
        assert (image.header.stamp.sec, image.header.stamp.nanosec) in stamps
        assert (image.encoding, image.header.frame_id) == ("bgr8", "front")
        np.testing.assert_array_equal(to_bgr(image), picture)
    info = infos[0]
    assert (info.width, info.height, info.header.frame_id) == (33, 20, "front")
    assert info.k[0] == info.k[4] == info.p[0] > 0
    assert (info.k[2], info.k[5]) == (16.0, 9.5)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "/nowhere/at/all"}, "There is no folder or video '/nowhere/at/all'"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": "fast"}, "rate must be like 10.0, not 'fast'"),
        ({"width": 3}, "at least 16"),
        ({"count": -1}, "0 or more"),
    ],
)
def test_wrong_parameter_is_one_sentence_and_status_2(parameters: dict[str, Any], words: str) -> None:
    camera = start_camera(any_domain(), **parameters)
    said, _ = camera.communicate(timeout=PATIENCE)
    assert camera.returncode == 2
    assert words in said
    assert "Traceback" not in said
