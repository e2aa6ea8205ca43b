# SPDX-License-Identifier: Apache-2.0
"""VGG-16 turned into FCN-8 (Long, Shelhamer and Darrell 2015; Simonyan and Zisserman 2015)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Configuration D of VGG: 3x3 convolutions by their output channels, "M" is a 2x2 max pooling.
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
FC_CHANNELS = 4096
CLASSES = 2  # index 0: not road, index 1: road
STRIDE = 32  # height and width of the network's input are multiples of this
SCORES, UPSAMPLINGS = ("score_top", "score_pool4", "score_pool3"), ("up2", "up4", "up32")
BILINEAR = "bilinear"
# How the decoder starts: small, so that the coarse answer is learned first.
DECODER_INIT = dict.fromkeys(SCORES, 1e-2) | {"upsampling": BILINEAR}


def encoder_layers(width: float, batch_norm: bool) -> nn.Sequential:
    """VGG-16's convolutions, numbered as torchvision's `vgg16` (or `vgg16_bn`) numbers its `features`."""
    layers: list[nn.Module] = []
    channels = 3
    for step in VGG16:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        out = scaled(int(step), width)
        layers.append(nn.Conv2d(channels, out, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out))
        layers.append(nn.ReLU(inplace=True))
        channels = out
    return nn.Sequential(*layers)


def scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def he_std(layer: nn.Conv2d) -> float:
    """Standard deviation of the weights with which a ReLU after `layer` keeps gradients at their size (He et al.)."""
    height, width = layer.kernel_size
    return math.sqrt(2 / (layer.out_channels * height * width))


def upsampling(stride: int) -> nn.ConvTranspose2d:
    """Transposed convolution by `stride` (kernel 2s, padding s/2) that starts as bilinear interpolation."""
    layer = nn.ConvTranspose2d(CLASSES, CLASSES, 2 * stride, stride, padding=stride // 2, bias=False)
    make_bilinear(layer)
    return layer


@torch.no_grad()
def make_bilinear(layer: nn.ConvTranspose2d) -> None:
    stride = layer.stride[0]
    ramp = 1 - (torch.arange(2 * stride) - (stride - 0.5)).abs() / stride
    layer.weight.zero_()
    for c in range(CLASSES):
        layer.weight[c, c] = ramp[:, None] * ramp[None, :]


class VGGFCN8(nn.Module):
    """Logits of road and not road for normalised RGB images.

    Args:
        width: factor on every channel count of VGG-16 (1.0 is the paper's network).
        batch_norm: batch normalisation after each 3x3 convolution (needed to train from nothing).
        head: "fc" keeps fc6 and fc7 as 7x7 and 1x1 convolutions; "pool5" scores pool5 directly.
        dropout: after fc6 and fc7, in training.

    `forward` takes float [batch, 3, height, width], height and width multiples of 32, and returns
    float32 logits [batch, 2, height, width].
    """

    def __init__(self, width: float = 1.0, batch_norm: bool = False, head: str = "fc", dropout: float = 0.5) -> None:
        super().__init__()
        self.check(width, head)
        self.width, self.batch_norm, self.head = width, batch_norm, head
        self.features = encoder_layers(width, batch_norm)
        pools = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.blocks = [pool + 1 for pool in pools]  # where each of the five ends
        self._pool3, self._pool4 = self.blocks[2], self.blocks[3]
        pool5, fc = scaled(512, width), scaled(FC_CHANNELS, width)
        if head == "fc":
            self.fc6 = nn.Conv2d(pool5, fc, 7, padding=3)
            self.fc7 = nn.Conv2d(fc, fc, 1)
            self.dropout = nn.Dropout(dropout)
        self.score_top = nn.Conv2d(fc if head == "fc" else pool5, CLASSES, 1)
        self.score_pool4 = nn.Conv2d(scaled(512, width), CLASSES, 1)
        self.score_pool3 = nn.Conv2d(scaled(256, width), CLASSES, 1)
        self.up2, self.up4, self.up32 = upsampling(2), upsampling(2), upsampling(8)
        self.reset_parameters()

    @staticmethod
    def check(width: float, head: str, decoder_init: Mapping[str, float | str] = DECODER_INIT) -> None:
        """Raises ValueError for a width, a head or a start of the decoder that no network has."""
        if head not in ("fc", "pool5"):
            raise ValueError(f"head is '{head}', but it must be 'fc' or 'pool5'")
        if not 0 < width <= 1:
            raise ValueError(f"width is {width}, but it must be above 0 and at most 1")
        if decoder_init.keys() != DECODER_INIT.keys():
            raise ValueError(f"decoder_init must hold {', '.join(DECODER_INIT)}")
        for name, std in decoder_init.items():
            if (name, std) != ("upsampling", BILINEAR) and (isinstance(std, str) or not 0 <= std < math.inf):
                raise ValueError(f"decoder_init has {std!r} for {name}, but that must be a standard deviation")

    @classmethod
    def of_architecture(cls, text: str) -> VGGFCN8:
        """The network that `architecture` names, with new weights; raises ValueError for another text."""
        found = re.fullmatch(r"VGG-FCN-8 width (\d[\d.e-]*)( batch-norm)? (\w+)", text)
        if found is None:
            raise ValueError("that is no VGG-FCN-8")
        return cls(float(found[1]), bool(found[2]), found[3])

    def reset_parameters(self) -> None:
        """He initialisation of the encoder (without it VGG from nothing stays at zero), and DECODER_INIT."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=he_std(layer))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.reset_decoder(DECODER_INIT)

    def reset_decoder(self, decoder_init: Mapping[str, float | str]) -> None:
        """New weights of the scores and the upsamplings.

        Args:
            decoder_init: standard deviation of score_top, score_pool4, score_pool3 and upsampling, normal but cut
                at two deviations, as TensorFlow's truncated normal is; 0 for zeros; "bilinear" for upsampling as well.
        """
        for name in SCORES + UPSAMPLINGS:
            layer, std = getattr(self, name), decoder_init[name if name in SCORES else "upsampling"]
            if std == BILINEAR:
                make_bilinear(layer)
            elif std == 0:
                nn.init.zeros_(layer.weight)
            else:
                nn.init.trunc_normal_(layer.weight, std=float(std), a=-2 * float(std), b=2 * float(std))

    def freeze(self, blocks: int) -> None:
        """Leave the first `blocks` of the five blocks of convolutions as they are in training; batch norm too."""
        for layer in self.features[: self.blocks[blocks - 1]] if blocks else ():
            layer.requires_grad_(False)

    @property
    def architecture(self) -> str:
        """One line that names the network, such as "VGG-FCN-8 width 0.25 batch-norm pool5"."""
        return f"VGG-FCN-8 width {self.width:g}{' batch-norm' if self.batch_norm else ''} {self.head}"

    def forward(self, x: Tensor) -> Tensor:
        pool3 = self.features[: self._pool3](x)
        pool4 = self.features[self._pool3 : self._pool4](pool3)
        top = self.features[self._pool4 :](pool4)
        if self.head == "fc":
            top = self.dropout(torch.relu(self.fc6(top)))
            top = self.dropout(torch.relu(self.fc7(top)))
        # Scores and upsampling stay in float32: two channels cost nothing, and the bfloat16 backward of a
        # 1x1 convolution from 4096 to 2 channels corrupts memory in PyTorch 2.13's CPU build.
        with torch.autocast(x.device.type, enabled=False):
            score = self.up2(self.score_top(top.float())) + self.score_pool4(pool4.float())
            score = self.up4(score) + self.score_pool3(pool3.float())
            return self.up32(score)
