# SPDX-License-Identifier: Apache-2.0
"""A running node at which test_hostile.py throws what a robot's network may bring."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from node_process import (
    NodeProcess,
    Planner,
    image,
    node_and_planner,
    pixels,
    scene,
    weighted_probability,
    write_weighted_model,
)
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

SEEDS = itertools.count(100)


@dataclass
class Rig:
    """A node with the planner that plays camera, and the model file that it runs."""

    node: NodeProcess
    planner: Planner
    model: Path
    good: Callable[[int], Image | CompressedImage]  # an image of scene(seed=...)
    counts: dict[str, int]  # of frames, as last heard while none was pending

    def assert_goes_on(self) -> dict[str, int]:
        """The next good frame is answered right, and none is without its fate. Returns the counts since last time."""
        seed = next(SEEDS)
        answer = self.planner.ask(self.good(seed))["probability"]
        np.testing.assert_array_equal(pixels(answer), weighted_probability(scene(seed=seed)))
        before = self.counts
        self.counts = self.planner.counts(lambda counts: counts["pending"] == 0)
        assert self.counts["inference error"] == 0
        assert "Traceback" not in self.node.log
        return {fate: count - before[fate] for fate, count in self.counts.items()}

    def reload(self) -> Trigger.Response:
        return self.planner.call(Trigger, "reload_model", Trigger.Request())


def coded(data: bytes, format: str = "bgr8; png compressed bgr8") -> CompressedImage:
    msg = CompressedImage(format=format)
    msg.data.frombytes(data)
    return msg


def png(seed: int) -> CompressedImage:
    return coded(cv2.imencode(".png", scene(seed=seed))[1].tobytes())


def running(folder: Path, transport: str) -> Iterator[Rig]:
    compressed, model = transport == "compressed", write_weighted_model(folder / "weighted.onnx")
    given = {"model": model, "provider": "cpu", "image_transport": transport}
    with node_and_planner("probability", compressed=compressed, **given) as (node, planner):
        counts = planner.counts(lambda counts: counts["received"] == 0)
        yield Rig(node, planner, model, png if compressed else lambda seed: image(scene(seed=seed)), counts)
        assert node.stop() == 0
