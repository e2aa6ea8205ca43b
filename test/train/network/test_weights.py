# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: what is taken from a file computes what the file computed."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_graphs import export_checkpoint
from torch.nn import functional

from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.shipped import COMPACT
from road_seg_node.synthetic_road.scene import Road
from train.network.contract import RoadProbability, normalise
from train.network.model import VGGFCN8
from train.network.weights import (
    IMAGENET_URL,
    WeightsError,
    balance,
    calibrate,
    fetch,
    find_weights,
    from_model_file,
    of_torchvision,
    start_from,
    take,
)

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / COMPACT
SIZES = ((1242, 375), (480, 360), (321, 227), (640, 480))


# torchvision's vgg16: index in `features` and (out, in) channels of its 13 convolutions.
VGG16_CONVOLUTIONS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip


def vgg16_state(width: float = 1.0) -> dict[str, torch.Tensor]:
    """A state dict with the keys and shapes of torchvision's vgg16, channels scaled by `width`."""
    state = {}
    for index, (out, into) in VGG16_CONVOLUTIONS.items():
        out, into = int(out * width), into if into == 3 else int(into * width)
        state[f"features.{index}.weight"] = torch.randn(out, into, 3, 3)
        state[f"features.{index}.bias"] = torch.randn(out)
    wide, fc = int(512 * width), int(4096 * width)
    for index, (out, into) in {0: (fc, wide * 49), 3: (fc, fc), 6: (1000, fc)}.items():
        state[f"classifier.{index}.weight"] = torch.randn(out, into) / into**0.5
        state[f"classifier.{index}.bias"] = torch.randn(out)
    return state


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


def test_a_balanced_encoder_computes_what_it_did_but_for_the_size_of_each_layers_answers(
    batches: list[torch.Tensor],
) -> None:
    torch.manual_seed(0)
    network = VGGFCN8(1 / 16, head="pool5").eval()
    for number, layer in enumerate(network.features):
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.mul_(1 + number % 3)  # as unlike in size as ImageNet's, and with biases that matter
            layer.bias.data.normal_(std=0.1)
    ends = [network.blocks[2], network.blocks[4]]
    with torch.inference_mode():
        before = [network.features[:end](batches[0]) for end in ends]
        balance(network, batches)
        x = batches[0]
        for layer in network.features:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                assert float(x.square().mean().sqrt()) == pytest.approx(1, abs=0.2)  # over both batches it is 1
        for end, was in zip(ends, before, strict=True):
            now = network.features[:end](batches[0])
            torch.testing.assert_close(now, was * (now.norm() / was.norm()), rtol=1e-3, atol=1e-4)


def test_what_a_run_has_learned_is_not_balanced_anew(tmp_path: Path, batches: list[torch.Tensor]) -> None:
    learned = VGGFCN8(1 / 16, head="pool5")
    checkpoint = saved(tmp_path / "best.pt", {"model": learned.state_dict(), "preset": {}})
    network = VGGFCN8(1 / 16, head="pool5")
    begin(network, checkpoint, batches)
    assert torch.equal(network.features[0].weight, learned.features[0].weight)


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


def test_torchvisions_vgg16_becomes_the_whole_network_and_its_linear_layers_answer_as_convolutions() -> None:
    torch.manual_seed(0)
    network, state = VGGFCN8().eval(), vgg16_state()
    said = take(network, of_torchvision(state), Path("vgg16.pth"))
    assert (
        said == "Starting from vgg16.pth: features, fc6, fc7; new: score_pool3, score_pool4, score_top, up2, up32, up4."
    )
    for index in VGG16_CONVOLUTIONS:
        assert torch.equal(network.features[index].weight, state[f"features.{index}.weight"])
        assert torch.equal(network.features[index].bias, state[f"features.{index}.bias"])
    pool5 = torch.randn(2, 512, 7, 7)
    with torch.inference_mode():
        linear = functional.linear(pool5.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
        linear = functional.linear(linear.relu(), state["classifier.3.weight"], state["classifier.3.bias"])
        convolved = network.fc7(network.fc6(pool5).relu())[:, :, 3, 3]  # the middle sees all 7x7 pixels
    torch.testing.assert_close(convolved, linear, rtol=1e-4, atol=1e-4)


def begin(network: VGGFCN8, init: str, images: list[torch.Tensor]) -> str:
    return start_from(network, find_weights(init, network.width, network.batch_norm), images)


def saved(path: Path, state: object) -> str:
    torch.save(state, path)
    return str(path)


def test_torchvisions_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Of 2017: an ordered dictionary in PyTorch's format before 1.6."""
    state, path = OrderedDict(vgg16_state(1 / 16)), tmp_path / "vgg16-397923af.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    network = VGGFCN8(1 / 16)
    assert f"Starting from {path}: features, fc6, fc7; new: score" in begin(network, str(path), [])
    assert torch.equal(network.fc7.weight[:, :, 0, 0], state["classifier.3.weight"])


def test_an_encoder_alone_is_taken_with_and_without_its_prefix(tmp_path: Path) -> None:
    state = {name: weight for name, weight in vgg16_state(1 / 16).items() if name.startswith("features.")}
    for prefix in ("features.", ""):
        file = {name.replace("features.", prefix): weight for name, weight in state.items()}
        network = VGGFCN8(1 / 16)
        fc6 = network.fc6.weight.clone()
        said = begin(network, saved(tmp_path / "encoder.pth", file), [])
        assert "encoder.pth: features; new: fc6, fc7, score" in said
        assert torch.equal(network.features[28].weight, state["features.28.weight"])
        assert torch.equal(network.fc6.weight, fc6)


def test_a_checkpoint_gives_its_averaged_weights_to_the_layers_that_are_shared(tmp_path: Path) -> None:
    source = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
    other = {name: tensor + 1 for name, tensor in source.state_dict().items()}
    state = {"model": source.state_dict(), "network": other, "preset": {}, "metrics": {}}
    path = saved(tmp_path / "best.pt", state)
    same = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
    said = begin(same, path, [])
    assert said.endswith("features, score_top, score_pool4, score_pool3, up2, up4, up32.")
    for name, tensor in source.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    wider = VGGFCN8(1 / 16, batch_norm=True, head="fc")
    said = begin(wider, path, [])
    assert said.endswith("features, score_pool4, score_pool3, up2, up4, up32; new: fc6, fc7, score_top.")
    assert torch.equal(wider.features[0].weight, source.features[0].weight)


def test_a_model_file_starts_a_run_with_the_frames_statistics(batches: list[torch.Tensor]) -> None:
    network = VGGFCN8(0.25, batch_norm=True, head="pool5")
    assert str(MODEL) in begin(network, str(MODEL), batches)
    assert largest_difference(network.eval(), MODEL) <= 1
    assert network.features[1].running_mean.abs().max() > 0.01


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing", "No such file"),
        ("folder", "directory"),
        ("text", "holds no weights: torch.save did not write it"),
        ("list", "no weights by name"),
        ("numbers", "no weights by name"),
        ("numbers for names", "no weights by name"),
        ("another network's classifier", r"\[4, 3, 3, 3\] for 'features\.0\.weight'"),
        ("another width", r"\[4, 3, 3, 3\] for 'features\.0\.weight'"),
        ("a bias less", r"lacks 'features\.28\.bias'"),
        ("with batch norm", r"vgg16-397923af\.pth"),
    ],
)
def test_weights_that_do_not_fit_are_a_sentence(kind: str, named: str, tmp_path: Path) -> None:
    path, state = tmp_path / "weights.pth", vgg16_state(1 / 16)
    match kind:
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("<html>404 Not Found</html>")
        case "list":
            saved(path, [1, 2])
        case "numbers":
            saved(path, {"features.0.weight": 1})
        case "numbers for names":
            saved(path, dict(enumerate(state.values())))
        case "another network's classifier":
            saved(path, state | {"classifier.0.weight": torch.zeros(10, 96)})
        case "another width":
            saved(path, state)
        case "a bias less":
            saved(path, {name: tensor for name, tensor in state.items() if name != "features.28.bias"})
        case "with batch norm":
            saved(path, VGGFCN8(1 / 16, batch_norm=True).state_dict())
    network = VGGFCN8(1 / 8 if kind.startswith("another") else 1 / 16)
    with pytest.raises(WeightsError, match=f"{path}.*{named}"):
        begin(network, str(path), [])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of PyTorch's hub, in a folder of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(folder, URL) of a web server."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_weights_are_fetched_once_and_their_hash_is_checked_each_time(hub: Path, server: tuple[Path, str]) -> None:
    served, url = server
    name = f"tiny-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (served / name).write_bytes(b"weights")
    assert fetch(f"{url}/{name}") == hub / name and (hub / name).read_bytes() == b"weights"
    (served / name).unlink()
    assert fetch(f"{url}/{name}") == hub / name
    (hub / name).write_bytes(b"weight")
    with pytest.raises(WeightsError, match="damaged.*Delete it"):
        fetch(f"{url}/{name}")
    (served / name).write_bytes(b"another file")
    (hub / name).unlink()
    with pytest.raises(WeightsError, match="invalid hash"):
        fetch(f"{url}/{name}")
    assert not list(hub.iterdir()), "nothing of a file that is not right may stay"


@pytest.mark.parametrize(("batch_norm", "name"), [(False, "vgg16-397923af.pth"), (True, "vgg16_bn-6c64b313.pth")])
def test_without_a_network_the_file_and_its_place_are_named(
    batch_norm: bool, name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens: this machine is offline
    monkeypatch.delenv("no_proxy", raising=False)
    with torch.device("meta"), pytest.raises(WeightsError) as raised:
        begin(VGGFCN8(batch_norm=batch_norm), "imagenet", [])
    for helpful in (IMAGENET_URL + name, str(hub), "--init FILE", "--init none"):
        assert helpful in str(raised.value)


def test_a_narrow_network_cannot_start_from_imagenet() -> None:
    with pytest.raises(WeightsError, match="width 1"):
        begin(VGGFCN8(1 / 16), "imagenet", [])
