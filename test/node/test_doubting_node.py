# SPDX-License-Identifier: Apache-2.0
"""Doubt on the running node over real DDS: a scene that the model knows, and one that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node_process import NodeProcess, Planner, any_domain, image, pixels, wait_until, write_weighted_model

from road_seg_node.inference.doubt import doubt

THRESHOLD = 0.2
KNOWN, UNKNOWN, EMPTY = (np.zeros((64, 96, 3), np.uint8) for _ in range(3))
KNOWN[32:] = 255  # certainly road
UNKNOWN[32:] = 150  # perhaps


@pytest.fixture
def planner() -> Iterator[Planner]:
    planner = Planner(any_domain())
    yield planner
    planner.close()


def start(planner: Planner, path: Path) -> NodeProcess:
    node = NodeProcess(planner.domain, model=path, provider="cpu")
    node.wait_for("Waiting for images")
    planner.listen("probability")
    planner.wait_for_camera_link()
    return node


def told_of(planner: Planner, picture: np.ndarray) -> dict[str, str]:
    """The diagnostics once they are of that picture alone, which is sent for as long."""
    expected = f"{doubt(pixels(planner.ask(image(picture))['probability'])):.3f}"
    found: dict[str, str] = {}

    def arrived() -> bool:
        planner.ask(image(picture))
        found.update(planner.diagnostics())
        return found["doubt"] == expected

    wait_until(arrived, lambda: f"a doubt of {expected}, last {found.get('doubt')}")
    return found


def test_it_warns_while_the_scene_is_unknown(planner: Planner, tmp_path: Path) -> None:
    node = start(planner, write_weighted_model(tmp_path / "model.onnx", doubt_threshold=THRESHOLD))
    try:
        assert planner.diagnostics()["doubt"] == "-"
        for picture, level in ((KNOWN, "OK"), (UNKNOWN, "WARN"), (KNOWN, "OK"), (EMPTY, "WARN")):
            found = told_of(planner, picture)
            assert (float(found["doubt"]) > THRESHOLD) == (level == "WARN")
            assert found["level"] == level, found["message"]
            assert ("unlike what the model was trained on" in found["message"]) == (level == "WARN")
            assert found["doubt threshold"] == "0.200"
    finally:
        node.stop()


def test_a_model_without_a_threshold_tells_doubt_and_does_not_warn(planner: Planner, tmp_path: Path) -> None:
    node = start(planner, write_weighted_model(tmp_path / "model.onnx"))
    try:
        found = told_of(planner, EMPTY)
        assert (found["doubt"], found["doubt threshold"], found["level"]) == ("1.000", "-", "OK")
    finally:
        node.stop()
