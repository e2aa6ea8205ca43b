# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of the node, for each camera: its level by rule, a message, and every figure.

ERROR: a transition failed and the node is not active; or, of the last seconds' frames, inference failed on some and
none was answered.
WARN: the node is active and enabled, and no image has come for image_timeout seconds, a publisher's QoS does not fit,
or one in twenty images is lost on the way; or some of the last seconds' frames were malformed, stale, or failed; or
the model's file could not be loaded again, or its masks may be wrong on this processor; or the scene is unlike what
the model was trained on: the last seconds' median doubt is above the threshold in the model's file.
OK: otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from road_seg_node.inference import RoadSegmenter
from road_seg_node.node.frame_accounts import STAGES, Fate, Report

FAULTS = (Fate.FAILED, Fate.MALFORMED, Fate.STALE)
NEVER = "-"  # in the place of a figure


@dataclass(frozen=True)
class CameraCondition:
    """One camera's part of the node at one moment. Complaints are sentences, empty where there is nothing to say."""

    name: str  # empty of the only one
    report: Report
    input_complaint: str = ""
    output_complaint: str = ""
    image_reliability: str = ""  # with which images are asked for; empty unless active


@dataclass(frozen=True)
class Condition:
    """The node and one of its cameras at one moment."""

    name: str  # of the node, with its namespace
    camera: CameraCondition
    state: str  # of the lifecycle
    transition_failure: str
    reload_failure: str
    enabled: bool
    segmenter: RoadSegmenter | None  # None unless configured
    model_reason: str  # why that model
    threshold: float | None


def status(condition: Condition) -> DiagnosticStatus:
    level, message = _level(condition)
    what = " ".join(filter(None, (condition.camera.name, "segmentation")))
    name = f"{condition.name.strip('/')}: {what}"
    found = DiagnosticStatus(level=level, name=name, message=message, hardware_id=condition.name)
    facts: dict[str, object] = {"state": condition.state, **_model(condition)}
    if condition.camera.image_reliability:
        facts["image reliability"] = condition.camera.image_reliability
    facts |= _frames(condition.camera.report)
    found.values = [KeyValue(key=key, value=str(value)) for key, value in facts.items()]
    return found


def _level(condition: Condition) -> tuple[bytes, str]:
    recently = condition.camera.report.recently
    if condition.transition_failure and condition.state != "active":
        return DiagnosticStatus.ERROR, condition.transition_failure
    if condition.state != "active":
        return DiagnosticStatus.OK, condition.state
    if recently[Fate.FAILED] and not recently[Fate.ANSWERED]:
        return DiagnosticStatus.ERROR, f"inference failed on {recently[Fate.FAILED]} frames and answered none"
    if condition.enabled and condition.camera.input_complaint:
        return DiagnosticStatus.WARN, condition.camera.input_complaint
    if condition.enabled and condition.camera.output_complaint:
        return DiagnosticStatus.WARN, condition.camera.output_complaint
    if condition.reload_failure:
        return DiagnosticStatus.WARN, condition.reload_failure
    faults = [f"{recently[fate]} {fate.value}" for fate in FAULTS if recently[fate]]
    if faults:
        came = condition.camera.report.recently_received
        return DiagnosticStatus.WARN, f"of the last {came} frames {', '.join(faults)}"
    if condition.segmenter is not None and condition.segmenter.caveat:
        return DiagnosticStatus.WARN, f"the masks may be wrong: {condition.segmenter.caveat}"
    if unfamiliar := _unfamiliar(condition):
        return DiagnosticStatus.WARN, unfamiliar
    return DiagnosticStatus.OK, _doing(condition)


def _unfamiliar(condition: Condition) -> str:
    """Why the masks are not to be trusted, or "" where the scene is as the model knows it, or nobody can tell."""
    doubt, segmenter = condition.camera.report.doubt, condition.segmenter
    limit = None if segmenter is None else segmenter.info.doubt_threshold
    if doubt is None or limit is None or doubt <= limit:
        return ""
    return (
        f"the scene is unlike what the model was trained on, so its masks may be wrong: doubt is {doubt:.3f}, above "
        f"{limit:.3f}; go slower, look at the camera (dirty, dark, upside down?) and at ~/overlay, and if it looks "
        "right, train the model on such frames"
    )


def _doing(condition: Condition) -> str:
    if not condition.enabled:
        return "disabled"
    report = condition.camera.report
    if not report.recently_received:
        return "waiting for images"
    if report.recently[Fate.UNWATCHED] and not report.recently[Fate.ANSWERED]:
        return "nobody listens to any output"
    return f"answering {report.rate_out:.1f} of {report.rate_in:.1f} frames a second"


def _model(condition: Condition) -> dict[str, object]:
    segmenter = condition.segmenter
    if segmenter is None:
        return {"model": "none"}
    return {
        "provider": segmenter.provider,
        "precision": segmenter.precision,
        **{f"refused {number}": reason for number, reason in enumerate(segmenter.refused, 1)},
        "model": segmenter.info.name,
        "model chosen": condition.model_reason,
        "model sha256": segmenter.model_sha256[:12],
        "checkpoint": segmenter.info.checkpoint_sha256[:12],
        "golden difference [of 255]": segmenter.golden_difference,
        "threshold": f"{condition.threshold:.3f}",
        "doubt threshold": _number(segmenter.info.doubt_threshold),
    }


def _frames(report: Report) -> dict[str, object]:
    latencies = {}
    for stage in STAGES:
        p50, p99 = report.percentiles.get(stage, (None, None))
        latencies[f"{stage} p50 [ms]"] = NEVER if p50 is None else f"{1000 * p50:.2f}"
        latencies[f"{stage} p99 [ms]"] = NEVER if p99 is None else f"{1000 * p99:.2f}"
    return {
        "rate in [Hz]": f"{report.rate_in:.1f}",
        "rate out [Hz]": f"{report.rate_out:.1f}",
        "age of last frame [s]": NEVER if report.last_arrival is None else f"{report.last_arrival:.1f}",
        "doubt": _number(report.doubt),
        "lost before arrival": report.lost,
        "frames received": report.received,
        **{f"frames {fate.value}": report.fates[fate] for fate in Fate},
        "frames pending": report.pending,
        **latencies,
    }


def _number(value: float | None) -> str:
    return NEVER if value is None else f"{value:.3f}"
