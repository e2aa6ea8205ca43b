# SPDX-License-Identifier: Apache-2.0
"""Weights that a model file keeps in half precision: half the bytes, while the arithmetic stays in float32.

Each stands in the graph as a float16 initializer and a Cast, which ONNX Runtime, OpenVINO and TensorRT carry out once,
as they load the file.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from train.network.model import VGGFCN8

HALF_SUFFIX = ".half"


def round_weights(network: VGGFCN8) -> None:
    """Give `network` the weights that its model file will have, with batch norm merged into the convolutions."""
    layers = list(network.features)
    for i, (convolution, norm) in enumerate(zip(layers, layers[1:], strict=False)):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            network.features[i + 1] = nn.Identity()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.weight.data = layer.weight.data.half().float()


def halve(model: onnx.ModelProto) -> None:
    """Store the weights of all convolutions in half precision, in place."""
    weights = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
            name, half = tensor.name, tensor.name + HALF_SUFFIX
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"), half))
            casts.append(helper.make_node("Cast", [half], [name], half, to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def restore(model: onnx.ModelProto) -> None:
    """Undo `halve`, in place: float32 weights, of the values that they were rounded to."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0].endswith(HALF_SUFFIX)]
    for node in casts:
        tensor = tensors[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), node.output[0]))
        model.graph.node.remove(node)
