# SPDX-License-Identifier: Apache-2.0
"""bench/node.py measures the node and the plainest one over DDS; bench/soak.py finds every frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_process import REPOSITORY, any_domain
from tiny_model import write_tiny_model


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "bench" / program, *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(any_domain())},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def test_rows_of_both_nodes(model: Path, tmp_path: Path) -> None:
    """Their counts fit each other; what they took is not a test's business."""
    said = run(
        "node.py", "--rates", "40", "--seconds", "1", "--model", model, "--only", "node$", "--json", tmp_path / "n.json"
    )
    assert said.returncode == 0, said.stderr
    ours, plain = json.loads((tmp_path / "n.json").read_text())
    assert (ours["node"], plain["node"]) == ("road_seg_node", "plain node")
    for row in (ours, plain):
        assert row["sent"] == 40
        assert row["masks"] <= row["answered"] <= row["arrived"] <= 40
        assert row["node"] in said.stdout
    assert ours["arrived"] == ours["answered"] + ours["superseded"] > 0
    for stage in ("transport", "wait", "convert", "infer", "publish"):
        assert 0 <= ours[f"{stage}_p50_ms"] <= ours[f"{stage}_p99_ms"]
    assert ours["own_p50_ms"] == pytest.approx(ours["wait_p50_ms"] + ours["convert_p50_ms"] + ours["publish_p50_ms"])


def test_soak_accounts_for_every_frame(model: Path, tmp_path: Path) -> None:
    """Memory is not looked at: the libraries have not settled in so short a time."""
    short = ("--minutes", "0.05", "--rate", "40", "--reload", "1")
    run("soak.py", *short, "--model", model, "--json", tmp_path / "soak.json")
    found = json.loads((tmp_path / "soak.json").read_text())
    frames = found["frames"]
    assert frames.pop("pending") == 0
    assert frames.pop("received") == sum(frames.values()) > 0
    assert frames["answered"] >= found["masks"] > 0
    assert found["reloads"] >= 1
    assert (found["reloads_failed"], found["exit_status"]) == (0, 0)
