# SPDX-License-Identifier: Apache-2.0
"""Weights that a training run starts from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from road_seg_node import model_file
from road_seg_node.model_file import ModelFileError, ModelInfo
from train.contract import RoadProbability
from train.model import STRIDE, VGGFCN8, he_std
from train.preset import PresetError

LARGEST_DIFFERENCE = 1  # of 255, from the answer that a model file carries


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit; the message names the file and what to do."""


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
    graph = onnx.load_model_from_string(read.data).graph
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


def read_weights(path: Path) -> dict[str, Tensor]:
    """torchvision's VGG-16 state dict.

    Raises:
        PresetError: the file is missing or no state dict.
    """
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PresetError(
            f"There is no file {path}. Download vgg16-397923af.pth from download.pytorch.org/models and name it."
        ) from None
    except Exception as error:  # torch raises many kinds for a file that is no state dict
        raise PresetError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    if not isinstance(weights, dict):
        raise PresetError(f"{path} holds no state dict of torchvision's VGG-16.")
    return weights
