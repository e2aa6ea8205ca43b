# SPDX-License-Identifier: Apache-2.0
"""Export: the file answers as PyTorch does, tells what it is, and is not written where it would lie."""

from __future__ import annotations

from pathlib import Path

import cv2
import exported_graphs
import fork_server
import numpy as np
import onnx
import pytest
import torch
from kitti_folder import copied_by_a_mac

from export import export as exporter
from export.export import PARITY_SIZES, ExportError, export_checkpoint, parity_images, resize_from
from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.synthetic_road.scene import Road
from train import preset as presets
from train.network.checkpoint import CheckpointError, load_checkpoint, network_of
from train.network.contract import RoadProbability
from train.network.half_weights import HALF_SUFFIX, restore, round_weights
from train.network.model import VGGFCN8
from train.network.weights import from_model_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained narrow network whose scores are large, so that answers are not all alike."""
    torch.manual_seed(1)
    network = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("score"):
                parameter.mul_(30)
    preset = presets.load("compact", {}).as_dict() | {"width": 1 / 16}
    metrics = {"threshold": 0.4, "road_iou": {"made_up": 0.5}}
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    torch.save({"model": network.state_dict(), "preset": preset, "metrics": metrics, "datasets": ["made_up"]}, path)
    return path


@pytest.mark.parametrize(
    "policy", [{"policy": "keep_area", "pixels": 6144}, {"policy": "stretch", "width": 160, "height": 64}]
)
def test_file_answers_as_pytorch_at_any_size_and_batch(
    checkpoint: Path, tmp_path: Path, policy: dict[str, int | str]
) -> None:
    output = tmp_path / "road.onnx"
    info = export_checkpoint(checkpoint, output, resize=policy)
    assert [p.name for p in tmp_path.iterdir()] == ["road.onnx"], "nothing is left beside the file"
    assert (info.threshold, info.name, info.resize) == (0.4, "road", policy)
    module = RoadProbability(network_of(load_checkpoint(checkpoint)), policy).eval()
    segmenter = RoadSegmenter(output, "cpu")
    for height, width in ((375, 1242), (33, 47), (501, 203)):
        image = Road(5).render(width, height)[0]
        with torch.inference_mode():
            expected = module(torch.from_numpy(image)[None])[0].numpy()
        assert expected.std() > 3, "an answer that is the same everywhere would prove nothing"
        assert np.abs(expected.astype(int) - segmenter.probability(image)).max() <= 1


def test_weights_in_half_precision_are_half_the_file_and_come_back(checkpoint: Path, tmp_path: Path) -> None:
    """The proof of export_checkpoint is against the rounded weights: batch norm is merged into them first."""
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    export_checkpoint(checkpoint, whole)
    export_checkpoint(checkpoint, half, half_weights=True)
    assert model_file.read(half).precision == "fp32", "of the arithmetic"
    weights = [tensor for tensor in onnx.load(half).graph.initializer if tensor.name.endswith(HALF_SUFFIX)]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    network, _ = from_model_file(half)
    before = network_of(load_checkpoint(checkpoint)).eval()
    round_weights(before)
    layers = [[m for m in net.modules() if isinstance(m, torch.nn.Conv2d)] for net in (before, network)]
    for expected, found in zip(*layers, strict=True):
        assert torch.equal(expected.weight, found.weight)
    image = Road(5).render(321, 227)[0]
    answers = [RoadSegmenter(file, "cpu").probability(image).astype(int) for file in (whole, half)]
    assert np.abs(answers[0] - answers[1]).max() <= 3
    model = onnx.load(half)
    restore(model)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in onnx.load(whole).graph.node]
    assert onnx.load(whole).ByteSize() - onnx.load(half).ByteSize() > 1.9 * sum(
        int(np.prod(tensor.dims)) for tensor in weights
    )


@pytest.mark.parametrize(("bias", "caught_by"), [(5.0, "golden"), (0.03, "otherwise than PyTorch")])
def test_a_file_that_answers_otherwise_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bias: float, caught_by: str
) -> None:
    """Another network shows in the golden answer; one that is off by 2 of 255 only in the comparison."""
    resize = {"policy": "keep_aspect", "width": 96}
    network = network_of(load_checkpoint(checkpoint))
    with torch.no_grad():
        network.score_top.bias[1] += bias
    wrong = exported_graphs.to_onnx(RoadProbability(network, resize).eval())
    monkeypatch.setattr(exporter, "to_onnx", lambda module: wrong)
    with pytest.raises(ExportError, match=caught_by):
        export_checkpoint(checkpoint, tmp_path / "road.onnx", resize=resize)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_pictures_is_not_taken_for_a_proof(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nowhere"):
        export_checkpoint(checkpoint, tmp_path / "road.onnx", images=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_is_no_probability_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="from 0 to 1"):
        export_checkpoint(checkpoint, tmp_path / "road.onnx", threshold=58.8)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*missing\.pt"):
        load_checkpoint(tmp_path / "missing.pt")
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"garbage\.pt is not a checkpoint written by torch\.save"):
        load_checkpoint(garbage)
    other = tmp_path / "other.pt"
    torch.save({"weights": 1}, other)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(other)


@pytest.mark.parametrize(
    ("output", "said"),
    [("road.txt", "ends in .onnx"), ("folder.onnx", "ends in .onnx"), ("file/road.onnx", "There is no folder")],
)
def test_where_no_model_file_can_be_is_a_sentence(checkpoint: Path, tmp_path: Path, output: str, said: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    command = (exporter.__file__, "--checkpoint", checkpoint, "--output", tmp_path / output)
    done = fork_server.TRAINER.run(*command, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str((tmp_path / output).parent) in done.stderr and Path(output).name in done.stderr and said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]


def test_hidden_files_among_the_pictures_are_left_out(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "street.PNG"), picture)
    copied_by_a_mac(tmp_path)
    assert len(parity_images(tmp_path)) == 3 * len(PARITY_SIZES)
    with pytest.raises(ExportError, match=r"--images .*absent cannot be read: No such file"):
        parity_images(tmp_path / "absent")


@pytest.mark.parametrize(
    ("policy", "size", "expected"),
    [
        (None, None, None),
        ("stretch", "576x160", {"policy": "stretch", "width": 576, "height": 160}),
        ("keep_aspect", "576", {"policy": "keep_aspect", "width": 576}),
        ("keep_area", "640x192", {"policy": "keep_area", "pixels": 122880}),
    ],
)
def test_resize_options(policy: str | None, size: str | None, expected: dict[str, int | str] | None) -> None:
    assert resize_from(policy, size) == expected


@pytest.mark.parametrize(
    ("policy", "size"),
    [("stretch", "576"), ("keep_aspect", "500"), ("keep_area", "640"), (None, "576"), ("stretch", None)],
)
def test_wrong_resize_options_are_refused(policy: str | None, size: str | None) -> None:
    with pytest.raises(ExportError, match="multiples of 32"):
        resize_from(policy, size)
