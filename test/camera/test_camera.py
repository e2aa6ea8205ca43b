# SPDX-License-Identifier: Apache-2.0
"""The camera made of a folder, a video or the synthetic road, and the node that publishes it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_process import Listener, start_camera
from kitti_folder import copied_by_a_mac, write_calibration
from node_process import PATIENCE, any_domain

from road_seg_node.camera.shots import CameraError
from road_seg_node.camera.sources import DEFAULT_SEED, open_source
from road_seg_node.ros.images import to_bgr
from road_seg_node.synthetic_road.scene import Road


def plain(value: int, height: int = 20, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def take(source: str, count: int, **options: Any) -> list[np.ndarray]:
    return [shot.picture for shot in itertools.islice(open_source(source, **options).shots(), count)]


def test_synthetic_frames_are_the_road_at_the_frames_times() -> None:
    road = Road(5)
    for index, frame in enumerate(take("synthetic:5", 3, width=160, height=96, rate=4.0)):
        np.testing.assert_array_equal(frame, road.render(160, 96, index / 4.0)[0])


def test_a_seed_names_a_road_and_without_one_there_is_a_default() -> None:
    default = take("synthetic", 1)
    np.testing.assert_array_equal(default, take(f"synthetic:{DEFAULT_SEED}", 1))
    assert not np.array_equal(default, take(f"synthetic:{DEFAULT_SEED + 1}", 1))


def test_folder_goes_by_name_as_people_count(tmp_path: Path) -> None:
    for name, value in (("b10.PNG", 30), ("b9.png", 20), ("a.png", 10), ("c.jpg", 40)):
        cv2.imwrite(str(tmp_path / name), plain(value))
    (tmp_path / "notes.txt").write_text("not a picture")
    copied_by_a_mac(tmp_path)
    (tmp_path / "._drive.mcap").touch()  # does not make a bag of the folder
    assert [frame[0, 0, 0] for frame in take(str(tmp_path), 5)] == [10, 20, 30, 40]


def test_folder_of_kitti_gives_its_camera_images_only(tmp_path: Path) -> None:
    for folder, value in (("gt_image_2", 99), ("image_2", 10)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "um_000000.png"), plain(value))
    assert [frame[0, 0, 0] for frame in take(str(tmp_path), 2)] == [10]


def test_calibration_is_known_of_the_synthetic_road_and_beside_kittis_pictures(tmp_path: Path) -> None:
    synthetic = open_source("synthetic:5", 160, 96)
    k, height = Road(5).camera(160, 96)
    info = next(synthetic.shots()).info
    assert (info.width, info.height, info.distortion_model) == (160, 96, "plumb_bob")
    np.testing.assert_array_equal(info.k.reshape(3, 3), k)
    np.testing.assert_array_equal(info.p.reshape(3, 4), np.column_stack([k, np.zeros(3)]))
    assert synthetic.mounting == (height, 0.0, 0.0)

    (tmp_path / "image_2").mkdir()
    for number in (0, 1):
        cv2.imwrite(str(tmp_path / "image_2" / f"um_00000{number}.png"), plain(10))
    write_calibration(tmp_path / "calib" / "um_000001.txt", tilt=0.02)
    kitti = open_source(str(tmp_path))
    infos = [shot.info for shot in kitti.shots()]
    assert infos[0] is None
    np.testing.assert_array_equal(infos[1].k, [700, 0, 600, 0, 700, 180, 0, 0, 1])
    assert (infos[1].width, infos[1].height) == (32, 20)
    assert kitti.mounting is not None
    assert kitti.mounting == pytest.approx((1.65, -0.02, 0.0), abs=0.003)

    (tmp_path / "calib" / "um_000001.txt").write_text("P2: 1 2 3")
    with pytest.raises(CameraError, match=r"um_000001\.txt has a line 'P2:' that does not hold 12 numbers"):
        open_source(str(tmp_path))


def test_grey_picture_becomes_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), plain(77)[..., 0])
    np.testing.assert_array_equal(take(str(tmp_path), 1)[0], plain(77))


def test_video_goes_to_its_end_at_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (32, 20))
    for value in (40, 120, 200):
        film.write(plain(value))
    film.release()
    values = np.array([frame.mean() for frame in take(str(path), 5)])
    np.testing.assert_allclose(values, [40, 120, 200], atol=3)
    assert open_source(str(path)).rate == 12.5


def write_film(path: Path, values: list[int], damaged: tuple[int, ...] = ()) -> None:
    """A video of one JPEG a frame, 10 a second, each plain; of the `damaged` ones nothing is left."""
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 20))
    for value in values:
        film.write(plain(value))
    film.release()
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    assert len(starts) == len(values)
    for index in damaged:
        end = data.index(b"\xff\xd9", starts[index]) + 2
        data[starts[index] : end] = bytes(end - starts[index])
    path.write_bytes(data)


@pytest.mark.parametrize("damaged", [(3,), (0,), (3, 4, 5, 8), (10,)], ids=["one", "the first", "several", "the last"])
def test_damaged_frames_of_a_video_are_left_out_and_told(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    values, said = [20 * i for i in range(11)], []
    write_film(tmp_path / "film.avi", values, damaged)
    source = open_source(str(tmp_path / "film.avi"), tell=said.append)
    for _ in range(2):  # the second time as the first
        said.clear()
        found = [float(shot.picture.mean()) for shot in source.shots()]
        np.testing.assert_allclose(found, [v for i, v in enumerate(values) if i not in damaged], atol=3)
        if damaged == (10,):
            assert len(said) == 1
            assert re.search(r"film\.avi announces 11 frames, but after 10 no further one can be decoded\.", said[0])
        else:
            told = r"(\d+) frame\(s\) of .*film\.avi after frame \d+ are damaged and left out\."
            assert sum(int(re.fullmatch(told, sentence)[1]) for sentence in said) == len(damaged)


def test_of_a_healthy_video_nothing_is_told_and_of_a_cut_one_its_end(tmp_path: Path) -> None:
    path, said = tmp_path / "film.avi", []
    write_film(path, [20 * i for i in range(11)])
    assert len(list(open_source(str(path), tell=said.append).shots())) == 11
    assert said == []
    data = path.read_bytes()
    path.write_bytes(data[: [found.start() for found in re.finditer(b"\xff\xd8\xff", data)][6]])
    assert len(list(open_source(str(path), tell=said.append).shots())) == 6
    assert len(said) == 1 and "announces 11 frames, but after 6 no further one can be decoded" in said[0]


def test_sources_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.png").write_bytes(b"no picture")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    expected = {
        "synthetic:two": "whole number",
        "synthetic:-1": "whole number",
        str(tmp_path / "absent"): "absent",
        "": "give a folder of pictures, a video file, a bag",
        str(tmp_path / "empty"): "has no pictures",
        str(tmp_path / "broken"): "one.png cannot be read as a picture",
        str(tmp_path / "film.mp4"): "cannot be read as a video",
    }
    for source, words in expected.items():
        with pytest.raises(CameraError, match=words):
            open_source(source)


@pytest.mark.parametrize("number", ["0", "nan"])
def test_a_kitti_calibration_of_nothing_is_named(tmp_path: Path, number: str) -> None:
    for folder in ("image_2", "calib"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "image_2" / "um_000000.png"), plain(10))
    lines = [f"{name}: " + f"{number} " * count for name, count in (("P2", 12), ("R0_rect", 9), ("Tr_cam_to_road", 12))]
    (tmp_path / "calib" / "um_000000.txt").write_text("\n".join(lines))
    with pytest.raises(CameraError, match=r"um_000000\.txt h(as|olds)"):
        open_source(str(tmp_path))


def test_pictures_beside_a_metadata_file_of_their_data_set_are_no_bag(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("title: pictures\n")
    cv2.imwrite(str(tmp_path / "a.png"), plain(10))
    assert len(list(open_source(str(tmp_path)).shots())) == 1


def test_a_topic_of_what_has_none_is_refused() -> None:
    with pytest.raises(CameraError, match="Leave out the topic /front/image: only a bag has topics"):
        open_source("synthetic", topic="/front/image")


def test_a_later_unreadable_picture_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), plain(10))
    (tmp_path / "b.png").write_bytes(b"no picture")
    shots = open_source(str(tmp_path)).shots()
    next(shots)
    with pytest.raises(CameraError, match=r"b\.png cannot be read"):
        next(shots)


def test_published_frames_and_camera_info(tmp_path: Path) -> None:
    """Every stamp arrives by camera_info, each image has the stamp of one, and its pixels are the picture's."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), picture)
    count = 12
    with Listener("image") as listener:
        camera = start_camera(
            listener.domain, source=str(tmp_path), rate=50, count=count, frame_id="front", wait_for_subscribers=1
        )
        listener.collect(camera)
    assert camera.returncode == 0, listener.said
    infos, images = listener.infos, listener.images
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
    assert not info.k.any() and not info.p.any()  # REP 104's way to say that there is no calibration


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "/nowhere/at/all"}, "There is no folder, video or bag '/nowhere/at/all'"),
        ({"rate": -1}, "rate must be from 0 to 1000 frames a second, not -1.0"),
        ({"rate": "fast"}, "rate must be a number, not 'fast'"),
        ({"stamps": "then"}, "stamps must be one of now, recorded, not 'then'"),
        ({"width": 3}, "from 16 to 8192"),
        ({"count": -1}, "0 or more"),
    ],
)
def test_wrong_parameter_is_one_sentence_and_status_2(parameters: dict[str, Any], words: str) -> None:
    camera = start_camera(any_domain(), **parameters)
    said, _ = camera.communicate(timeout=PATIENCE)
    assert camera.returncode == 2
    assert words in said
    assert "Traceback" not in said
