# SPDX-License-Identifier: Apache-2.0
"""bench/engine.py measures every engine that is installed, and says of the others why not."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import fork_server
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_graphs import export_checkpoint
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from road_seg_node.inference import model_file
from road_seg_node.synthetic_road.scene import Road
from train.network.model import VGGFCN8

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 900  # seconds
PRECISIONS = {"fp32", "tf32", "bf16", "fp16", "int8"}


def run(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it for a round of two frames; modules in the folder `path` stand before those that are installed."""
    command = [ROOT / "bench" / "engine.py", "--rounds", "1", "--frames", "2", *arguments]
    if path is None:
        return fork_server.TRAINER.run(*command, timeout=LIMIT)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    whole = [sys.executable, *command]
    return subprocess.run(whole, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False)


class OneStreet(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [Road(1).render(320, 96)[0][np.newaxis]]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {model_file.INPUT_NAME: self.left.pop()} if self.left else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network whose scores are large, so that answers are not all alike: tiny.pt, .onnx and .int8.onnx."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    network = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("score"):
                parameter.mul_(30)
    resize = {"policy": "keep_aspect", "width": 96}
    preset = {"width": 1 / 16, "batch_norm": True, "head": "pool5", "resize": resize}
    state = {"model": network.state_dict(), "preset": preset, "metrics": {"threshold": 0.5}, "datasets": ["none"]}
    torch.save(state, path / "tiny.pt")
    info = export_checkpoint(path / "tiny.pt", path / "tiny.onnx")
    quantize_static(
        path / "tiny.onnx",
        path / "tiny.int8.onnx",
        OneStreet(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    # Its own answer is its golden one: how near it comes to fp32 is not what is tried here.
    session = onnxruntime.InferenceSession(path / "tiny.int8.onnx", providers=["CPUExecutionProvider"])
    golden = session.run(None, {model_file.INPUT_NAME: model_file.golden_image()[np.newaxis]})[0][0]
    info = dataclasses.replace(info, golden=golden)
    model_file.write(onnx.load(path / "tiny.int8.onnx"), info, path / "tiny.int8.onnx")
    return path


def test_each_installed_engine_has_its_rows_and_answers_alike(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    only = "RoadSegmenter (cpu|cuda)|session|Runtime|OpenCV|OpenVINO|eager fp32"  # torch.compile takes long
    words = ("--model", folder / "tiny.onnx", "--checkpoint", folder / "tiny.pt", "--only", only, "--json", file)
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())
    both = {"RoadSegmenter cpu": ["whole"], "session.run cpu": ["whole"], "ONNX Runtime CPU": ["whole", "bare network"]}
    if importlib.util.find_spec("openvino"):
        both["OpenVINO"] = ["whole", "bare network"]
    expected = {
        (engine, precision, scope) for engine in both for precision in ("fp32", "int8") for scope in both[engine]
    }
    expected |= {("OpenCV DNN", "fp32", "whole"), ("OpenCV DNN", "fp32", "bare network")}
    expected |= {("PyTorch eager", "fp32", "whole")}
    assert expected <= {(row["engine"], row["asked"], row["scope"]) for row in rows}, done.stdout
    for row in rows:
        assert row["model"] == "tiny"
        assert row["precision"] in PRECISIONS
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["frames"] == 2
        assert min(row["peak_mb"], row["cpu_s"], row["gflops"]) > 0
        assert row["roofline"] is None or row["roofline"] > 0
        assert row["largest_difference"] <= (1 if row["precision"] == "fp32" else 64), row
        assert f"{row['engine']:24} {row['precision']:5} {row['median_ms']:9.2f}" in done.stdout
    if not any(row["engine"] == "RoadSegmenter cuda" for row in rows):
        assert "Left out: RoadSegmenter cuda auto whole" in done.stdout
    assert "RoadSegmenter adds" in done.stdout
    assert "before and after the network" in done.stdout


def test_an_engine_that_is_not_ours_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    # What cannot be imported stands for what is not installed.
    (tmp_path / "openvino.py").write_text("raise ModuleNotFoundError('no openvino', name='openvino')\n")
    done = run("--model", folder / "tiny.onnx", "--only", "OpenVINO fp32 whole", path=tmp_path)
    assert done.returncode == 1
    assert "Left out: OpenVINO fp32 whole: openvino is not installed: pip install openvino" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "missing.onnx"), "missing.onnx does not exist"),
        (("--model", "missing.onnx", "--only", "("), "is no regular expression"),
        (("--frames", "0"), "must be 1 or more"),
        (("--json", "nowhere/rows.json"), "there is no folder nowhere"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = run(*words)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
