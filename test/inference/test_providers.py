# SPDX-License-Identifier: Apache-2.0
"""The provider asked for is the one in use, or a sentence says why not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny_model import edit, write_tiny_model

from road_seg_node.inference import RoadSegmenter, model_file, onnxruntime_engine, providers
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT_FOR_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def python(code: str, *arguments: object, path: Path | None = None, **environment: str):
    """Run `code` in a fresh Python that finds road_seg_node, and first of all what lies in `path`."""
    folders = [str(folder) for folder in (path, REPOSITORY) if folder]
    inherited = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=inherited | {"PYTHONPATH": os.pathsep.join(folders)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_provider_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no provider 'gpu': choose one of auto, tensorrt, cuda, openvino, cpu"):
        RoadSegmenter(write_tiny_model(tmp_path / "m.onnx"), "gpu")


def test_auto_tries_the_fastest_first_and_the_cpu_last() -> None:
    assert providers.candidates("auto") == ("tensorrt", "cuda", "openvino", "cpu")
    assert providers.candidates("cpu") == ("cpu",)


def test_cpu_is_used_without_a_word(tmp_path: Path) -> None:
    segmenter = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx"), "cpu")
    assert segmenter.provider == "cpu"
    assert segmenter.refused == []


@pytest.mark.parametrize("provider", ["tensorrt", "cuda"])
def test_a_gpu_provider_either_works_or_is_refused_with_reason_and_remedy(tmp_path: Path, provider: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    try:
        assert RoadSegmenter(path, provider).provider == provider
        return
    except ProviderError as error:
        sentence = str(error)
    assert "\n" not in sentence
    if BUILT_FOR_CUDA:
        assert re.match(f"ONNX Runtime does not use {provider} here: |{provider} cannot run the model", sentence)
    else:
        assert sentence.startswith(f"this ONNX Runtime has no {provider} provider")
        assert "onnxruntime-gpu[cuda,cudnn]" in sentence
    auto = RoadSegmenter(path)
    assert auto.provider != provider
    assert sentence in auto.refused


@pytest.mark.needs("openvino")
def test_auto_takes_openvino_before_the_cpu_and_says_what_it_refused(tmp_path: Path) -> None:
    auto = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx"))
    assert auto.provider in ("tensorrt", "cuda", "openvino")
    tried = providers.candidates("auto")
    assert len(auto.refused) == tried.index(auto.provider)


def test_without_openvino_auto_takes_the_cpu_and_openvino_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so.2641: cannot open shared object file')")
    code = (
        "import sys; from road_seg_node.inference import RoadSegmenter, ProviderError\n"
        "try: RoadSegmenter(sys.argv[1], 'openvino')\n"
        "except ProviderError as error: print(error)\n"
        "auto = RoadSegmenter(sys.argv[1]); print(auto.provider); print(auto.refused[-1])"
    )
    result = python(code, write_tiny_model(tmp_path / "m.onnx"), path=tmp_path)
    sentence, provider, refused = result.stdout.splitlines()
    assert sentence == refused, result.stderr
    assert sentence.startswith("OpenVINO cannot be imported (libopenvino.so.2641: cannot open")
    assert "pip install openvino" in sentence
    assert provider == "cpu"


def test_a_broken_model_is_not_blamed_on_the_provider(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    edit(path, b"Gather", b"Gopher")
    with pytest.raises(ModelFileError, match="Gopher"):
        RoadSegmenter(path, "auto")


@pytest.mark.needs("onnx")
def test_heavy_operators_that_run_elsewhere_are_found() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Conv", ["y", "weights"], ["z"]),
            helper.make_node("Shape", ["z"], ["size"]),
        ],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, None, None])],
        [helper.make_tensor_value_info("size", TensorProto.INT64, [4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime_engine._session_options(onnxruntime)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this ONNX Runtime does not tell which provider computes which node")
    elsewhere = onnxruntime_engine._heavy_elsewhere(session, "CUDAExecutionProvider")
    assert elsewhere == ["Conv on CPUExecutionProvider"]
    assert onnxruntime_engine._heavy_elsewhere(session, "CPUExecutionProvider") == []


@pytest.mark.parametrize(
    ("provider", "file", "precision"),
    [
        ("cpu", "fp32", "fp32"),
        ("cpu", "int8", "int8"),
        ("cpu", "fp16", "fp32"),
        ("cuda", "fp32", "tf32"),
        ("cuda", "int8", "tf32"),
        ("cuda", "fp16", "fp16"),
        ("tensorrt", "int8", "int8"),
    ],
)
def test_the_precision_is_that_of_the_arithmetic(provider: str, file: str, precision: str, tmp_path: Path) -> None:
    model = replace(model_file.read(write_tiny_model(tmp_path / "m.onnx")), precision=file)
    assert onnxruntime_engine._precision(provider, model, exact=False) == precision


def test_nothing_is_printed_while_a_model_is_loaded(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    code = "import sys; from road_seg_node.inference import RoadSegmenter; RoadSegmenter(sys.argv[1], 'auto')"
    result = python(code, path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


WATCH_THE_IMPORT = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
from road_seg_node.inference import RoadSegmenter
print("before the model")
RoadSegmenter(sys.argv[1], "cpu")
"""


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_telemetry_is_off_before_onnxruntime_loads_unless_the_user_said_otherwise(
    tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    result = python(WATCH_THE_IMPORT, write_tiny_model(tmp_path / "m.onnx"), **given)
    assert result.stdout.splitlines() == ["before the model", expected], result.stderr


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("raise ImportError('libsomething.so: cannot open shared object file')", "cannot be imported by"),
        ("", "is an empty shell"),
    ],
    ids=["does not load", "half uninstalled"],
)
def test_onnxruntime_that_is_broken(tmp_path: Path, module: str, expected: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(module)
    code = (
        "import sys; from road_seg_node.inference import RoadSegmenter, ProviderError\n"
        "try: RoadSegmenter(sys.argv[1], 'cpu')\n"
        "except ProviderError as error: print(error)"
    )
    result = python(code, path, path=tmp_path)
    assert expected in result.stdout, result.stderr
    assert "pip" in result.stdout


@pytest.mark.needs("openvino")
def test_openvino_sends_and_writes_nothing_when_it_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from road_seg_node.inference import RoadSegmenter\n"
        "RoadSegmenter(sys.argv[1], 'openvino')\n"
        "print('openvino' in sys.modules, [name for name in sys.modules if 'openvino_telemetry' in name])"
    )
    home = tmp_path / "home"
    home.mkdir()
    result = python(code, write_tiny_model(tmp_path / "m.onnx"), HOME=str(home))
    assert result.stdout == "True []\n", result.stderr
    assert not list(home.iterdir())
