# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: what is taken from a file computes what the file computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.export import export_checkpoint
from road_seg_node import model_file
from road_seg_node.parameters import SHIPPED_MODEL
from road_seg_node.scene import Road
from road_seg_node.segmenter import RoadSegmenter
from train.contract import RoadProbability, normalise
from train.model import VGGFCN8
from train.weights import WeightsError, calibrate, from_model_file

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / SHIPPED_MODEL
SIZES = ((1242, 375), (480, 360), (321, 227), (640, 480))


def pictures() -> list[np.ndarray]:
    """uint8 [H, W, 3] BGR: synthetic roads of four sizes, and noise."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    return [Road(seed).render(*size)[0] for seed, size in enumerate(SIZES)] + [noise]


def largest_difference(network: VGGFCN8, path: Path) -> int:
    """Between PyTorch's answer with `network` and ONNX Runtime's with the file, of 255."""
    segmenter, worst = RoadSegmenter(path, "cpu"), 0
    module = RoadProbability(network, segmenter.info.resize)
    for picture in pictures():
        with torch.inference_mode():
            answer = module(torch.from_numpy(picture)[None])[0].numpy()
        worst = max(worst, int(np.abs(answer.astype(int) - segmenter.probability(picture)).max()))
    return worst


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    """Normalised batches of synthetic roads at 384x128, as training sees them."""
    shown = [[Road(8 * b + i).render(384, 128)[0][..., ::-1].copy() for i in range(8)] for b in range(2)]
    return [normalise(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)) for batch in shown]


def test_the_shipped_files_network_answers_as_the_file_before_and_after_calibration(
    batches: list[torch.Tensor],
) -> None:
    network, info = from_model_file(MODEL)
    assert network.architecture == info.architecture == "VGG-FCN-8 width 0.25 batch-norm pool5"
    assert largest_difference(network, MODEL) <= 1
    calibrate(network, batches)
    assert not network.training
    assert largest_difference(network, MODEL) <= 1


def test_a_calibrated_network_answers_in_training_nearly_what_it_answers_afterwards(
    batches: list[torch.Tensor],
) -> None:
    network, _ = from_model_file(MODEL)
    before = network.state_dict()["features.1.running_mean"].clone()
    road = [network(batch).softmax(1)[:, 1] for batch in batches]
    calibrate(network, batches)
    assert not torch.equal(network.state_dict()["features.1.running_mean"], before)
    with torch.inference_mode():
        for batch, expected in zip(batches, road, strict=True):
            in_training = network.train()(batch).softmax(1)[:, 1]
            assert (in_training - expected).abs().mean() < 0.02


def exported(folder: Path, network: VGGFCN8) -> Path:
    preset = {"width": network.width, "batch_norm": network.batch_norm, "head": network.head}
    preset |= {"resize": {"policy": "keep_aspect", "width": 96}}
    state = {"model": network.state_dict(), "preset": preset, "metrics": {"threshold": 0.5}, "datasets": ["x"]}
    torch.save(state, folder / "best.pt")
    export_checkpoint(folder / "best.pt", folder / "model.onnx")
    return folder / "model.onnx"


def test_a_file_without_batch_norm_and_with_fc_layers_is_taken_bit_for_bit(
    batches: list[torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = VGGFCN8(1 / 16, batch_norm=False, head="fc").eval()
    again, _ = from_model_file(exported(tmp_path, network))
    calibrate(again, batches[:1])  # nothing to do
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing", "does not exist"),
        ("half precision", "float32"),
        ("another network", "SegFormer"),
        ("another width", "does not fit"),
        ("another head", "convolutions"),
        ("another's answer", "of 255"),
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence(kind: str, named: str, tmp_path: Path) -> None:
    path, model, info = tmp_path / "model.onnx", onnx.load(MODEL), model_file.read(MODEL).info
    match kind:
        case "half precision":
            model.graph.initializer[0].data_type = onnx.TensorProto.FLOAT16
        case "another network":
            info = replace(info, architecture="SegFormer")
        case "another width":
            info = replace(info, architecture="VGG-FCN-8 width 0.125 batch-norm pool5")
        case "another head":
            info = replace(info, architecture="VGG-FCN-8 width 0.25 batch-norm fc")
        case "another's answer":
            info = replace(info, golden=255 - info.golden)
    if kind != "missing":
        model_file.write(model, info, path)
    with pytest.raises(WeightsError, match=f"{path}.*{named}"):
        from_model_file(path)
