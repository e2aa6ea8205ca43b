# SPDX-License-Identifier: Apache-2.0
"""The exporter for tests that are not about it: one export for each kind of network, whose weights are then exchanged.

torch.onnx.export takes ten seconds of processor time however narrow the network is, and what it makes of one depends on
its layers and on the resize policy alone. The graphs are kept in the folder $ROAD_SEG_TEST_GRAPHS, which conftest.py
makes for a run of the tests. `export_checkpoint` proves against PyTorch what it gets from here as it does any other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from export import export as exporter
from road_seg_node.inference.model_file import ModelInfo
from train.network.contract import RoadProbability
from train.network.model import VGGFCN8

FOLDER = "ROAD_SEG_TEST_GRAPHS"
_export = exporter.to_onnx


def install() -> None:
    """Lets `export_checkpoint` in this process take its graphs from here."""
    exporter.to_onnx = to_onnx


def export_checkpoint(*arguments: Any, **options: Any) -> ModelInfo:
    """The exporter's, with the graphs from here."""
    with mock.patch.object(exporter, "to_onnx", to_onnx):
        return exporter.export_checkpoint(*arguments, **options)


def to_onnx(module: RoadProbability) -> onnx.ModelProto:
    """What the exporter's `to_onnx` returns."""
    model = _graph(module.network.architecture, module.resize)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def put(name: str, value: torch.Tensor) -> None:
        assert list(tensors[name].dims) == list(value.shape)
        tensors[name].CopyFrom(numpy_helper.from_array(value.numpy().astype(np.float32), name))

    layers = dict(module.named_modules())
    with torch.no_grad():
        for name, layer in layers.items():
            if isinstance(layer, nn.ConvTranspose2d):
                put(f"{name}.weight", layer.weight)
            elif isinstance(layer, nn.Conv2d):
                path, _, index = name.rpartition(".")
                after = layers.get(f"{path}.{int(index) + 1}") if index.isdigit() else None
                if isinstance(after, nn.BatchNorm2d):  # the exporter puts it into the convolution
                    factor = after.weight / (after.running_var + after.eps).sqrt()
                    put(f"{name}.weight", layer.weight * factor.view(-1, 1, 1, 1))
                    put(f"{name}.bias", (layer.bias - after.running_mean) * factor + after.bias)
                else:
                    put(f"{name}.weight", layer.weight)
                    put(f"{name}.bias", layer.bias)
    return model


def _graph(architecture: str, resize: dict[str, object]) -> onnx.ModelProto:
    key = hashlib.sha256(json.dumps([architecture, resize], sort_keys=True).encode()).hexdigest()[:16]
    kept = Path(os.environ[FOLDER]) / f"{key}.onnx"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that want the same one export it once
        if not kept.exists():
            network = VGGFCN8.of_architecture(architecture)
            with torch.no_grad():
                for value in network.state_dict().values():  # no two alike, since those would be one in the graph
                    if value.is_floating_point():
                        value.uniform_(0.5, 1.5)
            onnx.save(_export(RoadProbability(network, resize).eval()), kept)
    return onnx.load(kept)
