# SPDX-License-Identifier: Apache-2.0
"""The table of parameters, the YAML file and a declared node say the same; shipped files are found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS's rclpy")

import yaml  # noqa: E402
from node_process import any_domain  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from road_seg_node.node import parameters  # noqa: E402
from road_seg_node.node.model_choice import ModelChoice  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=any_domain())
    yield context
    rclpy.shutdown(context=context)


def node(context: Context, **values: object) -> Node:
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return rclpy.create_node("road_seg", context=context, parameter_overrides=overrides)


def test_the_yaml_file_lists_every_parameter_with_its_default() -> None:
    written = yaml.safe_load((REPOSITORY / "config/road_seg.yaml").read_text())["/**"]["ros__parameters"]
    assert written == {setting.name: setting.default for setting in parameters.SETTINGS}
    assert [type(value) for value in written.values()] == [type(s.default) for s in parameters.SETTINGS]


def test_defaults(context: Context) -> None:
    values = parameters.declare(node(context))
    assert values.provider == "auto"
    assert values.threshold is None
    assert values.model == ModelChoice("")


def test_descriptors_tell_type_range_and_what_may_change(context: Context) -> None:
    road_seg = node(context)
    parameters.declare(road_seg)
    model, provider, threshold = road_seg.describe_parameters(["model", "provider", "threshold"])
    assert all(descriptor.description for descriptor in (model, provider, threshold))
    assert [d.read_only for d in (model, provider, threshold)] == [True, True, False]
    assert [d.type for d in (model, provider, threshold)] == [4, 4, 3]  # rcl_interfaces/ParameterType
    assert not any(d.dynamic_typing for d in (model, provider, threshold))
    assert provider.additional_constraints == "one of auto, tensorrt, cuda, openvino, cpu"
    assert (threshold.floating_point_range[0].from_value, threshold.floating_point_range[0].to_value) == (
        -1.0,
        1.0,
    )


@pytest.mark.parametrize("value", [0.0, 0.35, 1.0])
def test_a_threshold_at_start(context: Context, value: float) -> None:
    assert parameters.declare(node(context, threshold=value)).threshold == value


def test_a_whole_number_is_a_threshold_too(context: Context) -> None:
    road_seg = node(context, threshold=1)
    assert parameters.declare(road_seg).threshold == 1.0
    assert road_seg.get_parameter("threshold").type_ == Parameter.Type.DOUBLE


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"threshold": 1.01}, "The parameter threshold must be a number from 0.0 to 1.0 or -1.0, not 1.01."),
        ({"threshold": -0.5}, "The parameter threshold must be a number from 0.0 to 1.0 or -1.0, not -0.5."),
        ({"threshold": math.nan}, "not nan"),
        ({"threshold": True}, "not True"),
        ({"threshold": "high"}, "not 'high'"),
        ({"provider": "gpu"}, "The parameter provider must be one of auto, tensorrt, cuda, openvino, cpu, not 'gpu'."),
        ({"model": 3}, "The parameter model must be text, not 3."),
    ],
)
def test_a_wrong_value_at_start_is_refused(context: Context, values: dict[str, object], sentence: str) -> None:
    with pytest.raises(parameters.ParameterError) as caught:
        parameters.declare(node(context, **values))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["overlay_color", "overlay_colour"])
def test_an_old_name_is_still_read(context: Context, capfd: pytest.CaptureFixture[str], name: str) -> None:
    road_seg = node(context, **{name: "#ff0000"})
    assert parameters.declare(road_seg).overlay_color == (0, 0, 255)
    said = capfd.readouterr().err
    assert ("The parameter overlay_colour is called overlay_color now." in said) == (name == "overlay_colour")
    assert road_seg.set_parameters([Parameter(name, value="#00ff00")])[0].successful
    assert parameters.read(road_seg).overlay_color == (0, 255, 0)
    assert not road_seg.set_parameters([Parameter(name, value="green")])[0].successful


def test_only_the_threshold_changes_while_running(context: Context) -> None:
    road_seg = node(context)
    parameters.declare(road_seg)

    def change(name: str, value: object) -> bool:
        return road_seg.set_parameters([Parameter(name, value=value)])[0].successful

    assert change("threshold", 0.25)
    assert parameters.read(road_seg).threshold == 0.25
    for value in (1.5, -0.5, math.nan, "high"):
        assert not change("threshold", value)
    assert parameters.read(road_seg).threshold == 0.25
    assert change("threshold", -1.0)
    assert parameters.read(road_seg).threshold is None
    assert not change("model", "other.onnx")
    assert not change("provider", "cpu")
