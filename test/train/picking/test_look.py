# SPDX-License-Identifier: Apache-2.0
"""Looking at a drive, with a real model and a drive that is made as it is read."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_model

from road_seg_node.camera.shots import Shot
from road_seg_node.inference import RoadSegmenter
from train.picking.drive import Drive
from train.picking.look import Looker, doubts

RATE = 10


class Made:
    """A source of streets whose road is wider in every frame; each third frame jumps to another street."""

    rate, mounting = float(RATE), None

    def __init__(self, count: int) -> None:
        self._count = count
        self.alive: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def shots(self) -> Iterator[Shot]:
        for i in range(self._count):
            picture = np.random.default_rng(i // 3).integers(0, 255, (48, 64, 3), np.uint8)
            picture[30:, 10 : 20 + i % 3] = 90
            self.alive.append(weakref.ref(picture))
            yield Shot(picture)
            self.most = max(self.most, sum(one() is not None for one in self.alive))


@pytest.fixture
def model(tmp_path: Path) -> RoadSegmenter:
    return RoadSegmenter(write_tiny_model(tmp_path / "tiny.onnx"), "cpu")


def test_few_frames_are_held_at_once_and_looks_hold_none(model: RoadSegmenter) -> None:
    source = Made(40)
    looks = list(Looker(model, None, 0.2, pytest.fail).looks(Drive("made", Path("made"), source)))
    assert [look.index for look in looks] == list(range(0, 40, 2)) and looks[3].time == pytest.approx(0.6)
    assert source.most <= 3
    assert sum(one() is not None for one in source.alive) <= 1  # the generator's last, until it is collected


def test_flicker_is_known_of_neighbours_that_look_alike(model: RoadSegmenter) -> None:
    looks = list(Looker(model, None, 0.0, pytest.fail).looks(Drive("made", Path("made"), Made(9))))
    known = [not math.isnan(look.measures["flicker"]) for look in looks]
    assert known == [True, True, False] * 3
    assert all(look.measures["flicker"] > 0 for look, is_known in zip(looks, known, strict=True) if is_known)
    assert all(math.isnan(look.measures["other"]) for look in looks)


def test_doubt_is_the_mean_rank_of_what_is_known(model: RoadSegmenter) -> None:
    looks = list(Looker(model, model, 0.0, pytest.fail).looks(Drive("made", Path("made"), Made(3))))
    table = ((0.1, 0.3, 0.2), (0.5, 0.1, math.nan), (0.3, 0.2, 0.9))
    for look, values in zip(looks, table, strict=True):
        assert look.measures["other"] == 0  # of a model and itself
        look.measures = dict(zip(("unsure", "mirrored", "flicker", "other"), (*values, math.nan), strict=True))
    found, reasons = doubts(looks)
    np.testing.assert_allclose(found, [(0 + 1 + 0) / 3, (1 + 0) / 2, (0.5 + 0.5 + 1) / 3])
    assert reasons == ["mirrored", "unsure", "flicker"]
