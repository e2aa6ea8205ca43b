# SPDX-License-Identifier: Apache-2.0
"""The parameter model: the shipped files by name, a path, or what suits the provider; log and diagnostics say which."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS's rclpy")

from node_process import REPOSITORY  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

ASK = """
import sys
from road_seg_node.node.model_choice import ModelChoice
choice = ModelChoice(sys.argv[1])
print(choice.path(sys.argv[2]), choice.reason(sys.argv[2]), sep="|")
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the node alone with both models."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "road_seg_node", root / "road_seg_node", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "package.xml", root)
    (root / "models").mkdir()
    for name in ("compact", "full"):
        write_tiny_model(root / "models" / f"road_seg_{name}.onnx", name=f"tiny_{name}")
    return root


@pytest.fixture
def without_full(checkout: Path, tmp_path: Path) -> Path:
    root = tmp_path / "without_full"
    shutil.copytree(checkout, root)
    (root / "models/road_seg_full.onnx").unlink()
    return root


def ask(checkout: Path, asked: str, provider: str) -> list[str]:
    """[the file's path, the reason]"""
    command = [sys.executable, "-c", ASK, asked, provider]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip().split("|")


@pytest.mark.parametrize(
    ("asked", "provider", "file", "reason"),
    [
        ("", "cpu", "models/road_seg_compact.onnx", "compact, since cpu runs on the CPU"),
        ("", "openvino", "models/road_seg_compact.onnx", "compact, since openvino runs on the CPU"),
        ("", "cuda", "models/road_seg_full.onnx", "full, since cuda computes on a GPU"),
        ("", "tensorrt", "models/road_seg_full.onnx", "full, since tensorrt computes on a GPU"),
        ("full", "cpu", "models/road_seg_full.onnx", "full, as the parameter model says"),
        ("compact", "cuda", "models/road_seg_compact.onnx", "compact, as the parameter model says"),
    ],
)
def test_the_shipped_models(checkout: Path, asked: str, provider: str, file: str, reason: str) -> None:
    assert ask(checkout, asked, provider) == [str(checkout / file), reason]


def test_a_path_with_a_home_folder(checkout: Path) -> None:
    assert ask(checkout, "~/m.onnx", "cuda") == [str(Path.home() / "m.onnx"), "the file that the parameter model names"]


def test_where_the_full_one_does_not_ship_a_gpu_gets_the_compact_one(without_full: Path) -> None:
    path, reason = ask(without_full, "", "cuda")
    assert path == str(without_full / "models/road_seg_compact.onnx")
    assert reason == "compact, since the full one, for cuda, does not ship with this installation"


def test_a_shipped_model_that_is_not_here_ends_the_node_with_a_sentence(start, without_full: Path) -> None:
    node = start(checkout=without_full, model="full", provider="cpu")
    assert node.exit_code() == 2
    assert "the road_seg_full model does not ship with this installation" in node.lines[-1]
    assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("asked", "name", "reason"),
    [
        ("", "tiny_compact", "compact, since cpu runs on the CPU"),
        ("full", "tiny_full", "full, as the parameter model says"),
    ],
)
def test_the_node_says_which_and_why(start, planner, checkout: Path, asked: str, name: str, reason: str) -> None:
    node = start(checkout=checkout, model=asked or "''", provider="cpu")
    node.wait_for(f"Chosen: {reason}.")
    assert node.logged(f"Model {name} ")
    values = planner.diagnostics()
    assert (values["model"], values["model chosen"]) == (name, reason)
