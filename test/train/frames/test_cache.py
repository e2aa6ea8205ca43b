# SPDX-License-Identifier: Apache-2.0
"""Batches are the same bits whatever was kept, whoever made them; and no more is kept than there is room for."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from train import preset as presets
from train.frames.augment import Crop, CropBatches
from train.frames.cache import DecodedFrames
from train.frames.datasets import scenes
from train.frames.frame import Frame
from train.frames.kitti import GROUND_TRUTH_COLOURS, find_frames
from train.frames.memory import Room
from train.run.session import batches_of

SIZES = ((180, 320), (180, 320), (96, 310), (60, 80))  # of which some are read smaller
PRESET = replace(
    presets.load("compact", {"batch_size": 4, "resize": {"policy": "keep_aspect", "width": 64}}),
    crops=(Crop(64, 32, 0.5), Crop(whole=True, share=0.5)),
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """JPEG and PNG of several sizes, and two synthetic scenes."""
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    for kind in ("image_2", "gt_image_2"):
        (folder / kind).mkdir()
    for number, (height, width) in enumerate(SIZES * 2):
        image = cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), (width, height))
        truth = np.full((height, width, 3), GROUND_TRUTH_COLOURS["not road"], np.uint8)
        truth[height // 2 :, width // 4 : -number - 1] = GROUND_TRUTH_COLOURS["road"]
        cv2.imwrite(str(folder / "image_2" / f"um_{number}.{('png', 'jpg')[number % 2]}"), image)
        cv2.imwrite(str(folder / "gt_image_2" / f"um_road_{number}.png"), truth)
    return [*find_frames(folder), *scenes(2, 0)]


def epochs(frames: list[Frame], room: Room, threads: int, share: tuple[int, int] = (0, 1)) -> list[torch.Tensor]:
    """Images and targets of two epochs."""
    batches = batches_of(frames, [1.0] * len(frames), PRESET, room)
    batches.share = share
    made = []
    for batches.epoch in range(2):
        made += [tensor for batch in batches.made(threads) for tensor in batch]
    return made


@pytest.mark.parametrize("room", [0, 200_000, 1e9])
@pytest.mark.parametrize("threads", [0, 3])
def test_batches_are_the_same_bits_whatever_is_kept(frames: list[Frame], room: float, threads: int) -> None:
    expected = epochs(frames, Room(1e9), 0)
    found = epochs(frames, Room(room), threads)
    assert len(found) == len(expected) == 2 * 2 * 3
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_processes_share_batches_of_the_same_bits(frames: list[Frame]) -> None:
    """Of crops with a size of their own; a share of whole frames is as large as its own largest one."""
    whole = epochs(frames, Room(1e9), 0)
    halves = [epochs(frames, Room(room), 2, (i, 2)) for i, room in enumerate((0, 1e9))]
    for batch, first, second in zip(whole, *halves, strict=True):
        for half, part in ((batch[:2], first), (batch[2:], second)):
            cut = tuple(slice(0, side) for side in part.shape)
            assert torch.equal(half[cut], part)


def test_what_is_kept_takes_no_more_room_than_there_is(frames: list[Frame]) -> None:
    read: list[Frame] = []

    def counted(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        read.append(frame)
        return frame.read()

    sizes = [sum(part.nbytes for part in frame.read()) for frame in frames]
    pairs = DecodedFrames(frames, counted, Room(sizes[0] + sizes[1] + 10))
    for _ in range(3):
        for index in range(4):
            assert pairs[index][0].nbytes + pairs[index][1].nbytes == sizes[index]
    assert [read.count(frame) for frame in frames[:4]] == [1, 1, 6, 6]
    assert sum(image.nbytes + labels.nbytes for image, labels in pairs.kept.values()) == sizes[0] + sizes[1]


def test_a_picture_is_read_smaller_where_no_view_needs_more_of_it(frames: list[Frame]) -> None:
    batches = batches_of(frames, [1.0] * len(frames), PRESET, Room(1e9))
    assert isinstance(batches, CropBatches)
    seen = {frame.image.suffix: batches.pairs[i][0].shape[:2] for i, frame in enumerate(frames[:2])}
    assert seen == {".png": (90, 160), ".jpg": (90, 160)}
    for i, frame in enumerate(frames[:2]):
        (image, targets), (whole, labels) = batches.pairs[i], frame.read()
        assert targets.shape == image.shape[:2]
        assert np.abs(image.astype(int) - cv2.resize(whole, (160, 90), interpolation=cv2.INTER_AREA)).mean() < 2
        np.testing.assert_array_equal(targets, labels[1::2, 1::2] * 254)
    assert batches.pairs[7][0].shape == (*SIZES[7 % len(SIZES)], 3)
