# SPDX-License-Identifier: Apache-2.0
"""The network: VGG-16's weights load as they are, and what is built on top of them computes FCN-8."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from train.network.contract import RoadProbability, network_size
from train.network.model import VGGFCN8, upsampling


def test_full_network_has_134_million_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VGGFCN8().parameters()) == pytest.approx(134e6, rel=0.01)


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
        ((375, 1242), {"policy": "keep_area", "pixels": 640 * 192}, (192, 640)),
        ((480, 640), {"policy": "keep_area", "pixels": 640 * 192}, (288, 416)),
        ((1, 1000), {"policy": "keep_area", "pixels": 640 * 192}, (160, 768)),
        ((375, 1242), {"policy": "stretch", "width": 576, "height": 160}, (160, 576)),
    ],
)
def test_network_size(camera: tuple[int, int], resize: dict[str, int | str], expected: tuple[int, int]) -> None:
    assert network_size(*camera, resize) == expected


def test_a_cameras_shape_does_not_decide_how_many_pixels_the_network_sees() -> None:
    pixels = 512 * 160
    for width, height in ((1242, 375), (1920, 1080), (640, 480), (640, 640), (480, 640), (320, 227), (1280, 384)):
        rows, columns = network_size(height, width, {"policy": "keep_area", "pixels": pixels})
        assert rows % 32 == columns % 32 == 0
        assert rows * columns == pytest.approx(pixels, rel=0.05)
        assert columns / rows == pytest.approx(width / height, rel=0.2)


def test_frozen_blocks_learn_nothing_and_the_others_do() -> None:
    network = VGGFCN8(1 / 16, batch_norm=True, head="pool5")
    network.freeze(2)
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None}
    assert still == {f"features.{name}" for name, _ in network.features[: network.blocks[1]].named_parameters()}


def test_answer_is_bytes_of_the_cameras_size_and_reads_bgr() -> None:
    network = VGGFCN8(1 / 16, batch_norm=True, head="pool5").eval()
    module = RoadProbability(network, {"policy": "keep_aspect", "width": 96})
    image = torch.randint(0, 256, (2, 37, 91, 3), dtype=torch.uint8)
    with torch.inference_mode():
        answer, swapped = module(image), module(image.flip(-1))
    assert answer.dtype == torch.uint8 and answer.shape == (2, 37, 91)
    assert not torch.equal(answer, swapped), "red and blue must not be the same to the network"
