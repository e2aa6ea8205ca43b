# SPDX-License-Identifier: Apache-2.0
"""The thread that infers and publishes, one frame at a time and always the newest.

It is one thread of its own because inference takes tens of milliseconds to a second, in which the executor's thread has
to fetch the next images, and to answer services and parameters; ONNX Runtime and OpenVINO let other Python threads run
meanwhile. It publishes too, so that masks come in the images' order. More workers would only share the same cores.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.context import Context
from sensor_msgs.msg import CameraInfo, CompressedImage

from road_seg_node.inference import RoadSegmenter
from road_seg_node.node.answer import Answer
from road_seg_node.node.frame_accounts import Fate, FrameAccounts
from road_seg_node.node.newest_frame import NewestFrame
from road_seg_node.node.outputs import Outputs
from road_seg_node.node.parameters import Values
from road_seg_node.ros.images import ImageError, decode_compressed, to_bgr
from road_seg_node.ros.throttled_log import ThrottledLog
from road_seg_node.ros.topics import ImageMessage

AHEAD = 1.0  # seconds by which a stamp has to be in the future before it is spoken of
EARLY = 0.01  # seconds by which a frame may come before max_rate's turn, since cameras are not regular
HOUR = 3600.0  # a stamp older than that comes from another clock, and says nothing about transport


@dataclass(frozen=True)
class Frame:
    """An image as it came. arrival: by time.monotonic(). age: seconds from its stamp till then, None without a stamp.

    camera_info: gives the one that belongs to it, else the newest, or None. Its own may come later than the image, and
    is not kept for ever: to be asked early and, where it had not come, late.
    """

    msg: ImageMessage
    arrival: float
    age: float | None
    camera_info: Callable[[], CameraInfo | None]


class Worker:
    """Answers frames from start() to stop(); `segmenter` and `values` may be exchanged meanwhile."""

    def __init__(
        self,
        segmenter: RoadSegmenter,
        outputs: Outputs,
        values: Values,
        accounts: FrameAccounts,
        log: ThrottledLog,
        context: Context,
    ) -> None:
        # One reference each, read once for a frame: whoever exchanges it does so between two frames.
        self.segmenter, self.values = segmenter, values
        self.size: tuple[int, int] | None = None  # of the last image: height, width
        self._outputs, self._accounts, self._log, self._context = outputs, accounts, log, context
        self._newest: NewestFrame[Frame] = NewestFrame()
        self._passed = self._due = 0.0  # when max_rate last let a frame through, and when it next does
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._newest = NewestFrame()
        self._thread = threading.Thread(target=self._work, name="inference")
        self._thread.start()

    def stop(self) -> None:
        """Waits for the frame in work; one that waits behind it is not answered any more."""
        if self._thread is None:
            return
        if self._newest.close() is not None:
            self._accounts.settle(Fate.DISABLED)
        self._thread.join()
        self._thread = None

    def offer(self, frame: Frame) -> None:
        """Leaves a frame for the thread, unless it is not to be answered."""
        self._accounts.receive(frame.arrival)
        if not self.values.enabled:
            self._accounts.settle(Fate.DISABLED)
        elif self._too_soon(frame.arrival):
            self._accounts.settle(Fate.RATE_LIMITED)
        elif self._newest.put(frame) is not None:
            self._accounts.settle(Fate.SUPERSEDED)

    def _too_soon(self, now: float) -> bool:
        if not self.values.max_rate:
            return False
        period = 1 / self.values.max_rate
        if now < min(self._due, self._passed + period) - EARLY:  # the second where max_rate was raised meanwhile
            return True
        # From when it was due rather than from now, or 20 Hz of a camera's 30 would become 15; but not for long past.
        due = self._due + period
        self._passed, self._due = now, due if due > now else now + period
        return False

    def _work(self) -> None:
        while (frame := self._newest.take()) is not None:
            try:
                fate = self._answer(frame)
            except ImageError as error:
                fate = Fate.MALFORMED
                self._log.warn(error.reason, f"{error} The node goes on with the next image.")
            except Exception as error:  # noqa: BLE001 - whatever one frame does, the next one is answered
                fate = Fate.FAILED
                if self._context.ok():  # publishing fails once the context is shut down
                    named = f"The frame stamped {_stamp(frame)} s"
                    self._log.warn("inference", f"{named} was not answered: {error}", alike=str(error))
            self._accounts.settle(fate)

    def _answer(self, frame: Frame) -> Fate:
        """Infers and publishes what is listened to."""
        segmenter, values, msg = self.segmenter, self.values, frame.msg
        begun = time.monotonic()
        if self._stale(frame, begun, values.max_age):
            return Fate.STALE
        wanted = self._outputs.wanted()
        if not wanted:
            return Fate.UNWATCHED
        info = frame.camera_info()
        bgr = decode_compressed(msg) if isinstance(msg, CompressedImage) else to_bgr(msg)
        self.size = bgr.shape[0], bgr.shape[1]
        converted = time.monotonic()
        probability = segmenter.probability(bgr)
        inferred = time.monotonic()
        threshold = segmenter.info.threshold if values.threshold is None else values.threshold
        if info is None or info.header.stamp != msg.header.stamp:  # its own may have come meanwhile
            info = frame.camera_info()
        answer = Answer(msg.header, bgr, probability, threshold, values, info)
        self._outputs.publish(answer, wanted)
        published = time.monotonic()
        seconds = {
            "wait": begun - frame.arrival,
            "convert": converted - begun,
            "infer": inferred - converted,
            "publish": published - inferred,
        }
        if frame.age is not None and 0 <= frame.age < HOUR:
            seconds |= {"transport": frame.age, "total": frame.age + published - frame.arrival}
        self._accounts.took(seconds)
        return Fate.ANSWERED

    def _stale(self, frame: Frame, now: float, max_age: float) -> bool:
        if not max_age or frame.age is None:
            return False
        age = frame.age + now - frame.arrival
        named = f"The frame stamped {_stamp(frame)} s"
        clocks = "do the clocks agree, is use_sim_time set where it should be?"
        if age < -AHEAD:
            sentence = f"{named} is {-age:.1f} s ahead of this node's clock, so max_age cannot judge it: {clocks}"
            self._log.warn("stamp", sentence, alike="ahead")
        elif age > max_age:
            hint = f": {clocks}" if age > HOUR else ""
            self._log.warn("stamp", f"{named} is {age:.1f} s old, so max_age leaves it out{hint}", alike="stale")
        return age > max_age


def _stamp(frame: Frame) -> str:
    stamp = frame.msg.header.stamp
    return f"{stamp.sec}.{stamp.nanosec:09}"
