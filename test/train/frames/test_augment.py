# SPDX-License-Identifier: Apache-2.0
"""Augmentation: image and labels stay together, crops keep to the frame, and batches repeat themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from road_seg_node.synthetic_road.scene import Road
from train import preset as presets
from train.frames.augment import Crop, CropBatches, crop_pair
from train.labels import IGNORE
from train.network.contract import network_size

STRONG = presets.load("compact", {}).augmentation
GEOMETRY = replace(STRONG, brightness=0, contrast=0, saturation=0, hue=0, gamma=0, blur=0, noise=0, grey=0)
AT_224 = {"policy": "keep_aspect", "width": 224}
AT_384 = {"policy": "keep_aspect", "width": 384}
PLAIN = replace(GEOMETRY, flip=0, scale=(1.0, 1.0), aspect=0, rotation=0)


def blocks(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose brightness says its label: white where road, black where not."""
    labels = np.zeros((height, width), np.uint8)
    labels[height // 3 :, width // 4 : width // 2] = 1
    return np.repeat(labels[..., None] * 255, 3, axis=2), labels


@pytest.mark.parametrize("size", [(360, 480), (227, 320), (160, 576), (375, 1242)])
@pytest.mark.parametrize("crop", [Crop(384, 128, 1), Crop(352, 224, 1)])
def test_labels_follow_the_image(size: tuple[int, int], crop: Crop) -> None:
    pair, rng = blocks(*size), np.random.default_rng(0)
    for _ in range(20):
        image, labels = crop_pair(pair, crop, AT_384, GEOMETRY, rng)
        assert image.shape == (crop.height, crop.width, 3) and labels.shape == (crop.height, crop.width)
        valid = labels != IGNORE
        agree = (image[..., 0] >= 128) == (labels == 1)
        assert agree[valid].mean() > 0.985, "only pixels at an edge may differ, by rounding"
        assert valid.mean() > 0.9, "a crop must not reach far beyond its frame"


def test_without_augmentation_the_frame_comes_out_as_it_went_in() -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (128, 384, 3), np.uint8), rng.integers(0, 2, (128, 384)).astype(np.uint8)
    image, labels = crop_pair(frame, Crop(384, 128, 1), AT_384, PLAIN, rng)
    np.testing.assert_array_equal(labels, frame[1])
    np.testing.assert_array_equal(image, frame[0])


@pytest.mark.parametrize("resize", [{"policy": "stretch", "width": 576, "height": 160}, AT_384])
@pytest.mark.parametrize("size", [(375, 1242), (360, 480)])
def test_a_whole_crop_is_the_frame_as_the_network_will_see_it(resize: dict[str, Any], size: tuple[int, int]) -> None:
    image, labels = Road(0).render(size[1], size[0])
    view, truth = crop_pair((image, labels.astype(np.uint8)), Crop(whole=True), resize, PLAIN, np.random.default_rng(0))
    x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float()
    expected = functional.interpolate(x, network_size(*size, resize), mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert view.shape == expected.shape and truth.shape == view.shape[:2]
    inner = slice(2, -2)  # beyond the frame's edge the warp mirrors, and the network repeats
    assert np.abs(view[inner, inner] - expected[inner, inner]).mean() < 1


@pytest.mark.parametrize("threads", [0, 1])
def test_whole_frames_of_mixed_sizes_make_batches_filled_with_pixels_that_are_not_valid(threads: int) -> None:
    pairs = [blocks(100, 200), blocks(160, 200), blocks(40, 64)]  # 128x224, 192x224 and 160x224 at a width of 224
    data = CropBatches(pairs, [1.0] * 3, 2, [Crop(whole=True)], AT_224, PLAIN, seed=0)
    sizes = set()
    for images, labels in data.made(threads):
        assert images.shape == (2, 3, *labels.shape[1:]) and images.dtype == torch.uint8
        for image, truth in zip(images, labels, strict=True):
            rows = int((truth != IGNORE).any(1).sum())
            sizes.add(rows)
            assert (truth[:rows] != IGNORE).all() and not image[:, rows:].any()
    assert len(data) == 2 and sizes == {128, 160, 192}


def test_the_last_batch_is_filled_up() -> None:
    data = CropBatches([blocks(64, 64)] * 289, [1.0] * 289, 10, [Crop(whole=True)], AT_384, PLAIN, seed=0)
    assert len(data) == 29
    shown = np.bincount(data.order())
    assert shown.sum() == 290 and set(shown) == {1, 2}


def test_flip_mirrors_image_and_labels() -> None:
    pair = blocks(128, 384)
    _, labels = crop_pair(pair, Crop(384, 128, 1), AT_384, replace(PLAIN, flip=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(labels, pair[1][:, ::-1])


def batches(threads: int, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = [blocks(100 + i, 200 + i) for i in range(10)]
    crops = (Crop(96, 64, 0.5), Crop(64, 64, 0.5))
    data = CropBatches(pairs, [1.0] * 9 + [3.5], 4, crops, {"policy": "keep_aspect", "width": 96}, STRONG, seed=3)
    data.epoch = epoch
    return list(data.made(threads))


def test_batches_are_a_function_of_seed_and_epoch_whatever_the_threads() -> None:
    alone, shared, later = batches(0, 1), batches(2, 1), batches(0, 2)
    assert len(alone) == len(shared) == 4
    for (image, labels), (same_image, same_labels) in zip(alone, shared, strict=True):
        assert torch.equal(image, same_image) and torch.equal(labels, same_labels)
    assert any(a.shape != b.shape or not torch.equal(a, b) for (a, _), (b, _) in zip(alone, later, strict=True))


@pytest.mark.parametrize(("weights", "tolerance"), [([1.0, 4.0, 0.5], 0.02), ([0.0, 0.01, 0.02], 0.1)])
def test_a_weight_says_how_often_a_frame_is_shown(weights: list[float], tolerance: float) -> None:
    """Also where chance leaves hardly an epoch with a frame, and one has to be drawn."""
    data = CropBatches([blocks(64, 64)] * 3, weights, 1, (Crop(64, 64, 1),), AT_384, STRONG, seed=0)
    shown = np.zeros(3)
    for data.epoch in range(400):
        shown += np.bincount(data.order(), minlength=3)
    np.testing.assert_allclose(shown / shown.sum(), np.array(weights) / sum(weights), atol=tolerance)
    assert (shown > 0).tolist() == [weight > 0 for weight in weights]
