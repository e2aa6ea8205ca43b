# SPDX-License-Identifier: Apache-2.0
"""Which tests a machine can run, where they find real frames, and a ROS domain with a planner and nodes in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # these need ROS, which most tests do not
    from node_process import NodeProcess, Planner

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ("bench", "export", "train")  # rooms of tests that need PyTorch


class LeftOut(pytest.Module):
    """A file of the trainer's tests where the trainer is not installed, as on a robot."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("the trainer's, which needs PyTorch: `make setup` installs it")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if module_path.relative_to(ROOT / "test").parts[0] in TRAINER and find_spec("torch") is None:
        module: pytest.Module = LeftOut.from_parent(parent, path=module_path)
        return module
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        if find_spec(mark.args[0]) is None:
            pytest.skip(f"{mark.args[0]} is not here: pip install {mark.args[0]}")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the folder of exported_graphs.py, one for all processes of a run; lets Ctrl-C end what tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script, and programs inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # of pytest-xdist
        os.environ["ROAD_SEG_TEST_GRAPHS"] = tempfile.mkdtemp(prefix="road_seg_test_graphs_")
        config.add_cleanup(lambda: shutil.rmtree(os.environ["ROAD_SEG_TEST_GRAPHS"], ignore_errors=True))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets: $ROAD_SEG_DATA, or shared/data beside the checkout; skips without one."""
    folder = Path(os.environ.get("ROAD_SEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real frames are not in {folder}; set ROAD_SEG_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which colcon has built this package."""
    folder = tmp_path_factory.mktemp("workspace")
    built = subprocess.run(
        ["colcon", "build", "--base-paths", str(ROOT)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What programs remember between two runs does not come from, or go to, the home of whoever runs the tests."""
    caches, fonts = tmp_path_factory.mktemp("caches"), Path("~/.cache/matplotlib").expanduser()
    if fonts.is_dir():  # a list of the fonts, which takes seconds to make
        (caches / "matplotlib").symlink_to(fonts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches))
        yield


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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A camera's folder with one picture of every brightness and some colour, and a space in its name."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    import cv2
    import numpy as np

    picture = np.random.default_rng(1).integers(100, 160, (375, 1242, 3), np.uint8)
    cv2.imwrite(str(folder / "noise.png"), picture)
    return folder
