# SPDX-License-Identifier: Apache-2.0
"""Where an evaluation takes its road probabilities from: a model file, a checkpoint, or pictures on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from road_seg_node.inference import RoadSegmenter
from road_seg_node.listing import either_case, listed
from train.frames.data_error import DataError
from train.frames.frame import Frame, each


class Answers(Protocol):
    """Road probabilities of frames.

    Attributes:
        title: what answers, for people.
        caveat: why its answers may be off on this machine, or empty.
        threshold: from which probability a robot would call a pixel road.
        lane_note: what its answer to the ego lane is.
    """

    title: str
    caveat: str
    threshold: float
    lane_note: str

    def check(self, frames: Iterable[Frame]) -> None:
        """Raise DataError where it is clear beforehand that a frame has no answer."""

    def has_lane(self, frames: Iterable[Frame]) -> bool:
        """Whether the ego lane of `frames`, which all have lane ground truth, can be evaluated; raises as `check`."""

    def road(self, frame: Frame, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W], round(255 P(road)), of the frame's `image`, uint8 [H, W, 3] BGR."""

    def lane(self, frame: Frame, image: np.ndarray, road: np.ndarray) -> np.ndarray:
        """The same for the ego lane; `road` is what `road` answered."""


class _Model:
    """A network knows the road alone; against the ego lane it is judged by what it takes for road."""

    caveat = ""
    lane_note = "um_lane compares the model's road with the ego lane's ground truth, since the model knows no lanes."

    def check(self, frames: Iterable[Frame]) -> None:
        pass

    def has_lane(self, frames: Iterable[Frame]) -> bool:
        return True

    def lane(self, frame: Frame, image: np.ndarray, road: np.ndarray) -> np.ndarray:
        return road


class ModelFile(_Model):
    """A model file (.onnx), run by ONNX Runtime through its contract, as a robot runs it."""

    def __init__(self, path: Path) -> None:
        self.segmenter = RoadSegmenter(path, "cpu")
        self.caveat, self.threshold = self.segmenter.caveat, self.segmenter.info.threshold
        self.title = f"{path}: {self.segmenter.info.architecture}, threshold {self.threshold:.3f}"

    def road(self, frame: Frame, image: np.ndarray) -> np.ndarray:
        return self.segmenter.probability(image)


class Checkpoint(_Model):
    """A checkpoint of the trainer (.pt), run by PyTorch on the CPU, bytes to bytes as the model file does it."""

    def __init__(self, path: Path) -> None:
        try:
            import torch  # only here, so that a model file is evaluated without it
        except ImportError as error:
            raise DataError(f"{path} is a checkpoint, which needs PyTorch ({error}). Run `make setup`.") from None

        from train.network.checkpoint import CheckpointError, load_checkpoint, network_of
        from train.network.contract import RoadProbability

        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            raise DataError(str(error)) from None
        self.torch = torch
        self.module = RoadProbability(network_of(state), state["preset"]["resize"]).eval()
        self.threshold = float(state["metrics"]["threshold"])
        self.title = f"{path}: {self.module.network.architecture}, threshold {self.threshold:.3f}"

    def road(self, frame: Frame, image: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            answer: np.ndarray = self.module(self.torch.from_numpy(image)[None])[0].numpy()
        return answer


class Predictions:
    """A folder of 8-bit grey PNGs named as KITTI's ground truth: um_road_000000.png, and um_lane_000000.png if any."""

    caveat = ""
    lane_note = "um_lane compares the um_lane_*.png predictions with the ego lane's ground truth."

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder. Give a folder with predictions such as um_road_000000.png.")
        self.folder, self.threshold = folder, 0.5
        self.title = f"{folder}: predictions, threshold {self.threshold:.3f}"

    def _path(self, frame: Frame, kind: str) -> Path:
        return either_case(self.folder / f"{frame.drive}_{kind}_{frame.number}.png")

    def check(self, frames: Iterable[Frame]) -> None:
        def has_prediction(frame: Frame) -> None:
            if not self._path(frame, "road").is_file():
                raise DataError(f"{frame.image} has no prediction: {self._path(frame, 'road')} is missing.")

        each(frames, has_prediction)

    def has_lane(self, frames: Iterable[Frame]) -> bool:
        missing = [path for frame in frames if not (path := self._path(frame, "lane")).is_file()]
        if missing and any("_lane_" in path.name for path in listed(self.folder, (".png",))):
            raise DataError(
                f"{missing[0]} is missing ({len(missing)} such file(s)), though other lane predictions are there. "
                "Predict the ego lane of every frame that has lane ground truth, or of none."
            )
        return not missing

    def road(self, frame: Frame, image: np.ndarray) -> np.ndarray:
        return self._read(frame, image, "road")

    def lane(self, frame: Frame, image: np.ndarray, road: np.ndarray) -> np.ndarray:
        return self._read(frame, image, "lane")

    def _read(self, frame: Frame, image: np.ndarray, kind: str) -> np.ndarray:
        path = self._path(frame, kind)
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if picture is None:
            raise DataError(f"{path} is not a PNG picture, or it is damaged; predict it again.")
        if picture.dtype != np.uint8 or picture.ndim != 2:
            raise DataError(
                f"{path} is not an 8-bit grey picture; write the road's probability as one byte a pixel, 0 to 255."
            )
        if picture.shape != image.shape[:2]:
            raise DataError(
                f"{path} is {picture.shape[1]}x{picture.shape[0]} pixels, but its image {frame.image.name} is "
                f"{image.shape[1]}x{image.shape[0]}; a prediction must have its image's size, in the picture's own "
                "perspective."
            )
        return picture


def answers_of(model: Path | None, predictions: Path | None) -> Answers:
    """The answers of a model file, a checkpoint (.pt) or a folder of predictions.

    Raises:
        DataError, ModelFileError, ProviderError: it cannot be opened.
    """
    if model is None:
        assert predictions is not None
        return Predictions(predictions)
    return Checkpoint(model) if model.suffix == ".pt" else ModelFile(model)
