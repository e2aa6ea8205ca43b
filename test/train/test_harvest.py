# SPDX-License-Identifier: Apache-2.0
"""From a real bag, a video and a folder to proposals that a person corrects and the trainer reads."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fork_server
import numpy as np
import pytest
from bag_files import png, raw, stamped, write_bag
from sensor_msgs.msg import CompressedImage, Image
from tiny_model import write_tiny_model
from trainer_process import LIMIT, ROOT

from road_seg_node.ros.images import to_message
from road_seg_node.synthetic_road.scene import Road
from train.frames.duplicates import NEAR, perceptual_hash
from train.frames.sources import sources_of

COUNT, RATE, SIZE = 30, 20, (160, 96)
TOPIC = "/camera/image_raw"
SHIPPED = ROOT / "models" / "road_seg_compact.onnx"


HARVEST = ROOT / "train" / "harvest.py"
FORKED = fork_server.ForkServer("train.harvest")


def harvest(*options: Any) -> subprocess.CompletedProcess[str]:
    return FORKED.run(HARVEST, *options, timeout=LIMIT)


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Five streets of six frames each, of which neighbours are much alike."""
    roads = [Road(seed) for seed in range(5)]
    return [roads[i // 6].render(*SIZE, i % 6 / RATE)[0] for i in range(COUNT)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def bag_of(scenes: list[np.ndarray], path: Path) -> Path:
    """One of its messages is damaged."""
    messages = [stamped(to_message(scene, "bgr8", Image().header), i) for i, scene in enumerate(scenes)]
    messages[4].step = 7
    return write_bag(path, {TOPIC: messages})


def video_of(scenes: list[np.ndarray], path: Path) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, SIZE)
    for scene in scenes:
        video.write(scene)
    video.release()
    return path


def folder_of(scenes: list[np.ndarray], path: Path) -> Path:
    path.mkdir()
    for i, scene in enumerate(scenes):
        assert cv2.imwrite(str(path / f"frame{i}.png"), scene)
    return path


MAKERS: dict[str, Callable[[list[np.ndarray], Path], Path]] = {
    "drive": bag_of,
    "drive.avi": video_of,
    "drive.pictures": folder_of,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_harvest_is_a_data_set_three_times_over(
    name: str, scenes: list[np.ndarray], model: Path, tmp_path: Path
) -> None:
    drive, out = MAKERS[name](scenes, tmp_path / name), tmp_path / "out"
    done = harvest(drive, "--model", model, "--out", out, "--count", 4, "--every", 0.1)
    assert done.returncode == 0, done.stderr
    looked = COUNT if drive.is_dir() and name != "drive" else COUNT // 2
    assert f"Took 4 of {looked} frames looked at" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out"])
    record = json.loads((out / "harvest.json").read_text())
    frames = record["frames"]
    assert [frame["doubt"] for frame in frames] == sorted((frame["doubt"] for frame in frames), reverse=True)
    hashes = []
    for frame in frames:
        at = frame["frame"]
        assert frame["image"] == f"drive_{at:06}.png"
        picture = cv2.imread(str(out / "image_2" / frame["image"]))
        assert np.abs(picture.astype(int) - scenes[at]).mean() < (6 if name == "drive.avi" else 1e-9)
        hashes.append(perceptual_hash(picture))
        assert set(frame["measures"]) <= {"unsure", "mirrored", "flicker"} and frame["reason"]
        if name == "drive.pictures":
            assert frame["time"] is None and Path(frame["source"]) == drive / f"frame{at}.png"
        else:
            assert Path(frame["source"]) == drive
            begin = 1_700_000_000.01 if name == "drive" else 0
            assert frame["time"] == pytest.approx(begin + at / RATE, abs=1e-5)
    assert all((a != b).sum() > NEAR for i, a in enumerate(hashes) for b in hashes[:i])
    assert cv2.imread(str(out / "sheet.jpg")).shape == (216, 4 * 320, 3)
    read = []
    for word in (str(out), f"labelme:{out / 'image_2'}", f"coco:{out / 'coco.json'}"):
        (source,) = sources_of([word])
        found = {frame.image.name: frame.read()[1] for frame in source.find()[0]}
        assert sorted(found) == sorted(frame["image"] for frame in frames)
        read.append(found)
    for image, labels in read[0].items():
        assert set(np.unique(labels)) <= {0, 1}
        np.testing.assert_array_equal(labels, read[1][image])
        np.testing.assert_array_equal(labels, read[2][image])
    assert any(labels.any() for labels in read[0].values())
    if name == "drive":
        assert "1 frame(s)" in done.stderr and "frame 4: An image of 160x96" in done.stderr


def test_what_a_person_corrects_is_what_is_trained_on(
    scenes: list[np.ndarray], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert harvest(folder_of(scenes[::6], tmp_path / "a"), "--model", model, "--out", out).returncode == 0
    image = json.loads((out / "harvest.json").read_text())["frames"][0]["image"]
    truth = out / "gt_image_2" / image.replace("a_", "a_road_")
    corrected = cv2.imread(str(truth))
    corrected[:10], corrected[10:20] = (255, 0, 255), 0
    assert cv2.imwrite(str(truth), corrected)
    beside = (out / "image_2" / image).with_suffix(".json")
    content = json.loads(beside.read_text())
    content["shapes"] = [{"label": "road", "points": [[0, 0], [160, 0], [160, 10], [0, 10]], "shape_type": "polygon"}]
    beside.write_text(json.dumps(content))
    for word, below in ((str(out), 255), (f"labelme:{out / 'image_2'}", 0)):
        (source,) = sources_of([word])
        (labels,) = (frame.read()[1] for frame in source.find()[0] if frame.image.name == image)
        assert (labels[:10] == 1).all() and (labels[11:20] == below).all()


def test_several_drives_and_a_second_model(scenes: list[np.ndarray], model: Path, tmp_path: Path) -> None:
    drives = [folder_of(scenes[first::12], tmp_path / place) for first, place in ((0, "a b"), (6, "c.d"))]
    (tmp_path / "else").mkdir()
    drives.append(folder_of(scenes[9::12], tmp_path / "else" / "a b"))
    out = tmp_path / "out"
    done = harvest(*drives, "--model", model, "--other-model", SHIPPED, "--out", out, "--count", 50)
    assert done.returncode == 0, done.stderr
    frames = json.loads((out / "harvest.json").read_text())["frames"]
    assert {frame["image"].rpartition("_")[0] for frame in frames} == {"a-b", "c", "a-b-2"}
    assert all(0 < frame["measures"]["other"] < 1 for frame in frames)
    assert "The others are near-duplicates of these." in done.stdout


@pytest.fixture
def wrong(scenes: list[np.ndarray], tmp_path: Path) -> Path:
    """A folder of drives that cannot be harvested."""
    write_bag(tmp_path / "two", {"/left/image": [raw(0)], "/right/image": [png(0)]})
    write_bag(tmp_path / "depth", {"/depth": [stamped(Image(encoding="32FC1", width=1, height=1), 0)]})
    write_bag(tmp_path / "cut", {"/c": [stamped(CompressedImage(format="jpeg"), 0)]})
    folder_of(scenes[:1], tmp_path / "broken")
    (tmp_path / "broken" / "frame1.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("a drive")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    folder_of(scenes[:3], tmp_path / "good")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["two"], "has images on several topics; name one with --topic: /left/image (sensor_msgs/msg/Image, 1 mess"),
        (["two", "--topic", "/rear"], "has no images on /rear; it has /left/image"),
        (["depth"], "No frame of {}/depth can be read."),
        (["cut"], "A compressed image is empty."),
        (["broken"], "frame1.png is not a PNG or JPEG picture"),
        (["empty"], "has no pictures; it should hold PNG or JPEG files"),
        (["text.txt"], "cannot be read as a video"),
        (["nowhere.mcap"], "There is no {}/nowhere.mcap: give a bag"),
        (["synthetic:3"], "synthetic has no end"),
        (["good", "--out", "full"], "full is there already, and not an empty folder"),
        (["good", "--out", "no/where"], "There is no folder {}/no to make where in"),
        (["good", "--model", "missing.onnx"], "missing.onnx"),
        (["good", "--model", "text.txt"], "text.txt"),
        (["good", "--count", "0"], "--count must be at least 1"),
        (["good", "--every", "nan"], "--every must be at least 0"),
    ],
)
def test_a_mistake_is_a_sentence(options: list[str], named: str, wrong: Path, model: Path) -> None:
    before = sorted(wrong.rglob("*"))
    places = [option if option.startswith(("-", "/", "synthetic")) or option.isdigit() or option == "nan"
              else str(wrong / option) for option in options]  # fmt: skip
    if "--out" not in options:
        places += ["--out", str(wrong / "out")]
    done = harvest(*(places if "--model" in options else [*places, "--model", model]))
    assert done.returncode == 2, done.stderr
    assert named.format(wrong) in done.stderr and "Traceback" not in done.stderr
    assert sorted(wrong.rglob("*")) == before


def test_a_full_disk_is_a_sentence_and_leaves_nothing(wrong: Path, model: Path) -> None:
    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    before = sorted(wrong.rglob("*"))
    command = [sys.executable, HARVEST, wrong / "good", "--model", model, "--out", wrong / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, preexec_fn=no_room)
    assert done.returncode == 2 and "cannot be written: File too large." in done.stderr, done.stderr
    assert sorted(wrong.rglob("*")) == before
