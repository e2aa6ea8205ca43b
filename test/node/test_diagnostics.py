# SPDX-License-Identifier: Apache-2.0
"""The level of /diagnostics follows its rule, and its message says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import TINY, tiny_info, write_tiny_model

pytest.importorskip("diagnostic_msgs.msg", reason="needs ROS's diagnostic_msgs")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

from road_seg_node.inference import RoadSegmenter, model_file  # noqa: E402
from road_seg_node.inference.processor import products_overflow  # noqa: E402
from road_seg_node.node.diagnostics import CameraCondition, Condition, status  # noqa: E402
from road_seg_node.node.frame_accounts import Fate, FrameAccounts  # noqa: E402

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
SILENCE = "No image has arrived for 6 s."


def condition(
    fates: dict[Fate, int] | None = None,
    of_camera: dict[str, Any] | None = None,
    doubt: float | None = None,
    **changes: Any,
) -> Condition:
    accounts = FrameAccounts()
    accounts.report(0.0)
    for fate, count in (fates or {}).items():
        for _ in range(count):
            accounts.receive(0.5)
            accounts.settle(fate)
            if doubt is not None and fate is Fate.ANSWERED:
                accounts.doubt(doubt)
    values: dict[str, Any] = {
        "name": "/front/road_seg",
        "state": "active",
        "transition_failure": "",
        "reload_failure": "",
        "enabled": True,
        "segmenter": None,
        "model_reason": "",
        "threshold": None,
    }
    camera = CameraCondition(**({"name": "", "report": accounts.report(1.0)} | (of_camera or {})))
    return Condition(**(values | {"camera": camera} | changes))


@pytest.mark.parametrize(
    ("found", "level", "message"),
    [
        (condition(), OK, "waiting for images"),
        (condition({Fate.ANSWERED: 30}), OK, "answering 30.0 of 30.0 frames a second"),
        (condition({Fate.ANSWERED: 10, Fate.SUPERSEDED: 20}), OK, "answering 10.0 of 30.0 frames a second"),
        (condition({Fate.UNWATCHED: 30}), OK, "nobody listens to any output"),
        (condition({Fate.DISABLED: 30}, enabled=False, of_camera={"input_complaint": SILENCE}), OK, "disabled"),
        (condition({Fate.ANSWERED: 29, Fate.MALFORMED: 1}), WARN, "of the last 30 frames 1 malformed"),
        (condition({Fate.STALE: 3}), WARN, "of the last 3 frames 3 stale"),
        (condition({Fate.ANSWERED: 1, Fate.FAILED: 1}), WARN, "of the last 2 frames 1 inference error"),
        (condition({Fate.FAILED: 5}), ERROR, "inference failed on 5 frames and answered none"),
        (condition(of_camera={"input_complaint": SILENCE}), WARN, SILENCE),
        (condition({Fate.ANSWERED: 30}, reload_failure="It is no model."), WARN, "It is no model."),
        (condition({Fate.ANSWERED: 30}, of_camera={"output_complaint": "No grid."}), WARN, "No grid."),
        (condition({Fate.DISABLED: 30}, enabled=False, of_camera={"output_complaint": "No grid."}), OK, "disabled"),
        (condition(state="inactive", of_camera={"input_complaint": SILENCE}), OK, "inactive"),
        (condition(state="unconfigured", transition_failure="It failed."), ERROR, "It failed."),
        (condition(state="active", transition_failure="It failed."), OK, "waiting for images"),
    ],
)
def test_level_and_message(found: Condition, level: bytes, message: str) -> None:
    told = status(found)
    assert (told.level, told.message) == (level, message)


def test_int8_weights_that_overflow_here_are_a_warning(tmp_path: Path) -> None:
    """Everywhere else, and with weights of 7 bits, there is nothing to warn of."""
    for bits, overflow in ((8, products_overflow()), (None, products_overflow()), (7, False)):
        info = tiny_info(metrics={"weight_bits": bits} if bits else {})
        model_file.write_bytes(TINY.read_bytes(), info, tmp_path / "m.onnx", "int8")
        segmenter = RoadSegmenter(tmp_path / "m.onnx", "cpu")
        told = status(condition({Fate.ANSWERED: 30}, segmenter=segmenter, threshold=0.5))
        assert told.level == (WARN if overflow else OK)
        assert told.message.startswith("the masks may be wrong: the int8 model") == overflow


@pytest.mark.parametrize(
    ("doubt", "limit", "level"), [(0.25, 0.2, WARN), (0.2, 0.2, OK), (0.1, 0.2, OK), (1.0, None, OK), (None, 0.2, OK)]
)
def test_a_doubt_above_the_models_threshold_is_a_warning(
    tmp_path: Path, doubt: float | None, limit: float | None, level: bytes
) -> None:
    segmenter = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx", doubt_threshold=limit), "cpu")
    told = status(condition({Fate.ANSWERED: 30}, doubt=doubt, segmenter=segmenter, threshold=0.5))
    assert told.level == level
    assert ("unlike what the model was trained on" in told.message) == (level == WARN)
    values = {item.key: item.value for item in told.values}
    assert values["doubt"] == ("-" if doubt is None else f"{doubt:.3f}")
    assert values["doubt threshold"] == ("-" if limit is None else "0.200")


def test_what_is_wrong_with_the_frames_is_said_before_doubt(tmp_path: Path) -> None:
    segmenter = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx", doubt_threshold=0.2), "cpu")
    fates = {Fate.ANSWERED: 29, Fate.STALE: 1}
    told = status(condition(fates, doubt=0.9, segmenter=segmenter, threshold=0.5))
    assert (told.level, told.message) == (WARN, "of the last 30 frames 1 stale")


def test_several_nodes_and_cameras_can_be_told_apart() -> None:
    told = status(condition())
    assert (told.name, told.hardware_id) == ("front/road_seg: segmentation", "/front/road_seg")
    told = status(condition(of_camera={"name": "rear/left"}))
    assert (told.name, told.hardware_id) == ("front/road_seg: rear/left segmentation", "/front/road_seg")


def test_every_count_and_every_stage_is_there_from_the_start() -> None:
    values = {item.key: item.value for item in status(condition()).values}
    for fate in Fate:
        assert values[f"frames {fate.value}"] == "0"
    assert values["infer p50 [ms]"] == values["age of last frame [s]"] == values["doubt"] == "-"
    assert values["model"] == "none"
