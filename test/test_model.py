# SPDX-License-Identifier: Apache-2.0
"""The network: VGG-16's weights load as they are, and what is built on top of them computes FCN-8."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from train import preset as presets
from train.contract import RoadProbability, network_size
from train.model import VGGFCN8, upsampling

# torchvision's vgg16: index in `features` and (out, in) channels of its 13 convolutions.
VGG16_CONVOLUTIONS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip


def vgg16_state(device: str = "meta", width: float = 1.0) -> dict[str, torch.Tensor]:
    """A state dict with the keys and shapes of torchvision's vgg16, channels scaled by `width`."""
    state = {}
    for index, (out, into) in VGG16_CONVOLUTIONS.items():
        out, into = int(out * width), into if into == 3 else int(into * width)
        state[f"features.{index}.weight"] = torch.randn(out, into, 3, 3, device=device)
        state[f"features.{index}.bias"] = torch.randn(out, device=device)
    wide, fc = int(512 * width), int(4096 * width)
    for index, (out, into) in {0: (fc, wide * 49), 3: (fc, fc), 6: (1000, fc)}.items():
        state[f"classifier.{index}.weight"] = torch.randn(out, into, device=device) / into**0.5
        state[f"classifier.{index}.bias"] = torch.randn(out, device=device)
    return state


def test_full_network_takes_every_vgg16_weight_but_the_thousand_classes() -> None:
    with torch.device("meta"):
        used = VGGFCN8().load_vgg16(vgg16_state())
    assert set(vgg16_state()) - set(used) == {"classifier.6.weight", "classifier.6.bias"}


def test_the_preset_for_imagenet_weights_takes_them() -> None:
    preset = presets.load("vgg16", {})
    with torch.device("meta"):
        VGGFCN8(preset.width, preset.batch_norm, preset.head).load_vgg16(vgg16_state())


def test_full_network_has_134_million_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VGGFCN8().parameters()) == pytest.approx(134e6, rel=0.01)


def test_fc_layers_as_convolutions_answer_what_the_linear_layers_answered() -> None:
    torch.manual_seed(0)
    width = 1 / 16
    state = vgg16_state("cpu", width)
    network = VGGFCN8(width).eval()
    network.load_vgg16(state)
    pool5 = torch.randn(2, 32, 7, 7)
    linear = functional.linear(pool5.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
    linear = functional.linear(linear.relu(), state["classifier.3.weight"], state["classifier.3.bias"])
    convolved = network.fc7(network.fc6(pool5).relu())[:, :, 3, 3]  # the middle sees all 7x7 pixels
    torch.testing.assert_close(convolved, linear, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused_by_name() -> None:
    state = vgg16_state("cpu", 1 / 16)
    with pytest.raises(ValueError, match=r"features\.0\.weight"):
        VGGFCN8(1 / 8).load_vgg16(state)
    del state["features.28.bias"]
    with pytest.raises(ValueError, match=r"features\.28\.bias"):
        VGGFCN8(1 / 16).load_vgg16(state)


@pytest.mark.parametrize("stride", [2, 8])
def test_upsampling_starts_as_bilinear_interpolation(stride: int) -> None:
    x = torch.randn(1, 2, 6, 7)
    expected = functional.interpolate(x, scale_factor=stride, mode="bilinear")
    inner = slice(stride, -stride)  # at the border a transposed convolution sees zeros, interpolation repeats
    torch.testing.assert_close(upsampling(stride)(x)[..., inner, inner], expected[..., inner, inner])


@pytest.mark.parametrize("head", ["fc", "pool5"])
def test_logits_have_the_size_of_the_input_and_every_parameter_learns(head: str) -> None:
    network = VGGFCN8(1 / 16, batch_norm=True, head=head)
    logits = network(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 2, 64, 96)
    (logits * torch.randn_like(logits)).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("camera", "resize", "expected"),
    [
        ((375, 1242), {"policy": "keep_aspect", "width": 384}, (128, 384)),
        ((360, 480), {"policy": "keep_aspect", "width": 384}, (288, 384)),
        ((1000, 1), {"policy": "keep_aspect", "width": 384}, (768, 384)),
        ((375, 1242), {"policy": "stretch", "width": 576, "height": 160}, (160, 576)),
    ],
)
def test_network_size(camera: tuple[int, int], resize: dict[str, int | str], expected: tuple[int, int]) -> None:
    assert network_size(*camera, resize) == expected


def test_answer_is_bytes_of_the_cameras_size_and_reads_bgr() -> None:
    network = VGGFCN8(1 / 16, batch_norm=True, head="pool5").eval()
    module = RoadProbability(network, {"policy": "keep_aspect", "width": 96})
    image = torch.randint(0, 256, (2, 37, 91, 3), dtype=torch.uint8)
    with torch.inference_mode():
        answer, swapped = module(image), module(image.flip(-1))
    assert answer.dtype == torch.uint8 and answer.shape == (2, 37, 91)
    assert not torch.equal(answer, swapped), "red and blue must not be the same to the network"
