# SPDX-License-Identifier: Apache-2.0
"""The ROS node: images in, road masks out. ROS wiring only; what is done to an image is in the other modules."""

from __future__ import annotations

import signal
import statistics
import sys
import threading
import time
from collections import Counter, deque
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from road_seg_node import parameters
from road_seg_node.images import ImageError, to_bgr, to_message
from road_seg_node.model_file import ModelFileError
from road_seg_node.newest_frame import NewestFrame
from road_seg_node.overlay import tint
from road_seg_node.parameters import ParameterError
from road_seg_node.providers import ProviderError
from road_seg_node.segmenter import RoadSegmenter, road_mask

NODE_NAME = "road_seg"
# Seconds after which SIGALRM ends a shutdown that hangs: while another process dies, Fast DDS has been seen to wait for
# itself for ever as it gave up its participant, and no Python runs meanwhile.
SHUTDOWN = 10
SILENCE = 5.0  # seconds without an image before the node warns
REPEAT = 10.0  # seconds between two warnings of one kind
# What may become of a frame, as diagnostics count them: `failed` is one on which inference or publishing failed,
# `unwatched` one that came while nobody listened to any output.
FATES = ("answered", "superseded", "refused", "failed", "unwatched")


class RoadSegNode(Node):
    """Subscribes `image`, publishes `~/mask`, `~/probability`, `~/overlay` and `/diagnostics`.

    Takes the keyword arguments of rclpy's Node. Raises ParameterError, ModelFileError or ProviderError, each with a
    sentence, when it cannot start. destroy_node() waits for the frame in work.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        values = parameters.declare(self)
        self._segmenter = RoadSegmenter(values.model, values.provider, tell=self.get_logger().info)
        if not self.context.ok():  # SIGTERM came while the model was loading
            raise ExternalShutdownException
        self._apply_parameters()
        self.add_post_set_parameters_callback(self._apply_parameters)

        self._counts: Counter[str] = Counter()
        self._seconds: deque[float] = deque(maxlen=100)
        self._warned: dict[str, float] = {}
        self._last_image = time.monotonic()
        self._newest = NewestFrame()
        reliable = QoSProfile(depth=1)
        self._outputs = {
            name: self.create_publisher(Image, f"~/{name}", reliable) for name in ("mask", "probability", "overlay")
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._images = self._subscribe()
        # Not the ROS clock: with use_sim_time and no simulator it stands still, which is when a warning is needed.
        self.create_timer(1.0, self._every_second, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._say_what_runs()
        self._worker = threading.Thread(target=self._work, name="inference")
        self._worker.start()

    def destroy_node(self) -> None:
        if hasattr(self, "_worker"):
            self._newest.close()
            self._worker.join()
        super().destroy_node()

    def _subscribe(self) -> Subscription:
        qos = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
        overrides = QoSOverridingOptions.with_default_policies()
        try:
            return self.create_subscription(Image, "image", self._on_image, qos, qos_overriding_options=overrides)
        except (RuntimeError, InvalidQosOverridesError) as error:
            raise ParameterError(f"The images cannot be subscribed to: {error}.") from error

    def _say_what_runs(self) -> None:
        info, log = self._segmenter.info, self.get_logger()
        for reason in self._segmenter.refused:
            log.info(f"provider auto: {reason}.")
        log.info(
            f"Model {info.name} ({info.architecture}) on {self._segmenter.provider} in {self._segmenter.precision}, "
            f"threshold {self._threshold:.3f}; its golden answer differs by {self._segmenter.golden_difference} of 255."
        )
        outputs = ", ".join(publisher.topic_name for publisher in self._outputs.values())
        log.info(f"Waiting for images on {self._images.topic_name}; answers on {outputs}.")

    def _apply_parameters(self, _changed: Any = None) -> None:
        threshold = parameters.read(self).threshold
        self._threshold = self._segmenter.info.threshold if threshold is None else threshold

    def _on_image(self, msg: Image) -> None:
        self._last_image = time.monotonic()
        self._counts["received"] += 1
        if self._newest.put(msg):
            self._counts["superseded"] += 1

    def _work(self) -> None:
        while (msg := self._newest.take()) is not None:
            try:
                self._counts[self._answer(msg)] += 1
            except ImageError as error:
                self._counts["refused"] += 1
                self._warn(error.reason, f"{error} From {self._images.topic_name}; the node goes on.")
            except Exception as error:  # noqa: BLE001 - whatever one frame does, the next one is answered
                if not self.context.ok():
                    return  # publishing fails once the context is shut down
                self._counts["failed"] += 1
                stamp = msg.header.stamp
                named = f"The frame stamped {stamp.sec}.{stamp.nanosec:09} s"
                self._warn("inference", f"{named} was not answered: {error}")

    def _answer(self, msg: Image) -> str:
        """Infers and publishes what is listened to; returns the count that the frame belongs to."""
        bgr = to_bgr(msg)
        wanted = {name for name, publisher in self._outputs.items() if publisher.get_subscription_count()}
        if not wanted:
            return "unwatched"
        start = time.perf_counter()
        probability = self._segmenter.probability(bgr)
        self._seconds.append(time.perf_counter() - start)
        mask = road_mask(probability, self._threshold)
        if "mask" in wanted:
            self._outputs["mask"].publish(to_message(mask, "mono8", msg.header))
        if "probability" in wanted:
            self._outputs["probability"].publish(to_message(probability, "mono8", msg.header))
        if "overlay" in wanted:
            self._outputs["overlay"].publish(to_message(tint(bgr, mask), "bgr8", msg.header))
        return "answered"

    def _every_second(self) -> None:
        silence = time.monotonic() - self._last_image
        level, message = (
            DiagnosticStatus.OK,
            "answering" if self._counts["received"] else "waiting for images",
        )
        if silence >= SILENCE:
            topic = self._images.topic_name
            level, message = DiagnosticStatus.WARN, f"no image on {topic} for {silence:.0f} s"
            publishers = self.count_publishers(topic)
            hint = f"{publishers} publish there" if publishers else "nobody publishes there: remap `image`"
            self._warn("silence", f"No image for {silence:.0f} s; awaited on {topic} ({hint}).")
        facts = {
            "provider": self._segmenter.provider,
            "precision": self._segmenter.precision,
            "model": self._segmenter.info.name,
            "model sha256": self._segmenter.model_sha256[:12],
            "checkpoint": self._segmenter.info.checkpoint_sha256[:12],
            **{f"refused {i + 1}": reason for i, reason in enumerate(self._segmenter.refused)},
            **{f"frames {name}": self._counts[name] for name in ("received", *FATES)},
            "inference median [ms]": f"{1000 * statistics.median(tuple(self._seconds) or (0.0,)):.1f}",
        }
        status = DiagnosticStatus(level=level, name=f"{NODE_NAME}: segmentation", message=message)
        status.hardware_id = self.get_fully_qualified_name()
        status.values = [KeyValue(key=key, value=str(value)) for key, value in facts.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _warn(self, reason: str, sentence: str) -> None:
        """Logs once in REPEAT seconds for each reason (rclpy's own throttle goes by line of code)."""
        now = time.monotonic()
        if now - self._warned.get(reason, -REPEAT) >= REPEAT:
            self._warned[reason] = now
            self.get_logger().warning(sentence)


def main(args: list[str] | None = None) -> int:
    """Runs the node until Ctrl-C or SIGTERM (0); 2 when a parameter, the model or the provider is at fault."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # one that comes while rclpy takes them over would be lost
    # Python's own answer to Ctrl-C is a KeyboardInterrupt wherever the node is just then, half made or half gone.
    # rclpy's handlers shut the context down, and that ends spin() in its own time.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    executor, node = None, None
    try:
        try:
            rclpy.init(args=args)
        except RuntimeError as error:  # what rclpy's errors about --ros-args have in common
            get_logger(NODE_NAME).fatal(f"The command line cannot be used: {error}")
            return 2
        executor = SingleThreadedExecutor()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        node = RoadSegNode()
        executor.add_node(node)
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception as error:
        if not rclpy.ok():  # a call that the shutdown of the context broke off
            return 0
        if not isinstance(error, (ParameterError, ModelFileError, ProviderError)):
            raise
        get_logger(NODE_NAME).fatal(str(error))
        return 2
    finally:
        signal.alarm(SHUTDOWN)
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
