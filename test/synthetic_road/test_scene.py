# SPDX-License-Identifier: Apache-2.0
"""The synthetic road: the same bytes for the same seed, and a truth that is what the picture shows."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from road_seg_node.synthetic_road.scene import Road

REPO = Path(__file__).resolve().parents[2]
SEEDS = range(30)


@cache
def frame(seed: int, width: int = 320, height: int = 227, time: float = 0.0) -> tuple[NDArray, NDArray]:
    return Road(seed).render(width, height, time)


def digest(image: NDArray, truth: NDArray) -> str:
    return hashlib.sha256(image.tobytes() + truth.tobytes()).hexdigest()


@pytest.mark.parametrize(("width", "height"), [(480, 360), (320, 227), (576, 160), (1242, 375), (101, 333), (16, 16)])
@pytest.mark.parametrize("seed", [0, 7])
def test_shape_and_type_at_every_size(seed: int, width: int, height: int) -> None:
    image, truth = Road(seed).render(width, height, 1.5)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert truth.shape == (height, width) and truth.dtype == np.bool_
    assert image.flags.c_contiguous and truth.flags.c_contiguous
    assert truth.any() and not truth.all()


def test_a_size_that_is_too_small_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="15x200 pixels; it needs at least 16x16"):
        Road(0).render(15, 200)


def test_another_process_makes_the_same_bytes() -> None:
    code = (
        "import hashlib, sys; from road_seg_node.synthetic_road.scene import Road\n"
        "for seed in (0, 3, 11):\n"
        "    image, truth = Road(seed).render(320, 227, 2.25)\n"
        "    print(hashlib.sha256(image.tobytes() + truth.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True, timeout=120)
    assert there.stdout.split() == [digest(*frame(seed, time=2.25)) for seed in (0, 3, 11)]


def test_what_was_rendered_before_does_not_matter() -> None:
    used = Road(5)
    for time, size in ((9.0, (480, 360)), (0.3, (320, 227)), (4.0, (320, 227))):
        used.render(*size, time)
    assert digest(*used.render(320, 227, 1.0)) == digest(*frame(5, time=1.0))


def test_a_frame_given_out_is_the_callers_own() -> None:
    road = Road(2)
    image, truth = road.render(160, 120)
    before = digest(image, truth)
    image[:], truth[:] = 0, False
    assert digest(*road.render(160, 120)) == before


def test_seeds_differ() -> None:
    assert len({frame(seed)[0].tobytes() for seed in SEEDS}) == len(SEEDS)
    assert len({frame(seed)[1].tobytes() for seed in SEEDS}) == len(SEEDS)


def test_share_of_road_is_that_of_street_frames() -> None:
    shares = np.array([frame(seed)[1].mean() for seed in SEEDS])
    assert shares.min() > 0.02 and shares.max() < 0.65
    assert 0.2 < shares.mean() < 0.45
    assert shares.std() > 0.04


def test_brightness_of_the_road_varies_from_dusk_to_sun() -> None:
    levels = np.array([frame(seed)[0][frame(seed)[1]].mean() for seed in SEEDS])
    assert levels.min() < 60 and levels.max() > 120


@pytest.mark.parametrize("seed", SEEDS)
def test_the_upper_quarter_is_never_road_and_the_camera_stands_on_it(seed: int) -> None:
    _, truth = frame(seed)
    height = len(truth)
    assert not truth[: height // 4].any()
    assert truth[height // 2 :].mean() > 0.1


def test_the_truths_edge_is_where_the_picture_changes() -> None:
    """On the road columns six apart differ little; across the truth's edge they differ more."""
    ratios = []
    for seed in SEEDS:
        image, truth = frame(seed)
        grey = image.astype(np.float32).mean(2)
        # Three pixels to both sides, so that the lens's blur does not matter.
        left, right, step = truth[:, :-6], truth[:, 6:], np.abs(grey[:, 6:] - grey[:, :-6])
        ratios.append(step[left ^ right].mean() / step[left & right].mean())
    assert np.median(ratios) > 2.5
    assert min(ratios) > 1


def test_marks_are_road_and_whole() -> None:
    """White paint inside the road is True: there are bright pixels whose whole neighbourhood is road."""
    bright = 0
    for seed in SEEDS:
        image, truth = frame(seed)
        grey = image.astype(np.float32).mean(2)
        inside = truth[:, 8:-8] & truth[:, 16:] & truth[:, :-16]
        bright += int((inside & (grey[:, 8:-8] > 1.35 * (grey[:, 16:] + grey[:, :-16]) / 2)).sum())
    assert bright > 1000


def test_things_that_stand_on_the_road_are_not_road() -> None:
    """Somewhere in the lower half there is something with road left and right of it: vehicles, riders, posts."""
    enclosed = 0
    for seed in SEEDS:
        _, truth = frame(seed)
        lower = truth[len(truth) // 2 :]
        seen_left = np.maximum.accumulate(lower, axis=1)
        seen_right = np.maximum.accumulate(lower[:, ::-1], axis=1)[:, ::-1]
        enclosed += int((seen_left & seen_right & ~lower).sum() > 50)
    assert 5 <= enclosed < len(SEEDS)


@pytest.mark.parametrize("seed", [0, 4, 9, 16])
def test_time_moves_the_picture_a_little_at_a_time(seed: int) -> None:
    road = Road(seed)
    frames = [road.render(320, 227, k / 10) for k in range(4)] + [road.render(320, 227, 8.0)]
    first, truth = frames[0]
    for image, _ in frames[1:]:
        assert (image[truth] != first[truth]).any(axis=1).mean() > 0.2
    unions = [(truth & other).sum() / (truth | other).sum() for _, other in frames[1:]]
    assert unions[0] > 0.85  # a tenth of a second on, nearly the same pixels are road
    assert unions[0] > unions[3]  # eight seconds on, fewer are


def test_noise_changes_with_time_where_nothing_moves() -> None:
    """Far sky is noise alone, and two times do not share it; a time has its own."""
    road = Road(1)
    one, two, again = (road.render(320, 227, time)[0][:8] for time in (0.0, 0.0004, 0.0))
    assert (one == again).all()
    assert (one != two).any()
    assert np.abs(one.astype(int) - two).mean() < 20


@pytest.mark.parametrize("time", [-3.7, 0.0, 40.0, 3600.0, 1e6])
def test_any_time_will_do(time: float) -> None:
    image, truth = Road(8).render(160, 120, time)
    assert 0.02 < truth.mean() < 0.65
    assert image.std() > 5


def test_a_drive_comes_round() -> None:
    """The road is a loop, so that an hour's drive is as good as the first minute's: the truth keeps its share."""
    road = Road(13)
    shares = [road.render(160, 120, time)[1].mean() for time in np.linspace(0, 600, 41).tolist()]
    assert min(shares) > 0.02 and max(shares) < 0.65
