# SPDX-License-Identifier: Apache-2.0
"""Frames answered one at a time and counted by view and category, in constant memory but for a number a frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from train.frames.frame import Frame
from train.frames.threads import in_order
from train.labels import IGNORE
from train.score.answers import Answers
from train.score.birdseye import BirdsEye
from train.score.metrics import RoadCounts

PERSPECTIVE, BIRDSEYE = "perspective", "birdseye"
KITTI_CATEGORIES = ("um", "umm", "uu", "um_lane")  # the order of KITTI's own table; others follow
POOLED = "urban"


@dataclass(eq=False)
class Tally:
    """What was counted.

    Attributes:
        counts: by view and category, in lower case; of every frame in perspective.
        lanes: which categories are lanes.
        ranking: the IoU in perspective, at the answers' threshold, of each frame that has road in it.
    """

    counts: dict[str, dict[str, RoadCounts]] = field(
        default_factory=lambda: defaultdict(partial(defaultdict, RoadCounts))
    )
    lanes: set[str] = field(default_factory=set)
    ranking: list[tuple[float, Frame]] = field(default_factory=list)

    def add(self, category: str, probability: np.ndarray, labels: np.ndarray, above: BirdsEye | None) -> None:
        """Count one image in perspective and, where there is a view of it, in the bird's-eye view."""
        self.counts[PERSPECTIVE][category].add(probability, labels)
        if above is not None:
            self.counts[BIRDSEYE][category].add(above.view(probability), above.view(labels, IGNORE))

    def add_all(self, more: Tally) -> None:
        """Count what another tally has counted."""
        for view, categories in more.counts.items():
            for category, counts in categories.items():
                self.counts[view][category] += counts
        self.lanes |= more.lanes
        self.ranking += more.ranking

    def pooled(self, view: str) -> RoadCounts:
        """The counts of all categories but the lanes'."""
        roads = (counts for category, counts in self.counts[view].items() if category not in self.lanes)
        return sum(roads, RoadCounts())

    def by_category(self, view: str) -> dict[str, RoadCounts]:
        """KITTI's categories in KITTI's order, the others by name, and "urban", which pools all but the lanes."""
        rank = {name: i for i, name in enumerate(KITTI_CATEGORIES)}
        names = sorted(self.counts[view], key=lambda name: (rank.get(name, len(rank)), name))
        return {name: self.counts[view][name] for name in names} | {POOLED: self.pooled(view)}


def count(
    answers: Answers,
    frames: Iterable[Frame],
    lanes: set[Frame],
    homographies: Mapping[Frame, np.ndarray],
    tally: Tally,
    threads: int,
) -> RoadCounts:
    """Add frames to `tally`; returns the counts of these frames' road in perspective alone.

    Args:
        lanes: the frames whose ego lane is counted too.
        homographies: of the frames that are counted in the bird's-eye view too, as `birdseye.homography` gives them.
        threads: that answer and count frames ahead; the counts are the same.

    Raises:
        DataError: a frame, its ground truth or its prediction is broken.
    """

    def of(frame: Frame) -> tuple[RoadCounts, Tally]:
        return _count(answers, frame, frame in lanes, homographies.get(frame))

    counts = RoadCounts()
    with closing(in_order(of, frames, threads)) as counted:
        for own, part in counted:
            counts += own
            tally.add_all(part)
    return counts


def _count(answers: Answers, frame: Frame, with_lane: bool, homography: np.ndarray | None) -> tuple[RoadCounts, Tally]:
    image, labels = frame.read(strict=False)
    category = frame.drive.lower()
    if category == POOLED:  # a drive of that name, which the pooled row would hide
        category = f"{POOLED}_drive"
    above = None if homography is None else BirdsEye(homography, *labels.shape)
    own, tally, road = RoadCounts(), Tally(), answers.road(frame, image)
    own.add(road, labels)
    tally.add(category, road, labels, above)
    if with_lane:
        tally.lanes.add(f"{category}_lane")
        truth = frame.labels(frame.lane_ground_truth, labels.shape, strict=False)
        tally.add(f"{category}_lane", answers.lane(frame, image, road), truth, above)
    if own.road.any():
        tally.ranking.append((own.iou(answers.threshold), frame))
    return own, tally


def shown(categories: Mapping[str, RoadCounts], most: int) -> Mapping[str, RoadCounts]:
    """The categories, or the pooled ones alone where there are too many to look at."""
    return categories if len(categories) <= most else {POOLED: categories[POOLED]}
