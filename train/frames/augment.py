# SPDX-License-Identifier: Apache-2.0
"""Image and labels changed together, and batches of crops made from them."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from train.frames.cache import DecodedFrames, Pair
from train.frames.threads import in_order
from train.labels import IGNORE
from train.network.contract import network_size

ENLARGED = 1.25  # at most, of the most zoomed view of a picture that was made smaller while it was read


@dataclass(frozen=True)
class Crop:
    """A batch's size in pixels of the network, and how often (as a weight) batches have it.

    `whole` crops have the size at which the network sees the frame, whatever that is, and no size of their own.
    """

    width: int = 0
    height: int = 0
    share: float = 1.0
    whole: bool = False


@dataclass(frozen=True)
class Augmentation:
    """How far pictures are changed; all ranges are drawn from uniformly.

    scale: factor range on the size at which the network will see the frame; aspect: largest relative change
    of width against height; rotation: degrees; brightness, contrast, saturation: largest relative change;
    hue: degrees; gamma: largest relative change of the exponent; blur, noise, grey: how often (0 to 1).
    """

    flip: float
    scale: tuple[float, float]
    aspect: float
    rotation: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    gamma: float
    blur: float
    noise: float
    grey: float


def crop_pair(pair: Pair, crop: Crop, resize: Mapping[str, Any], how: Augmentation, rng: np.random.Generator) -> Pair:
    """One random view of a frame: image uint8 [h, w, 3] BGR and labels or targets uint8 [h, w] at the crop's size.

    The frame is flipped, scaled, stretched, turned and cut in one warp. It is never scaled so far down that
    the crop would reach beyond it, except at corners that the rotation opens: those are not valid. Scales are
    relative to how the network will see the frame, see `network_size` for `resize`.
    """
    image, labels = pair
    height, width = labels.shape
    seen_height, seen_width = network_size(height, width, resize)
    crop_width, crop_height = (seen_width, seen_height) if crop.whole else (crop.width, crop.height)
    zoom = math.exp(rng.uniform(math.log(how.scale[0]), math.log(how.scale[1])))
    stretch = math.exp(rng.uniform(-1, 1) * math.log1p(how.aspect) / 2)
    sx, sy = _scales((seen_height, seen_width), crop, how.aspect, zoom, stretch)
    sx, sy = sx * seen_width / width, sy * seen_height / height
    angle = math.radians(rng.uniform(-how.rotation, how.rotation))
    left = rng.uniform(0, max(0.0, sx * width - crop_width))
    top = rng.uniform(0, max(0.0, sy * height - crop_height))
    mirror = -1.0 if rng.random() < how.flip else 1.0
    # Crop pixel -> frame pixel, both measured from pixel centres: about the crop's centre, turn, then scale.
    centre = np.array([left + crop_width / 2, top + crop_height / 2])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = np.diag([1 / sx, 1 / sy]) @ turn @ np.diag([mirror, 1.0])
    offset = centre / (sx, sy) - linear @ np.array([(crop_width - 1) / 2, (crop_height - 1) / 2]) - 0.5
    matrix = np.column_stack([linear, offset])
    size, flags = (crop_width, crop_height), cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(image, matrix, size, flags=flags | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(labels, matrix, size, flags=flags | cv2.INTER_NEAREST, borderValue=IGNORE)
    return change_colours(image, how, rng), labels


def _scales(seen: tuple[int, int], crop: Crop, aspect: float, zoom: float, stretch: float) -> tuple[float, float]:
    """By how much a view is wider and taller than what the network sees, whose size is `seen` (height, width)."""
    height, width = seen
    sx, sy = zoom * stretch, zoom / stretch
    if crop.whole:
        sx, sy = max(sx, 1.0), max(sy, 1.0)
    else:
        sx, sy = max(sx, crop.width / width), max(sy, crop.height / height)
    # A crop that is tall for its frame would squeeze it: keep the two scales within the aspect range.
    return max(sx, sy / (1 + aspect)), max(sy, sx / (1 + aspect))


def reduction(height: int, width: int, crops: Sequence[Crop], resize: Mapping[str, Any], how: Augmentation) -> int:
    """By which of 8, 4, 2 and 1 a picture may be divided before views are made of it.

    No view is much enlarged by that, and the network sees it at the same size.
    """
    seen = network_size(height, width, resize)
    stretches = 1 / math.sqrt(1 + how.aspect), math.sqrt(1 + how.aspect)
    scales = [_scales(seen, crop, how.aspect, how.scale[1], stretch) for crop in crops for stretch in stretches]
    largest = max(max(sx * seen[1] / width, sy * seen[0] / height) for sx, sy in scales)
    for divisor in (8, 4, 2):
        # Decoders round a size up or down.
        sizes = ((height // divisor, width // divisor), (-(-height // divisor), -(-width // divisor)))
        if divisor * largest <= ENLARGED and all(network_size(*size, resize) == seen for size in sizes):
            return divisor
    return 1


def change_colours(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Light, colour, blur and noise of a uint8 BGR image changed at random; same shape and type."""
    hue, saturation = rng.uniform(-how.hue, how.hue), 1 + rng.uniform(-how.saturation, how.saturation)
    steps = np.arange(256, dtype=np.float32)
    if how.hue or how.saturation:  # there and back alone would round
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = cv2.LUT(hsv[..., 0], ((steps + hue / 2) % 180).astype(np.uint8))
        hsv[..., 1] = cv2.LUT(hsv[..., 1], np.clip(steps * saturation, 0, 255).astype(np.uint8))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    contrast, light = 1 + rng.uniform(-how.contrast, how.contrast), 1 + rng.uniform(-how.brightness, how.brightness)
    gamma = math.exp(rng.uniform(-1, 1) * math.log1p(how.gamma))
    # A colour cast besides: white balance differs from camera to camera more than anything else.
    cast = 1 + rng.uniform(-how.brightness, how.brightness, 3) / 4
    curve = 255 * ((steps / 255) ** gamma)
    curve = ((curve - 128) * contrast + 128) * light
    table = np.clip(curve[:, None] * cast[None], 0, 255).round().astype(np.uint8)
    image = cv2.LUT(image, table[:, None, :])
    if rng.random() < how.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < how.noise:
        strength = rng.uniform(2, 10)
        noise = rng.standard_normal(image.shape, np.float32) * strength
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


class CropBatches:
    """One epoch's batches: images uint8 [batch, 3, h, w] RGB, targets uint8 [batch, h, w], see `train.labels`.

    Every batch has one kind of crop, drawn by the crops' shares, and frames drawn without repetition from `order`, in
    which a frame stands as often as its folder's weight says; the last batch is filled up with frames from its
    beginning. Frame `j` of batch `i` of epoch `e` is a function of (seed, e, i, j) alone, so that a resumed run sees
    what the uninterrupted one would have seen, whatever makes the batches.

    Attributes:
        epoch: the epoch whose batches are given.
        first: the batch to begin with; the ones before are not made.
        share: (i, n) for the i-th of n equal shares of each batch, i from 0.
        pinned: whether they lie in page-locked memory, out of which a GPU copies while it computes.
    """

    def __init__(
        self,
        pairs: Sequence[Pair] | DecodedFrames,
        weights: Sequence[float],
        batch_size: int,
        crops: Sequence[Crop],
        resize: Mapping[str, Any],
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.pairs, self.weights, self.batch_size = pairs, np.asarray(weights, float), batch_size
        self.crops, self.resize, self.augmentation, self.seed = crops, resize, augmentation, seed
        self.epoch = self.first = 0
        self.share = (0, 1)
        self.pinned = False

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return max(1, math.ceil(round(self.weights.sum(), 6) / self.batch_size))

    def order(self) -> np.ndarray:
        """Indices into `pairs` for this epoch; a fractional weight is a chance."""
        rng = np.random.default_rng((self.seed, self.epoch))
        times = np.floor(self.weights + rng.random(len(self.weights))).astype(int)
        if not times.any():
            times[rng.choice(len(times), p=self.weights / self.weights.sum())] = 1
        indices = np.repeat(np.arange(len(self.pairs)), times)
        rng.shuffle(indices)
        return np.resize(indices, len(self) * self.batch_size)

    def made(self, threads: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches from `first` on, made ahead by so many threads; see `in_order`."""
        order = self.order().reshape(-1, self.batch_size)
        return in_order(lambda batch: self.batch(batch, order[batch]), range(self.first, len(self)), threads)

    def batch(self, batch: int, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """The views of the frames `chosen` that are batch number `batch`, or the share of them."""
        # A zero at the end of a seed would change nothing, so numbers in seeds begin at 1.
        rng = np.random.default_rng((self.seed, self.epoch, batch + 1))
        shares = np.array([crop.share for crop in self.crops])
        crop = self.crops[rng.choice(len(self.crops), p=shares / shares.sum())]
        views = []
        own, of = self.share
        for j in range(len(chosen) * own // of, len(chosen) * (own + 1) // of):
            rng = np.random.default_rng((self.seed, self.epoch, batch + 1, j + 1))
            views.append(crop_pair(self.pairs[chosen[j]], crop, self.resize, self.augmentation, rng))
        # Whole frames may differ in size: the smaller ones get a rest at the right and below that is not valid.
        height, width = np.max([labels.shape for _, labels in views], axis=0)
        images = np.zeros((len(views), 3, height, width), np.uint8)
        truths = np.full((len(views), height, width), IGNORE, np.uint8)
        for (image, labels), picture, truth in zip(views, images, truths, strict=True):
            rows, columns = labels.shape
            picture[:, :rows, :columns] = image[..., ::-1].transpose(2, 0, 1)
            truth[:rows, :columns] = labels
        made = torch.from_numpy(images), torch.from_numpy(truths)
        return (made[0].pin_memory(), made[1].pin_memory()) if self.pinned else made
