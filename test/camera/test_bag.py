# SPDX-License-Identifier: Apache-2.0
"""Recorded bags, MCAP and sqlite3, as a camera: what was recorded comes out, or a sentence says why not."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_files import CompressionMode, info, picture, png, raw, stamped, write_bag, write_ros1_bag
from camera_process import Listener, start_camera
from kitti_folder import copied_by_a_mac
from node_process import PATIENCE, any_domain
from std_msgs.msg import Header

from road_seg_node.camera.camera import LONGEST_PAUSE
from road_seg_node.camera.shots import CameraError
from road_seg_node.camera.sources import open_source
from road_seg_node.ros.images import decode_compressed, to_bgr


@pytest.mark.parametrize("file", [False, True], ids=["folder", "file"])
@pytest.mark.parametrize("mcap", [True, False], ids=["mcap", "sqlite3"])
def test_images_come_with_the_camera_info_beside_them(tmp_path: Path, mcap: bool, file: bool) -> None:
    topics = {"/front/image_raw": [raw(i) for i in range(4)], "/front/camera_info": [info(i) for i in (1, 3)]}
    bag = write_bag(tmp_path / "drive", topics | {"/rear/camera_info": [info(9)]}, mcap=mcap)
    source = open_source(str(next(bag.glob("drive.*")) if file else bag))
    shots = list(source.shots())
    assert source.mounting is None
    assert [shot.picture for shot in shots] == topics["/front/image_raw"]
    assert [shot.time - shots[0].time for shot in shots] == [0, 50_000_000, 100_000_000, 150_000_000]
    # The first is of frames before it too; a newer one counts from when it was recorded.
    assert [shot.info.k[0] for shot in shots] == [31.0, 31.0, 31.0, 33.0]
    assert list(source.shots()) == shots


TOPICS = {
    "/front/image_raw": [raw(0), raw(1)],
    "/front/camera_info": [info(0)],
    "/front/image_raw/compressed": [png(2)],
}


def of_ros_1(folder: Path) -> Path:
    return write_ros1_bag(folder / "drive.bag", TOPICS)


def in_capitals(folder: Path) -> Path:
    file = write_bag(folder / "drive", TOPICS) / "drive.mcap"
    return file.rename(folder / "DRIVE.MCAP")


def packed_folder(folder: Path) -> Path:
    return write_bag(folder / "drive", TOPICS, compressed=CompressionMode.FILE)


def packed_file(folder: Path) -> Path:
    return next(packed_folder(folder).glob("*.mcap.zstd"))


def packed_sqlite3(folder: Path) -> Path:
    return next(write_bag(folder / "drive", TOPICS, mcap=False, compressed=CompressionMode.FILE).glob("*.db3.zstd"))


def packed_messages(folder: Path) -> Path:
    return write_bag(folder / "drive", TOPICS, mcap=False, compressed=CompressionMode.MESSAGE)


def copied_folder(folder: Path) -> Path:
    bag = write_bag(folder / "drive", TOPICS)
    copied_by_a_mac(bag)
    return bag


@pytest.mark.parametrize(
    "write", [of_ros_1, in_capitals, packed_folder, packed_file, packed_sqlite3, packed_messages, copied_folder]
)
def test_every_kind_of_bag_gives_the_same(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    bag = str(write(tmp_path))
    source = open_source(bag, topic="front/image_raw")
    for _ in range(2):  # a camera begins again
        shots = list(source.shots())
        assert [shot.picture for shot in shots] == TOPICS["/front/image_raw"]
        assert [shot.info for shot in shots] == [info(0)] * 2
        assert shots[1].time - shots[0].time == 50_000_000
    (compressed,) = open_source(bag, topic="/front/image_raw/compressed").shots()
    assert compressed.picture == png(2)


def test_nothing_unpacked_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = packed_file(tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    shots = open_source(str(file), topic="/front/image_raw").shots()
    next(shots)
    assert not list((tmp_path / "scratch").iterdir())


def test_of_ros_1_topics_without_a_slash_are_found(tmp_path: Path) -> None:
    bag = write_ros1_bag(tmp_path / "drive.bag", {"left/image": [raw(0)], "right/image": [raw(1)]})
    (shot,) = open_source(str(bag), topic="/right/image").shots()
    assert shot.picture == raw(1)


def test_of_a_recording_with_answers_the_cameras_images_are_played(tmp_path: Path) -> None:
    topics = {"/front/image": [raw(3)], "/road_seg/mask": [raw(4)], "/front/camera_info": [info(3)]}
    (shot,) = open_source(str(write_bag(tmp_path / "drive", topics))).shots()
    assert shot.picture == raw(3) and shot.info == info(3)


def test_of_several_topics_one_is_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", {"/left/image": [raw(0)], "/right/image/compressed": [png(1), png(2)]})
    listed = (
        r"/left/image \(sensor_msgs/msg/Image, 1 messages\), "
        r"/right/image/compressed \(sensor_msgs/msg/CompressedImage, 2 messages\)"
    )
    said = rf"set the parameter topic \(of the launch file: camera_topic\) to one: {listed}"
    with pytest.raises(CameraError, match=said):
        open_source(str(bag))
    with pytest.raises(CameraError, match=f"no images on /image; it has {listed}"):
        open_source(str(bag), topic="image")
    shots = list(open_source(str(bag), topic="/right/image/compressed").shots())
    np.testing.assert_array_equal(decode_compressed(shots[1].picture), picture(2))
    assert shots[0].info is None


def cut(bag: Path) -> Path:
    """As a recorder leaves it that was killed."""
    (bag / "metadata.yaml").unlink()
    file = bag / "drive.mcap"
    file.write_bytes(file.read_bytes()[:-500])
    return file


def packed_cut(bag: Path) -> Path:
    file = packed_file(bag)
    file.write_bytes(file.read_bytes()[:-50])
    return file


def ros_1_folder(bag: Path) -> Path:
    folder = bag / "ros1"
    folder.mkdir()
    for name in ("drive_10.bag", "drive_2.bag", "._drive_2.bag"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"drive\.mcap cannot be read as a bag: .* `mcap recover` or `ros2 bag reindex` may repair it"),
        (lambda bag: cut(bag).parent, r"has no metadata\.yaml of rosbag2: .* Try .*drive\.mcap"),
        (lambda bag: (bag / "drive.mcap").write_bytes(b"rubbish") and bag, "cannot be read as a bag"),
        (lambda bag: (bag / "drive.bag").write_bytes(b"rubbish") and bag / "drive.bag", "`rosbag reindex` may repair"),
        (lambda bag: (bag / "drive.mcap").rename(bag / "drive.bag.active"), "was not closed by its recorder: `rosbag"),
        (lambda bag: packed_cut(bag), r"drive\.mcap\.zstd cannot be read as a bag"),
        (lambda bag: ros_1_folder(bag), r"holds ROS 1 bags: give one of them, such as .*drive_2\.bag"),
        (lambda bag: (bag / "metadata.yaml").write_text("[") and bag, r"has no metadata\.yaml of rosbag2"),
        (lambda bag: (bag / "drive.mcap").rename(bag / "a.mcap") and bag, "cannot be read as a bag: .*missing"),
    ],
)
def test_a_damaged_bag_is_told(tmp_path: Path, damage: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(CameraError, match=words):
        open_source(str(damage(write_bag(tmp_path / "drive", {"/image": [raw(i) for i in range(3)]}))))


def test_a_damaged_camera_info_is_told_too(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", {"/front/image": [raw(0)], "/front/camera_info": [info(0)]}, mcap=False)
    with closing(sqlite3.connect(next(bag.glob("*.db3")))) as store, store:
        (of_infos,) = store.execute("SELECT id FROM topics WHERE name = '/front/camera_info'").fetchone()
        store.execute("UPDATE messages SET data = x'00' WHERE topic_id = ?", (of_infos,))
    with pytest.raises(CameraError, match="cannot be read as a bag"):
        list(open_source(str(bag)).shots())


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="has no images; it has /camera_info"):
        open_source(str(write_bag(tmp_path / "drive", {"/camera_info": [info(0)]})))
    shutil.rmtree(tmp_path / "drive")


def test_it_is_played_with_its_own_stamps_and_frame_id(tmp_path: Path) -> None:
    """Raw images are published as they are, once each, and then the camera ends."""
    topics = {"/front/image_raw": [raw(i) for i in range(12)], "/front/camera_info": [info(i) for i in range(12)]}
    bag = write_bag(tmp_path / "drive", topics)
    with Listener("image") as listener:
        camera = start_camera(
            listener.domain, source=str(bag), stamps="recorded", loop=False, rate=25, wait_for_subscribers=1
        )
        listener.collect(camera)
    assert camera.returncode == 0, listener.said
    assert [(msg.header, msg.k[0]) for msg in listener.infos] == [(info(i).header, 30.0 + i) for i in range(12)]
    assert listener.images
    for msg in listener.images:
        assert msg in topics["/front/image_raw"]


def test_at_the_recorded_pace_with_stamps_of_now(tmp_path: Path) -> None:
    """A pause of the recording is one of the camera; compressed images come out raw."""
    messages = [png(0), png(1), png(2), stamped(png(3), 22)]  # the last one a second after the third
    bag = write_bag(tmp_path / "drive", {"/image/compressed": messages})
    with Listener("image") as listener:
        camera = start_camera(listener.domain, source=str(bag), loop=False, wait_for_subscribers=1, frame_id="mine")
        listener.collect(camera)
    assert camera.returncode == 0, listener.said
    stamps = [msg.header.stamp.sec + msg.header.stamp.nanosec / 1e9 for msg in listener.infos]
    assert len(stamps) == 4 and abs(stamps[0] - listener.began) < 60
    assert stamps[3] - stamps[2] >= 0.99  # it may be late, but never early
    assert listener.images
    for msg in listener.images:
        assert msg.header in [other.header for other in listener.infos]
        assert msg.header.frame_id == "mine"
        assert any(np.array_equal(to_bgr(msg), picture(i)) for i in range(4))


def test_a_clock_that_jumps_is_not_waited_for(tmp_path: Path) -> None:
    """From 1970, where a computer without a clock begins, to 2023, where it has found the time."""
    early = [raw(0), raw(1)]
    for index, msg in enumerate(early):
        msg.header.stamp.sec, msg.header.stamp.nanosec = 5, index * 50_000_000
    bag = write_bag(tmp_path / "drive", {"/image": [*early, raw(2)]})
    camera = start_camera(any_domain(), source=str(bag), loop=False)
    said, _ = camera.communicate(timeout=PATIENCE)
    assert camera.returncode == 0, said
    assert re.search(rf"A pause of 1699999995 s in the recording is cut to {LONGEST_PAUSE:.0f} s\.", said)


def test_any_source_can_be_sent_compressed(tmp_path: Path) -> None:
    smooth = np.dstack([np.mgrid[:40, :60].sum(0) + offset for offset in (20, 60, 100)]).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.png"), smooth)
    with Listener("image/compressed") as listener:
        camera = start_camera(
            listener.domain, source=str(tmp_path), image_transport="compressed", count=5, rate=20,
            wait_for_subscribers=1,
        )  # fmt: skip
        listener.collect(camera)
    assert camera.returncode == 0, listener.said
    assert listener.images
    for msg in listener.images:
        assert msg.format == "bgr8; jpeg compressed bgr8"
        assert np.abs(decode_compressed(msg).astype(int) - smooth).max() < 8
        assert msg.header in [other.header for other in listener.infos]


def test_recorded_images_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    broken = stamped(png(1), 1)
    broken.data = broken.data[:50]
    bag = write_bag(tmp_path / "drive", {"/image/compressed": [png(0), broken, png(2)]})
    with Listener("image") as listener:
        camera = start_camera(listener.domain, source=str(bag), stamps="recorded", loop=False, wait_for_subscribers=1)
        listener.collect(camera)
    assert camera.returncode == 0, listener.said
    assert [msg.header for msg in listener.infos] == [Header(**_fields(png(i).header)) for i in (0, 2)]
    assert "A recorded image is left out: A PNG image of 33x20 is cut short" in listener.said


def _fields(header: Header) -> dict[str, object]:
    return {"stamp": header.stamp, "frame_id": header.frame_id}
