# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node: type, default, range, description, and whether it may change while running."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from road_seg_node.providers import PROVIDERS
from road_seg_node.shipped import shipped_file

SHIPPED_MODEL = "models/road_seg_compact.onnx"
MODEL_S_OWN = -1.0  # as a threshold: the one that the model file brings


class ParameterError(ValueError):
    """The node was started with a parameter of a wrong type or value; the message is a sentence."""


@dataclass(frozen=True)
class Setting:
    """One parameter. Its type is its default's; `live` ones may change while the node runs."""

    name: str
    default: str | float
    description: str
    live: bool = False
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    special: tuple[float, ...] = ()  # values outside the limits that have a meaning of their own

    @property
    def wanted(self) -> str:
        """What a value has to be, as the end of a sentence."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(self.default, float):
            return " or ".join(["a number from {:.1f} to {:.1f}".format(*self.limits), *map(str, self.special)])
        return "a text"

    def descriptor(self) -> ParameterDescriptor:
        descriptor = ParameterDescriptor(
            name=self.name,
            type=Parameter.Type.from_parameter_value(self.default).value,
            description=self.description,
            additional_constraints=self.wanted,
            read_only=not self.live,
        )
        if isinstance(self.default, float):  # rqt_reconfigure draws a slider over this range
            ends = (*self.limits, *self.special)
            descriptor.floating_point_range = [FloatingPointRange(from_value=min(ends), to_value=max(ends))]
        return descriptor

    def accepts(self, value: Any) -> bool:
        """Whether a value of the right type may be taken."""
        if isinstance(self.default, float):
            return self.limits[0] <= value <= self.limits[1] or value in self.special
        return not self.choices or value in self.choices


SETTINGS = (
    Setting(
        "model",
        "",
        "Path of the model file (ONNX, written by export.py). Empty: the model that ships with this package.",
    ),
    Setting(
        "provider",
        "auto",
        "What runs the network. auto takes the fastest that works on this machine; any other must work, or the node "
        "does not start.",
        choices=PROVIDERS,
    ),
    Setting(
        "threshold",
        MODEL_S_OWN,
        "A pixel is road where its probability is at least this. -1: the threshold that the model file brings, the "
        "best one on its validation set.",
        live=True,
        limits=(0.0, 1.0),
        special=(MODEL_S_OWN,),
    ),
)


@dataclass(frozen=True)
class Values:
    """The parameters' present values. threshold: a fraction, or None for the model's own."""

    model: Path
    provider: str
    threshold: float | None


def declare(node: Node) -> Values:
    """Declares every parameter on `node`, refuses later changes that make no sense, and returns the values.

    Raises ParameterError when the node was started with a value that is refused.
    """
    for setting in SETTINGS:
        # Declared without a type, so that what the user gave can be looked at here: rclpy's own refusal is no sentence.
        untyped = ParameterDescriptor(dynamic_typing=True)
        value = node.declare_parameter(setting.name, setting.default, untyped).value
        if isinstance(setting.default, float) and type(value) is int:  # threshold:=1
            value = float(value)
        if type(value) is not type(setting.default) or not setting.accepts(value):
            raise ParameterError(f"The parameter {setting.name} must be {setting.wanted}, not {value!r}.")
        node.set_parameters([Parameter(setting.name, value=value)])
        node.set_descriptor(setting.name, setting.descriptor())
    node.add_on_set_parameters_callback(_check)
    return read(node)


def read(node: Node) -> Values:
    """Returns the present values of the declared parameters."""
    model, provider, threshold = (node.get_parameter(setting.name).value for setting in SETTINGS)
    return Values(
        model=Path(model).expanduser() if model else shipped_file(SHIPPED_MODEL),
        provider=provider,
        threshold=None if threshold == MODEL_S_OWN else threshold,
    )


def _check(parameters: Iterable[Parameter]) -> SetParametersResult:
    settings = {setting.name: setting for setting in SETTINGS}
    for parameter in parameters:
        setting = settings.get(parameter.name)
        if setting and not setting.accepts(parameter.value):
            reason = f"The parameter {setting.name} must be {setting.wanted}, not {parameter.value}."
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)
