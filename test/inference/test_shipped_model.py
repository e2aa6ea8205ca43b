# SPDX-License-Identifier: Apache-2.0
"""The model that ships: it keeps the contract, is small, and finds the road where it was never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from road_seg_node.inference import RoadSegmenter
from road_seg_node.inference.doubt import doubt
from road_seg_node.shipped import COMPACT
from road_seg_node.synthetic_road.scene import Road
from train.frames.kitti import find_frames
from train.score.metrics import RoadCounts

MODEL = Path(__file__).resolve().parents[2] / COMPACT
LARGEST = 16_000_000  # bytes; it travels with every clone


@pytest.fixture(scope="module")
def segmenter() -> RoadSegmenter:
    return RoadSegmenter(MODEL, "cpu")


def test_it_is_small_sees_as_much_of_every_camera_and_has_a_card(segmenter: RoadSegmenter) -> None:
    assert MODEL.stat().st_size <= LARGEST
    assert segmenter.info.resize["policy"] == "keep_area"
    assert "research" in segmenter.info.licence
    assert segmenter.info.checkpoint_sha256[:12] in MODEL.with_suffix(".md").read_text()


# Floors a little below what the model card states: they are to catch a file that was spoilt, not to measure.
@pytest.mark.parametrize(("folder", "floor"), [("camvid_road/validation", 0.95), ("kitti_consensus/training", 0.94)])
def test_it_finds_the_road_in_real_frames(
    segmenter: RoadSegmenter, data_folder: Path, folder: str, floor: float
) -> None:
    counts = RoadCounts()
    for frame in find_frames(data_folder / folder):
        image, labels = frame.read()
        counts.add(segmenter.probability(image), labels)
    assert counts.iou(segmenter.info.threshold) >= floor


def test_it_doubts_what_it_does_not_know(segmenter: RoadSegmenter) -> None:
    known, turned, dark = [], [], []
    for seed in range(4_000_000, 4_000_010):
        image = Road(seed).render(640, 384)[0]
        for doubts, seen in ((known, image), (turned, image[::-1]), (dark, image // 25)):
            doubts.append(doubt(segmenter.probability(seen)))
    limit = segmenter.info.doubt_threshold
    assert limit is not None
    assert np.median(known) < limit < min(np.median(turned), np.median(dark))


def test_it_finds_the_synthetic_road(segmenter: RoadSegmenter) -> None:
    counts = RoadCounts()
    for seed in range(4_000_000, 4_000_020):  # none that training saw
        image, road = Road(seed).render(1242, 375)
        counts.add(segmenter.probability(image), road.astype(np.uint8))
    assert counts.iou(segmenter.info.threshold) >= 0.9
