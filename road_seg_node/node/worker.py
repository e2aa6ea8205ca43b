# SPDX-License-Identifier: Apache-2.0
"""The thread that infers and publishes, one frame at a time: always the newest of a camera, the cameras in turn.

It is one thread of its own because inference takes tens of milliseconds to a second, in which the executor's thread has
to fetch the next images, and to answer services and parameters; ONNX Runtime and OpenVINO let other Python threads run
meanwhile. It publishes too, so that masks come in the images' order. More workers would only share the same cores.
"""

from __future__ import annotations

import threading
import time

from rclpy.context import Context
from sensor_msgs.msg import CompressedImage

from road_seg_node.inference import RoadSegmenter
from road_seg_node.inference.doubt import doubt
from road_seg_node.node.answer import Answer
from road_seg_node.node.frame_accounts import Fate
from road_seg_node.node.newest_frame import NewestFrames
from road_seg_node.node.parameters import Values
from road_seg_node.node.stream import Frame
from road_seg_node.ros.images import ImageError, decode_compressed, to_bgr

AHEAD = 1.0  # seconds by which a stamp has to be in the future before it is spoken of
HOUR = 3600.0  # a stamp older than that comes from another clock, and says nothing about transport


class Worker:
    """Answers frames from start() to stop(); `segmenter` and `values` may be exchanged meanwhile."""

    def __init__(self, segmenter: RoadSegmenter, values: Values, context: Context) -> None:
        # One reference each, read once for a frame: whoever exchanges it does so between two frames.
        self.segmenter, self.values = segmenter, values
        self._context = context
        self._newest: NewestFrames[Frame] = NewestFrames()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._newest = NewestFrames()
        self._thread = threading.Thread(target=self._work, name="inference")
        self._thread.start()

    def stop(self) -> None:
        """Waits for the frame in work; those that wait behind it are not answered any more."""
        if self._thread is None:
            return
        for frame in self._newest.close():
            frame.stream.accounts.settle(Fate.DISABLED)
        self._thread.join()
        self._thread = None

    def offer(self, frame: Frame) -> None:
        """Leaves a frame for the thread, unless it is not to be answered."""
        stream = frame.stream
        stream.accounts.receive(frame.arrival)
        if not self.values.enabled:
            stream.accounts.settle(Fate.DISABLED)
        elif stream.rate.too_soon(frame.arrival, self.values.max_rate):
            stream.accounts.settle(Fate.RATE_LIMITED)
        elif self._newest.put(stream, frame) is not None:
            stream.accounts.settle(Fate.SUPERSEDED)

    def _work(self) -> None:
        while (frame := self._newest.take()) is not None:
            try:
                fate = self._answer(frame)
            except ImageError as error:
                fate = Fate.MALFORMED
                frame.stream.log.warn(error.reason, f"{error} The node continues with the next image.")
            except Exception as error:  # noqa: BLE001 - whatever one frame does, the next one is answered
                fate = Fate.FAILED
                if self._context.ok():  # publishing fails once the context is shut down
                    named = f"The frame stamped {_stamp(frame)} s"
                    frame.stream.log.warn("inference", f"{named} was not answered: {error}", alike=str(error))
            frame.stream.accounts.settle(fate)

    def _answer(self, frame: Frame) -> Fate:
        """Infers and publishes what is listened to."""
        segmenter, values, stream, msg = self.segmenter, self.values, frame.stream, frame.msg
        assert stream.outputs is not None  # until cleanup, and before that this thread is stopped
        begun = time.monotonic()
        if self._stale(frame, begun, values.max_age):
            return Fate.STALE
        wanted = stream.outputs.wanted()
        if not wanted:
            return Fate.UNWATCHED
        info = frame.camera_info()
        bgr = decode_compressed(msg) if isinstance(msg, CompressedImage) else to_bgr(msg)
        stream.size = bgr.shape[0], bgr.shape[1]
        converted = time.monotonic()
        probability = segmenter.probability(bgr)
        inferred = time.monotonic()
        threshold = segmenter.info.threshold if values.threshold is None else values.threshold
        if info is None or info.header.stamp != msg.header.stamp:  # its own may have come meanwhile
            info = frame.camera_info()
        answer = Answer(msg.header, bgr, probability, threshold, values, info)
        stream.outputs.publish(answer, wanted)
        published = time.monotonic()
        seconds = {
            "wait": begun - frame.arrival,
            "convert": converted - begun,
            "infer": inferred - converted,
            "publish": published - inferred,
        }
        if frame.age is not None and 0 <= frame.age < HOUR:
            seconds |= {"transport": frame.age, "total": frame.age + published - frame.arrival}
        stream.accounts.took(seconds)
        stream.accounts.doubt(doubt(probability))  # after all that somebody waits for
        return Fate.ANSWERED

    def _stale(self, frame: Frame, now: float, max_age: float) -> bool:
        if not max_age or frame.age is None:
            return False
        age = frame.age + now - frame.arrival
        named = f"The frame stamped {_stamp(frame)} s"
        clocks = "do the clocks agree, is use_sim_time set where it should be?"
        if age < -AHEAD:
            sentence = f"{named} is {-age:.1f} s ahead of this node's clock, so max_age cannot judge it: {clocks}"
            frame.stream.log.warn("stamp", sentence, alike="ahead")
        elif age > max_age:
            hint = f": {clocks}" if age > HOUR else ""
            frame.stream.log.warn("stamp", f"{named} is {age:.1f} s old, so max_age leaves it out{hint}", alike="stale")
        return age > max_age


def _stamp(frame: Frame) -> str:
    stamp = frame.msg.header.stamp
    return f"{stamp.sec}.{stamp.nanosec:09}"
