# SPDX-License-Identifier: Apache-2.0
"""What the node subscribes to: the images, raw or compressed, and camera_info; and what is to be said where none come.

Every subscription's callback runs in the executor's thread and takes microseconds, so that the next image is fetched
as soon as it is there: in the middleware's queue of depth 1 it would be overwritten, and nobody would count it.

Images are asked for with best effort, which takes them from any publisher and never makes the camera send again. Where
many are lost so, and every publisher offers it, they are asked for reliably: without the Fast DDS profile in the
camera's process nearly all large images lose one of their parts, and only parts that are sent again make them whole.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from road_seg_node.node.parameters import ParameterError
from road_seg_node.ros import dds_neighbours
from road_seg_node.ros.throttled_log import ThrottledLog
from road_seg_node.ros.topics import TYPES, ImageMessage, camera_info_topic, image_topic
from road_seg_node.ros.unused import given_parameters

NAMED = 5  # topics or publishers in one sentence
INFOS = 30  # of camera_info that are kept: a frame may wait a second until the one before it is answered
MANY = 0.05  # share of images that were lost, of at least so many:
JUDGED = 20
LONGEST = 5.0  # seconds after which fewer are judged too; a single one is never many
ACQUAINTED = 2.0  # seconds that the graph takes to know the name of a node whose publisher is already known

TYPE_NAMES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


class Inputs:
    """Subscribes to the images and to camera_info; calls `on_image` with each image, in the executor's thread."""

    def __init__(
        self,
        node: Node,
        name: str,
        image_transport: str,
        on_image: Callable[[ImageMessage], None],
        on_lost: Callable[[int], None],
        log: ThrottledLog,
    ) -> None:
        """name: of the images' topic, before any remapping. Raises ParameterError where qos_overrides cannot be."""
        self._node, self._name, self._transport, self._log = node, name, image_transport, log
        self._on_image, self._on_lost = on_image, on_lost
        # The newest ones. Exchanged as a whole, since the worker's thread reads it.
        self._newest_infos: tuple[CameraInfo, ...] = ()
        self._last = time.monotonic()  # when the last image came
        self._came = self._lost = 0  # images, since they were last judged:
        self._judged, self._losses = self._last, ""  # when, and what is to be said of them
        self._mismatch: float | None = None  # when the middleware last told of a publisher that does not fit
        self.topic = image_topic(node, image_transport, name)
        self._infos = self._subscribe(CameraInfo, camera_info_topic(node, image_transport, name), self._on_camera_info)
        try:
            self._images = self._subscribe_images()
        except ParameterError:
            node.destroy_subscription(self._infos)
            raise
        # Says more than the profile of the subscription: whether it was the user who wanted it so.
        self._adapts = f"qos_overrides.{self.topic}.subscription.reliability" not in given_parameters(node)

    def close(self) -> None:
        for subscription in (self._images, self._infos):
            self._node.destroy_subscription(subscription)

    def camera_info(self, stamp: Time) -> CameraInfo | None:
        """The one with the image's stamp, or else the newest; None where none came. Any thread may ask."""
        infos = self._newest_infos
        of_the_image = (info for info in reversed(infos) if info.header.stamp == stamp)
        return next(of_the_image, infos[-1] if infos else None)

    def complaint(self, image_timeout: float) -> str:
        """What is wrong with the images' coming, as a sentence, or "". Logs it too, throttled.

        To be called once a second.
        """
        now = time.monotonic()
        self._suit_the_publishers()
        if self._came + self._lost >= JUDGED or now - self._judged >= LONGEST:
            self._judge(now)
        silence = now - self._last
        if self._mismatch and now - self._mismatch >= ACQUAINTED and (sentence := self._incompatible()):
            self._log.warn("qos", sentence)
            if silence >= 1.0:
                return sentence
        if self._losses:
            return self._losses
        if not image_timeout or silence < image_timeout:
            return ""
        awaited = self._awaited()
        sentence = f"No image has arrived for {silence:.0f} s; {awaited}"
        self._log.warn("silence", sentence, alike=awaited)
        return sentence

    @property
    def reliability(self) -> str:
        """With which the images are asked for now: "best_effort" or "reliable"."""
        return self._images.qos_profile.reliability.name.lower()

    def _subscribe_images(self, qos: QoSProfile | None = None) -> Subscription:
        """qos: instead of best effort and the user's overrides."""
        # create_subscription() remaps once more, and the name as it was written is what the user's rules know.
        name = self._name if self._transport == "raw" else self.topic
        subscribe = partial(self._subscribe, TYPES[self._transport], name, self._on_message, qos=qos)
        events = partial(SubscriptionEventCallbacks, incompatible_qos=self._on_incompatible_qos)
        try:
            return subscribe(events=events(message_lost=self._on_message_lost))
        except UnsupportedEventTypeError:  # not every middleware tells
            return subscribe(events=events())

    def _ask(self, reliability: ReliabilityPolicy) -> None:
        """Subscribes anew, otherwise as before."""
        qos = self._images.qos_profile
        qos.reliability = reliability
        self._node.destroy_subscription(self._images)
        self._images = self._subscribe_images(qos)
        self._mismatch = None

    def _offered(self) -> set[ReliabilityPolicy]:
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        return {publisher.qos_profile.reliability for publisher in publishers}

    def _suit_the_publishers(self) -> None:
        """Goes back to best effort where a publisher has come that offers no more."""
        if self._adapts and self.reliability == "reliable" and ReliabilityPolicy.BEST_EFFORT in self._offered():
            self._ask(ReliabilityPolicy.BEST_EFFORT)
            self._node.get_logger().info(f"A publisher of {self.topic} is best effort, and so is this node again.")

    def _judge(self, now: float) -> None:
        """Whether many images were lost since it was last asked."""
        came, lost = self._came, self._lost
        self._judged, self._came, self._lost = now, 0, 0
        self._losses = self._lossy(came, lost) if lost > max(1, MANY * (came + lost)) else ""
        if self._losses:
            self._log.warn("lost", self._losses, alike="lost")

    def _lossy(self, came: int, lost: int) -> str:
        """What is to be said of losses. Asks for the images reliably where that has not been tried and can be had."""
        sentence = f"Of the last {came + lost} images on {self.topic} {lost} were lost between the camera and this node"
        helps = dds_neighbours.against_losses(self._node, self.topic)
        if self._adapts and self.reliability == "best_effort" and self._offered() == {ReliabilityPolicy.RELIABLE}:
            self._ask(ReliabilityPolicy.RELIABLE)
            return f"{sentence}, which asks for them reliably from now on. That costs latency; faster is {helps}."
        return f"{sentence}. Large ones need {helps}."

    def _subscribe(
        self,
        of: type,
        topic: str,
        callback: Callable,
        events: SubscriptionEventCallbacks | None = None,
        qos: QoSProfile | None = None,
    ) -> Subscription:
        overrides = QoSOverridingOptions.with_default_policies() if qos is None else None
        qos = qos or QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        try:
            return self._node.create_subscription(
                of, topic, callback, qos, event_callbacks=events, qos_overriding_options=overrides
            )
        except UnsupportedEventTypeError:
            raise
        except (RuntimeError, InvalidQosOverridesError) as error:
            raise ParameterError(f"The topic {topic} cannot be subscribed to: {error}.") from error

    def _on_message(self, msg: ImageMessage) -> None:
        self._last = time.monotonic()
        self._came += 1
        self._on_image(msg)

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self._newest_infos = (*self._newest_infos[1 - INFOS :], msg)

    def _on_message_lost(self, event: Any) -> None:
        self._lost += event.total_count_change
        self._on_lost(event.total_count_change)

    def _on_incompatible_qos(self, _event: object) -> None:
        self._mismatch = time.monotonic()

    def _incompatible(self) -> str:
        """Names publishers from which nothing will come, with both sides' policies; "" where there is none."""
        ours = self._images.qos_profile
        found = []
        for publisher in self._node.get_publishers_info_by_topic(self.topic):
            fits, reason = qos_check_compatible(publisher.qos_profile, ours)
            if fits == QoSCompatibility.ERROR:
                name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
                reason = reason.removeprefix("ERROR: ").strip(" ;")
                found.append(f"{name} offers {policies(publisher.qos_profile)} ({reason})")
        if not found:
            return ""
        return (
            f"The publishers and this node do not agree on the QoS of {self.topic}, so no image arrives: "
            f"{'; '.join(sorted(found)[:NAMED])}; this node asks for {policies(ours)}: change the camera's policies, "
            f"or this node's with qos_overrides.{self.topic}.subscription.*"
        )

    def _awaited(self) -> str:
        of = TYPE_NAMES[self._transport]
        publishers = [publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(self.topic)]
        if publishers:
            others = sorted(set(publishers) - {of})
            there = f"{len(publishers)} publisher(s)" + (f" of {', '.join(others)}" if others else "")
            helps = [f" Set image_transport to {name}." for name, other in TYPE_NAMES.items() if [other] == others]
            if not others and (reason := dds_neighbours.unreachable(self._node, self.topic)):
                helps = [f" {reason}"]
            elif others and not helps and (similar := self._similar(of)):  # such as theora's packets
                helps = [f" Remap {self._name} to one of that type: {', '.join(similar)}."]
            return f"expected on {self.topic} ({of}; {there}).{''.join(helps)}"
        awaited = f"expected on {self.topic} ({of}; nobody publishes there)."
        similar = self._similar(of)
        if similar:
            return f"{awaited} Remap {self._name} to one of that type: {', '.join(similar)}."
        other = next(name for name in TYPE_NAMES if name != self._transport)
        similar = self._similar(TYPE_NAMES[other])
        if similar:
            return f"{awaited} No topic has that type; with image_transport:={other}: {', '.join(similar)}."
        return f"{awaited} No other topic has that type either."

    def _similar(self, of: str) -> list[str]:
        """Topics of the type `of` on which another node publishes, the likest first."""
        own = self._node.get_fully_qualified_name() + "/"
        topics = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if of in types and name != self.topic and not name.startswith(own) and self._node.count_publishers(name)
        ]
        return difflib.get_close_matches(self.topic, topics, NAMED, 0.0)


def policies(qos: QoSProfile) -> str:
    """The policies by which two sides most often miss each other, in words."""
    return f"{qos.reliability.name.lower()}, {qos.durability.name.lower()}"
