# SPDX-License-Identifier: Apache-2.0
"""Weights that a training run starts from: ImageNet's, a run's, or those of a model file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from road_seg_node.inference import model_file
from road_seg_node.inference.model_file import ModelFileError, ModelInfo
from train.network.contract import RoadProbability
from train.network.half_weights import restore
from train.network.model import STRIDE, VGGFCN8, he_std

IMAGENET, NONE = "imagenet", "none"
# torchvision's VGG-16 without and with batch norm. The digits are the first of the file's SHA-256.
IMAGENET_FILES = {False: "vgg16-397923af.pth", True: "vgg16_bn-6c64b313.pth"}
IMAGENET_URL = "https://download.pytorch.org/models/"
LARGEST_DIFFERENCE = 1  # of 255, from the answer that a model file carries


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit; the message names the file and what to do."""


@dataclass(frozen=True, eq=False)
class Source:
    """Weights that were found: by this network's names and, from a model file, in the network that it holds."""

    path: Path
    weights: Mapping[str, Tensor]
    network: VGGFCN8 | None = None


def find_weights(init: str, width: float, batch_norm: bool) -> Source | None:
    """The weights that --init names for a network of `width` with or without `batch_norm`; None for "none".

    `init` is "none"; "imagenet"; or a file: torchvision's VGG-16 or its encoder alone (.pth), a checkpoint of the
    trainer, whose averaged weights are taken (.pt), or a model file (.onnx).

    Raises:
        WeightsError: the file cannot be had or read, or ImageNet's weights are not for such a network.
    """
    if init == NONE:
        return None
    if init == IMAGENET and width != 1:
        raise WeightsError(
            f"ImageNet's weights do not fit a network of width {width:g}: they are of VGG-16 with all its channels. "
            "Use a preset of width 1, such as best, or --init none."
        )
    path = fetch(IMAGENET_URL + IMAGENET_FILES[batch_norm]) if init == IMAGENET else Path(init)
    if path.suffix == ".onnx":
        network, _ = from_model_file(path)
        return Source(path, network.state_dict(), network)
    state = read(path)
    return Source(path, state["model"] if is_checkpoint(state) else of_torchvision(state))


def start_from(network: VGGFCN8, source: Source | None, images: Iterable[Tensor]) -> str:
    """Give `network` the weights of `source`; returns a sentence that says what it took.

    Args:
        images: float [batch, 3, h, w], normalised, of what is to be trained on: a model file's batch norm needs them.

    Raises:
        WeightsError: the encoder is not this network's.
    """
    if source is None:
        return "Starting from nothing."
    if source.network is not None:
        calibrate(source.network, images)
    said = take(network, source.weights, source.path)
    if not network.batch_norm and "score_pool3.weight" not in source.weights:
        balance(network, images)  # the scores are new: nothing relies on the size of what they read
    return said


def fetch(url: str) -> Path:
    """The file of `url` in PyTorch's cache, fetched into it unless it is there; `url` ends in -<hash>.pth.

    Raises:
        WeightsError: it cannot be fetched, or its SHA-256 does not begin with the hash in its name.
    """
    name = url.rpartition("/")[2]
    expected = name.removesuffix(".pth").rpartition("-")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            print(f"Fetching {url} into {folder}.", flush=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=expected)
        elif not (found := _sha256(path)).startswith(expected):
            raise WeightsError(
                f"{path} is damaged: its SHA-256 begins with {found[:8]}, not {expected}. Delete it, and "
                f"{url} is fetched again."
            )
    except (OSError, RuntimeError) as error:  # no network, no space, no right to write; or another hash
        reason = str(getattr(error, "reason", error)).rstrip(".")
        raise WeightsError(
            f"{name} cannot be fetched from {url}: {reason}. Fetch it elsewhere and put it into {folder}, or name it "
            "with --init FILE, or start with --init none."
        ) from None
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read(path: Path) -> dict[str, Any]:
    """What a .pth or .pt file holds, on the CPU; WeightsError where it is missing, damaged or no dictionary."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception:  # torch raises many kinds for a file that it did not write, and none of them helps
        raise WeightsError(f"{path} holds no weights: torch.save did not write it, or it is damaged.") from None
    weights = state["model"] if is_checkpoint(state) else state
    by_name = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not by_name or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise WeightsError(f"{path} holds no weights by name.")
    return state


def is_checkpoint(state: Any) -> bool:
    """Whether `state`, which torch.load has read, is one of the trainer's checkpoints."""
    return isinstance(state, dict) and {"model", "preset"} <= set(state)


def of_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's `vgg16` or `vgg16_bn`, whole or its `features` alone, by this network's names.

    The linear layers `classifier.0` and `.3` become the convolutions fc6, 7x7, and fc7, 1x1.
    """
    linear = {"classifier.0": ("fc6", 7), "classifier.3": ("fc7", 1)}
    weights = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        if layer in linear:
            ours, size = linear[layer]
            if part == "weight" and tensor.ndim == 2 and tensor.shape[1] % size**2 == 0:
                tensor = tensor.unflatten(1, (-1, size, size))
            weights[f"{ours}.{part}"] = tensor  # another network's does not fit, which take() says
        else:  # the encoder's own state dict begins with the layer's number
            weights[f"features.{name}" if re.match(r"\d+\.", name) else name] = tensor
    return weights


def take(network: VGGFCN8, weights: Mapping[str, Tensor], path: Path) -> str:
    """Copy the encoder, and every other layer that fits, into `network`; returns a sentence that names them.

    Raises:
        WeightsError: a tensor of the encoder is missing or has another shape.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    unfit = {name: tensor for name, tensor in own.items() if name not in weights or weights[name].shape != tensor.shape}
    for name, tensor in unfit.items():
        if name.startswith("features."):
            have = f"has {list(weights[name].shape)} for" if name in weights else "lacks"
            raise WeightsError(
                f"{path} {have} '{name}', where {network.architecture} has {list(tensor.shape)}. Give weights of the "
                f"same encoder; torchvision's {IMAGENET_FILES[network.batch_norm]} fits a network of width 1."
            )
    new = {name.partition(".")[0] for name in unfit}
    taken = {name: weights[name] for name in own if name.partition(".")[0] not in new}
    network.load_state_dict(taken, strict=False)
    layers = dict.fromkeys(name.partition(".")[0] for name in own)
    kept = ", ".join(layer for layer in layers if layer not in new)
    return f"Starting from {path}: {kept}" + (f"; new: {', '.join(sorted(new))}." if new else ".")


def from_model_file(path: Path) -> tuple[VGGFCN8, ModelInfo]:
    """The network of an exported model file, ready to answer as the file does, and the file's metadata.

    The exporter merges batch norm into the convolutions. Here it comes back as layers that change nothing, with a
    mean of 0 and a variance of 1 that were never measured: `calibrate` the network before training it.

    Raises:
        WeightsError: the file is no model file, not of this network, not in float32, or not what it answers with.
    """
    try:
        read = model_file.read(path)
    except ModelFileError as error:
        raise WeightsError(f"{error}.") from None
    architecture = read.info.architecture
    try:
        network = VGGFCN8.of_architecture(architecture)
    except ValueError as error:
        raise WeightsError(f"{path} holds '{architecture}': {error}.") from None
    model = onnx.load_model_from_string(read.data)
    restore(model)
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    layers = _in_order(network)
    # In order, since by name would not do: the exporter merges tensors that are equal.
    if len(nodes) != len(layers):
        raise WeightsError(
            f"{path} has {len(nodes)} convolutions, but {architecture} has {len(layers)}. Export the checkpoint again."
        )
    for node, layer in zip(nodes, layers, strict=True):
        for name, own in zip(node.input[1:], (layer.weight, layer.bias), strict=False):
            tensor = initializers.get(name)
            if read.quantized or tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
                raise WeightsError(f"{path} does not hold its weights in float32. Start from the file it was made of.")
            if own is None or list(own.shape) != list(tensor.dims):
                raise WeightsError(f"{path} has {list(tensor.dims)} for '{name}', which does not fit {architecture}.")
            with torch.no_grad():
                own.copy_(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # running variance + epsilon is what is divided by: undo it exactly
            nn.init.constant_(layer.weight, (layer.running_var[0].item() + layer.eps) ** 0.5)
    with torch.inference_mode():
        module = RoadProbability(network.eval(), read.info.resize)
        answer = module(torch.from_numpy(model_file.golden_image())[None])[0].numpy()
    worst = int(np.abs(answer.astype(int) - read.info.golden).max())
    if worst > LARGEST_DIFFERENCE:
        raise WeightsError(
            f"{path} holds weights, but the network made of them answers up to {worst} of 255 otherwise than the file "
            "says that it should. Export the checkpoint again."
        )
    return network, read.info


def _in_order(network: VGGFCN8) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    """The convolutions as `forward` comes to them, which is how they stand in a model file."""
    order: list[nn.Conv2d | nn.ConvTranspose2d] = []
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [m.register_forward_pre_hook(lambda layer, _: order.append(layer)) for m in layers]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, STRIDE, STRIDE))
    for hook in hooks:
        hook.remove()
    return order


@torch.inference_mode()
def balance(network: VGGFCN8, batches: Iterable[Tensor]) -> None:
    """Scale the convolutions of an encoder without batch norm so that each answers with a root mean square of 1.

    ImageNet's VGG-16 has activations of 700 at pool3, 150 at pool4 and 10 at pool5, so that scores of them begin far
    off and an optimizer's step moves them by as much. After a ReLU a factor is a factor, so the encoder computes what
    it did, but for one factor on each of its features. It fits half precision then, too.

    Args:
        network: with weights of ImageNet.
        batches: float [batch, 3, h, w], normalised, of the frames that are to be trained on; 100 frames are plenty.
    """
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    sums = {layer: torch.zeros(2, dtype=torch.float64) for layer in convolutions}

    def measure(layer: nn.Module, _: tuple[Tensor, ...], answer: Tensor) -> None:
        sums[layer] += torch.stack([torch.tensor(answer.numel()), answer.clamp(min=0).double().square().sum()])

    hooks = [layer.register_forward_hook(measure) for layer in convolutions]
    for batch in batches:
        network.features(batch)
    for hook in hooks:
        hook.remove()
    before = 1.0
    for layer in convolutions:
        number, squares = sums[layer].tolist()
        size = max((squares / number) ** 0.5, 1e-12) if number else 1.0
        layer.weight.mul_(before / size)
        layer.bias.div_(size)
        before = size


@torch.inference_mode()
def calibrate(network: VGGFCN8, batches: Iterable[Tensor]) -> None:
    """Give batch norm that was merged away the statistics of frames; the network's answers stay as they are.

    Batch norm then does in training, where it uses the batch's own statistics, nearly what it does afterwards. The
    convolutions get the size that He initialisation gives them, since before a batch norm only their direction
    counts, and how fast that turns depends on their size: the same learning rates serve as from nothing.

    Args:
        network: from `from_model_file`.
        batches: float [batch, 3, h, w], normalised, of the frames that are to be trained on; 100 frames are plenty.
    """
    convolutions = list(zip(network.features, network.features[1:], strict=False))
    pairs = [(c, n) for c, n in convolutions if isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for _, norm in pairs}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        sums[norm] += torch.stack([torch.ones(x.shape[1]) * x[:, 0].numel(), x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])

    hooks = [norm.register_forward_pre_hook(measure) for _, norm in pairs]
    was_training = network.training
    network.eval()
    for batch in batches:
        network(batch)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        number, total, squares = sums[norm]
        mean = total / number
        variance = (squares / number - mean**2).clamp(min=0)
        size = convolution.weight.double().square().mean((1, 2, 3)).sqrt()
        factor = he_std(convolution) / size.clamp(min=1e-12)
        convolution.weight.mul_(factor[:, None, None, None])
        convolution.bias.mul_(factor)
        norm.running_mean.copy_(factor * mean)
        norm.running_var.copy_(factor**2 * variance)
        norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt() / factor)
        norm.bias.copy_(mean)
