# SPDX-License-Identifier: Apache-2.0
"""The ROS node: images in, road masks out. ROS wiring only; what is done to an image is in the other modules.

Three threads: the executor's has every callback (images, camera_info, parameters, services, transitions, the second's
report), all of them short but configure(); worker.py's infers and publishes, model_loader.py's loads the model again.
Each of those says why it is a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from road_seg_node.inference import RoadSegmenter
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.node import diagnostics, parameters
from road_seg_node.node.camera_mounting import CameraMounting
from road_seg_node.node.label_info import LabelInfoPublisher
from road_seg_node.node.managed_node import ManagedNode
from road_seg_node.node.model_loader import ModelLoader
from road_seg_node.node.parameters import ParameterError
from road_seg_node.node.stream import Stream
from road_seg_node.node.worker import Worker
from road_seg_node.ros import program, start, unused
from road_seg_node.ros.dds_leftovers import remove_leftovers
from road_seg_node.ros.throttled_log import ThrottledLog

NODE_NAME = "road_seg"
REPORT = 1.0  # seconds between two messages on /diagnostics
ABOUT = start.About(
    "road_seg_node",
    NODE_NAME,
    "Finds the road in the images on the topic image (or image/compressed) and publishes ~/mask, ~/probability, "
    "~/overlay, ~/camera_info, ~/road_grid and /diagnostics.",
    [(setting.name, setting.default, setting.description) for setting in parameters.SETTINGS],
)


class RoadSegNode(ManagedNode):
    """Subscribes to each camera's images, publishes its outputs.OUTPUTS and `/diagnostics`.

    configure() loads the model and makes the outputs, activate() subscribes and answers, deactivate() keeps the model,
    cleanup() frees it. They raise ParameterError, ModelFileError or ProviderError, each with a sentence. Takes the
    keyword arguments of rclpy's Node; raises ParameterError. destroy_node() waits for the frame in work.
    """

    # Here, because Kilted's rclpy destroys also a node whose constructor has raised.
    _loader: ModelLoader | None = None
    _worker: Worker | None = None
    _mounting: CameraMounting | None = None
    _labels: LabelInfoPublisher | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        self.values = parameters.declare(self)
        unused.warn_of_parameters(self, subscribes=True)
        self._streams = [Stream(self, topic) for topic in self.values.image_topics]
        self.add_post_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # Reentrant, because it awaits the model: in the node's own group nothing else would be called until then.
        self.create_service(Trigger, "~/reload_model", self._on_reload_model, callback_group=ReentrantCallbackGroup())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        # Not the ROS clock: with use_sim_time and no simulator it stands still, which is when a warning is needed.
        self._reported = time.monotonic()
        self.create_timer(REPORT, self._every_second, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def configure(self) -> None:
        values = self.values
        loader = ModelLoader(values.model, values.provider, values.threads, self.get_logger().info)
        segmenter = loader.load_while(self._wants_model)
        if segmenter is None or not self.context.ok():  # SIGTERM came meanwhile
            raise ExternalShutdownException
        self._mounting = CameraMounting(self, values.ground_frame)
        for stream in self._streams:
            stream.open_outputs(values.image_transport, self._mounting)
        self._labels = LabelInfoPublisher(self)
        self._loader, self._worker = loader, Worker(segmenter, values, self.context)
        self._say_what_runs(segmenter)

    def activate(self) -> None:
        assert self._worker is not None
        try:
            for stream in self._streams:
                stream.open_inputs(self.values.image_transport, self._worker.offer)
        except ParameterError:
            self.deactivate()
            raise
        unused.warn_of_qos_overrides(self)
        self._worker.start()
        for stream in self._streams:
            stream.logger.info(stream.described())

    def deactivate(self) -> None:
        for stream in self._streams:
            stream.close_inputs()
        if self._worker is not None:
            self._worker.stop()

    def cleanup(self) -> None:
        self._worker, self._loader = None, None
        for stream in self._streams:
            stream.close_outputs()
        if self._mounting is not None:
            self._mounting.close()
            self._mounting = None
        if self._labels is not None:
            self._labels.close()
            self._labels = None

    def destroy_node(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        super().destroy_node()

    def _wants_model(self) -> bool:
        """Whether to go on waiting for it. Diagnostics go on meanwhile, though no callback is called."""
        if not self.context.ok():
            return False
        if time.monotonic() - self._reported >= REPORT:
            with suppress(Exception):  # a time before 1970, or a shutdown just now: neither is the model's fault
                self._every_second()
        return True

    def _say_what_runs(self, segmenter: RoadSegmenter) -> None:
        info, log = segmenter.info, self.get_logger()
        for reason in segmenter.refused:
            log.info(f"provider auto: {reason}.")
        log.info(
            f"Model {info.name} ({info.architecture}) on {segmenter.provider} in {segmenter.precision}, threshold "
            f"{self._threshold(segmenter):.3f}; its golden answer differs by {segmenter.golden_difference} of 255. "
            f"Chosen: {self.values.model.reason(segmenter.provider)}."
        )
        if segmenter.caveat:
            log.warn(f"The masks may be wrong: {segmenter.caveat}.")
        if self._labels is not None:
            self._labels.tell(self._threshold(segmenter))

    def _threshold(self, segmenter: RoadSegmenter) -> float:
        return segmenter.info.threshold if self.values.threshold is None else self.values.threshold

    def _on_parameters(self, _changed: Any) -> None:
        self.values = parameters.read(self)
        if self._worker is not None:
            self._worker.values = self.values
            if self._labels is not None:
                self._labels.tell(self._threshold(self._worker.segmenter))

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.set_parameters([Parameter("enabled", value=request.data)])
        response.success = True
        response.message = f"enabled is {'true' if request.data else 'false'}; the node is {self.state}."
        return response

    async def _on_reload_model(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        loader, worker = self._loader, self._worker
        if loader is None or worker is None:
            response.message = f"The node is {self.state}: configure loads the model."
            return response
        loaded = Future(executor=self.executor)
        if not self._reload(loader, worker, lambda: loaded.set_result(None)):
            response.message = "The model is being loaded again already; ask once more when that is done."
            return response
        await loaded
        if worker is not self._worker:
            response.message = f"The node was cleaned up in the meantime; it is {self.state}: configure loads it."
            return response
        response.success = not loader.failure
        runs = f"The model {worker.segmenter.info.name}, SHA-256 {worker.segmenter.model_sha256[:12]}, runs now."
        response.message = loader.failure or runs
        return response

    def _reload(self, loader: ModelLoader, worker: Worker, then: Callable[[], None] = lambda: None) -> bool:
        """Begins to load the model's file again; False where that is under way already."""

        def take(segmenter: RoadSegmenter) -> None:
            if worker is self._worker:  # else the node was cleaned up meanwhile
                worker.segmenter = segmenter
                self._say_what_runs(segmenter)

        def done() -> None:
            if loader.failure and worker is self._worker:
                self.get_logger().error(loader.failure)
            then()
            if (executor := self.executor) is not None:
                executor.wake()  # a coroutine that awaits is only looked at when something else happens

        return loader.reload([stream.size for stream in self._streams if stream.size], take, done)

    def _every_second(self) -> None:
        self._reported = time.monotonic()
        loader, worker = self._loader, self._worker
        if loader is not None and worker is not None and self.values.watch_model and loader.has_changed():
            self._reload(loader, worker)
        array = DiagnosticArray(status=[diagnostics.status(self._condition(stream)) for stream in self._streams])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _condition(self, stream: Stream) -> diagnostics.Condition:
        segmenter = None if self._worker is None else self._worker.segmenter
        return diagnostics.Condition(
            name=self.get_fully_qualified_name(),
            camera=stream.condition(self.values),
            state=self.state,
            transition_failure=self.failure,
            reload_failure="" if self._loader is None else self._loader.failure,
            enabled=self.values.enabled,
            segmenter=segmenter,
            model_reason="" if segmenter is None else self.values.model.reason(segmenter.provider),
            threshold=None if segmenter is None else self._threshold(segmenter),
        )


def spin(executor: SingleThreadedExecutor, log: ThrottledLog) -> None:
    """Until the context is shut down. rclpy's own spin() ends with the first exception in any callback."""
    while rclpy.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception as error:  # noqa: BLE001 - such as a parameter of a type that does not exist
            if not rclpy.ok():
                return
            log.warn("callback", f"A request or message could not be worked on: {type(error).__name__}: {error}")


def main(args: list[str] | None = None) -> int:
    """Runs the node until Ctrl-C or SIGTERM (0); 2 when a parameter, the model or the provider is at fault."""
    program.hold_signals()
    remove_leftovers()
    mistakes = (ParameterError, ModelFileError, ProviderError, ParameterException)
    return program.carry_out(ABOUT, args, mistakes, segment)


def segment(executor: SingleThreadedExecutor) -> None:
    node = RoadSegNode()
    executor.add_node(node)
    if node.values.autostart:
        node.start()
    spin(executor, ThrottledLog(node.get_logger()))


if __name__ == "__main__":
    program.leave(main())
