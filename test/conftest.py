# SPDX-License-Identifier: Apache-2.0
"""Where the tests find real frames, and a ROS domain with a planner and nodes in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # these need ROS, which most tests do not
    from node_process import NodeProcess, Planner

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets: $ROAD_SEG_DATA, or shared/data beside the checkout; skips without one."""
    folder = Path(os.environ.get("ROAD_SEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real frames are not in {folder}; set ROAD_SEG_DATA to a folder that holds them")
    return folder


@pytest.fixture
def domain() -> int:
    from node_process import any_domain

    return any_domain()


@pytest.fixture
def planner(domain: int) -> Iterator[Planner]:
    from node_process import Planner

    planner = Planner(domain)
    yield planner
    planner.close()


@pytest.fixture
def start(domain: int) -> Iterator[type[NodeProcess]]:
    """NodeProcess, in this test's domain; what it started ends with the test."""
    from node_process import NodeProcess

    started: list[NodeProcess] = []

    def start_node(*arguments: str, **parameters: object) -> NodeProcess:
        started.append(NodeProcess(domain, list(arguments), **parameters))
        return started[-1]

    yield start_node
    for node in started:
        node.stop()
