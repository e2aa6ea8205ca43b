# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node: type, default, range, description, and whether it may change while running."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from road_seg_node.inference.providers import PROVIDERS
from road_seg_node.node.model_choice import ModelChoice
from road_seg_node.overlay import COLOUR, OPACITY, Colour
from road_seg_node.ros.topics import camera_name
from road_seg_node.ros.unused import given_parameters

MODEL_S_OWN = -1.0  # as a threshold: the one that the model file brings
TRANSPORTS = ("raw", "compressed")
OLD_NAMES = {"overlay_colour": "overlay_color"}  # still read


class ParameterError(ValueError):
    """The node was started with a parameter of a wrong type or value; the message is a sentence."""


@dataclass(frozen=True)
class Setting:
    """One parameter. Its type is its default's; `live` ones may change while the node runs."""

    name: str
    default: str | float | bool | int | list[str]
    description: str
    live: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""  # that the whole text, or each of several, has to match, and `form` says in words
    form: str = "text"
    limits: tuple[float, float] = (-math.inf, math.inf)
    special: tuple[float, ...] = ()  # values outside the limits that have a meaning of their own
    apart_by: Callable[[str], str] | None = None  # of several texts: what of each must be no other's

    @property
    def wanted(self) -> str:
        """What a value has to be, as the end of a sentence."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(self.default, int):
            return "a whole number from {:.0f} to {:.0f}".format(*self.limits)
        if isinstance(self.default, float):
            return " or ".join(["a number from {} to {}".format(*self.limits), *map(str, self.special)])
        return self.form

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
        elif isinstance(self.default, int) and not isinstance(self.default, bool):
            low, high = map(int, self.limits)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        return descriptor

    def accepts(self, value: Any) -> bool:
        if type(value) is not type(self.default):
            return False
        if isinstance(value, bool):
            return True
        if isinstance(value, (int, float)):
            return self.limits[0] <= value <= self.limits[1] or value in self.special
        if isinstance(value, list):
            keys = {self.apart_by(text) if self.apart_by else text for text in value}
            return 0 < len(value) == len(keys) and all(re.fullmatch(self.pattern, text) for text in value)
        if isinstance(value, str) and self.pattern:
            return re.fullmatch(self.pattern, value) is not None
        return not self.choices or value in self.choices

    def refusal(self, value: Any) -> str:
        """Why `value` is not taken."""
        value = [] if value is None else value  # rcl has no type for what is empty
        return f"The parameter {self.name} must be {self.wanted}, not {value!r}."


SETTINGS = (
    Setting(
        "autostart",
        True,
        "Configure and activate at start. false: wait for ros2 lifecycle.",
    ),
    Setting(
        "model",
        "",
        "compact or full for a shipped model, or the path of a model file (ONNX, written by export.py). Empty: full on "
        "TensorRT and CUDA if it is shipped, otherwise compact. The file may be replaced while the node runs: "
        "~/reload_model loads the new one.",
    ),
    Setting(
        "provider",
        "auto",
        "What runs the network. auto uses the fastest that works on this machine; any other must work, or the node "
        "exits.",
        choices=PROVIDERS,
    ),
    Setting(
        "threads",
        0,
        "Number of CPU threads for the network. 0: the library's default, but no more than the container's CPU quota "
        "allows.",
        limits=(0, 1024),
    ),
    Setting(
        "image_topics",
        ["image"],
        "The image topics of one or more cameras, which this node answers in turn. What precedes a topic's last / is "
        "the camera's name, and its outputs are under it: ~/front/mask for front/image_raw, ~/mask for image.",
        pattern=r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*",
        form="one topic or several, each in a namespace of its own, such as [front/image, rear/image]",
        apart_by=camera_name,
    ),
    Setting(
        "image_transport",
        "raw",
        "How images are sent: raw subscribes to image_topics (sensor_msgs/Image), compressed to image/compressed "
        "(sensor_msgs/CompressedImage, JPEG or PNG).",
        choices=TRANSPORTS,
    ),
    Setting(
        "threshold",
        MODEL_S_OWN,
        "A pixel is road if its probability is at least this. -1: the threshold stored in the model file, the best "
        "one on its validation set.",
        live=True,
        limits=(0.0, 1.0),
        special=(MODEL_S_OWN,),
    ),
    Setting(
        "overlay_color",
        "#{2:02x}{1:02x}{0:02x}".format(*COLOUR),
        "Colour of the road on ~/overlay: red, green and blue, two hexadecimal digits each.",
        live=True,
        pattern="#[0-9a-fA-F]{6}",
        form="a colour like #00c860",
    ),
    Setting(
        "overlay_opacity",
        OPACITY,
        "Opacity of that colour inside the road on ~/overlay. 0: only the outline.",
        live=True,
        limits=(0.0, 1.0),
    ),
    Setting(
        "enabled",
        True,
        "Whether frames are answered. ~/set_enabled sets it too.",
        live=True,
    ),
    Setting(
        "max_rate",
        0.0,
        "The most frames answered a second; the others are counted as rate limited. 0: every frame.",
        live=True,
        limits=(0.0, 1000.0),
    ),
    Setting(
        "max_age",
        0.0,
        "Frames whose stamp is older than this many seconds when their turn comes are not answered, and counted as "
        "stale. The clocks must agree (with a bag or a simulator: use_sim_time). 0: no limit.",
        live=True,
        limits=(0.0, 3600.0),
    ),
    Setting(
        "image_timeout",
        5.0,
        "After this many seconds without an image the node warns, and names the topic it is waiting for. 0: never.",
        live=True,
        limits=(0.0, 3600.0),
    ),
    Setting(
        "watch_model",
        False,
        "Reload a replaced model file automatically, a second after its last change.",
        live=True,
    ),
    Setting(
        "camera_height",
        0.0,
        "Height of the camera above the ground in metres, for ~/road_grid. 0: unknown, so there is no grid.",
        live=True,
        limits=(0.05, 100.0),
        special=(0.0,),
    ),
    Setting(
        "camera_tilt",
        0.0,
        "How far the camera looks down, in radians, for ~/road_grid.",
        live=True,
        limits=(-1.5, 1.5),
    ),
    Setting(
        "camera_roll",
        0.0,
        "How far the camera is rotated clockwise about its viewing direction, in radians, for ~/road_grid.",
        live=True,
        limits=(-1.5, 1.5),
    ),
    Setting(
        "ground_frame",
        "",
        "Frame of ~/road_grid, z up, the ground at z = 0, in which TF knows the camera; such as base_footprint. Empty: "
        "the images' frame_id with _ground appended, below the camera, from camera_height and camera_tilt.",
        pattern=r"([^/\s]\S*)?",
        form="the name of a TF frame, without / before it",
    ),
    Setting(
        "image_rectified",
        False,
        "Whether the images are rectified, like image_proc's image_rect: ~/road_grid then uses P of camera_info, "
        "otherwise K and its distortion.",
        live=True,
    ),
    Setting(
        "grid_cell",
        0.1,
        "Side of a cell of ~/road_grid, in metres.",
        live=True,
        limits=(0.05, 0.2),
    ),
    Setting(
        "grid_ahead",
        40.0,
        "How far ~/road_grid extends along x of its frame, in metres.",
        live=True,
        limits=(1.0, 100.0),
    ),
    Setting(
        "grid_behind",
        0.0,
        "How far ~/road_grid extends backwards along x of its frame, in metres: for cameras that look back, with "
        "ground_frame.",
        live=True,
        limits=(0.0, 100.0),
    ),
    Setting(
        "grid_sides",
        10.0,
        "How far ~/road_grid extends to each side, in metres.",
        live=True,
        limits=(1.0, 50.0),
    ),
)


@dataclass(frozen=True)
class Values:
    """The parameters' present values. threshold: a fraction, or None for the model's own. SI units."""

    autostart: bool
    model: ModelChoice
    provider: str
    threads: int
    image_topics: list[str]
    image_transport: str
    threshold: float | None
    overlay_color: Colour
    overlay_opacity: float
    enabled: bool
    max_rate: float
    max_age: float
    image_timeout: float
    watch_model: bool
    camera_height: float
    camera_tilt: float
    camera_roll: float
    ground_frame: str
    image_rectified: bool
    grid_cell: float
    grid_ahead: float
    grid_behind: float
    grid_sides: float


def declare(node: Node) -> Values:
    """Declares every parameter on `node`, refuses later changes that make no sense, and returns the values.

    Raises ParameterError when the node was started with a value that is refused.
    """
    # Declared without a type, so that what the user gave can be looked at here: rclpy's own refusal is no sentence.
    untyped = ParameterDescriptor(dynamic_typing=True)
    renamed = {}
    for old in OLD_NAMES.keys() & given_parameters(node):
        renamed[OLD_NAMES[old]] = node.declare_parameter(old, "", untyped).value
        node.get_logger().warning(f"The parameter {old} is called {OLD_NAMES[old]} now.")
    for setting in SETTINGS:
        default = renamed.get(setting.name, setting.default)
        value = node.declare_parameter(setting.name, default, untyped).value
        if isinstance(setting.default, float) and type(value) is int:  # threshold:=1
            value = float(value)
        if not setting.accepts(value):
            raise ParameterError(setting.refusal(value))
        node.set_parameters([Parameter(setting.name, value=value)])
        node.set_descriptor(setting.name, setting.descriptor())
    node.add_pre_set_parameters_callback(_convert)
    node.add_on_set_parameters_callback(_check)
    return read(node)


def read(node: Node) -> Values:
    """Returns the present values of the declared parameters."""
    values = {setting.name: node.get_parameter(setting.name).value for setting in SETTINGS}
    values["model"] = ModelChoice(values["model"])
    values["threshold"] = None if values["threshold"] == MODEL_S_OWN else values["threshold"]
    red, green, blue = bytes.fromhex(values["overlay_color"][1:])
    values["overlay_color"] = (blue, green, red)
    return Values(**values)


def _convert(parameters: list[Parameter]) -> list[Parameter]:
    """Makes `ros2 param set /road_seg threshold 1` mean 1.0, and an old name the new one."""
    floats = {setting.name for setting in SETTINGS if isinstance(setting.default, float)}
    converted = []
    for parameter in parameters:
        name = OLD_NAMES.get(parameter.name, parameter.name)
        if name in floats and parameter.type_ == Parameter.Type.INTEGER:
            parameter = Parameter(name, value=float(parameter.value))
        converted.append(Parameter(name, parameter.type_, parameter.value))
    return converted


def _check(parameters: list[Parameter]) -> SetParametersResult:
    settings = {setting.name: setting for setting in SETTINGS}
    for parameter in parameters:
        setting = settings.get(parameter.name)
        if setting and not setting.accepts(parameter.value):
            return SetParametersResult(successful=False, reason=setting.refusal(parameter.value))
    return SetParametersResult(successful=True)
