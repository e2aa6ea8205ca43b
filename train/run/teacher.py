# SPDX-License-Identifier: Apache-2.0
"""A network whose answers another one learns, its student."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.frames.picture_file import write_whole
from train.frames.scenes import Scene
from train.frames.targets import from_truth, taught
from train.score.answers import answers_of

log = logging.getLogger("train")


class Teacher:
    """The probability that a model file (.onnx) or a checkpoint (.pt) gives for frames, answered once and kept.

    The answers lie as 8-bit PNGs of the frames' own size in `<folder>/teacher-<the teacher's SHA-256>`, so that a
    resumed run finds them, and one with another teacher does not.
    """

    def __init__(self, model: Path, share: float, folder: Path) -> None:
        """
        Args:
            model: a model file (.onnx) or a checkpoint (.pt).
            share: of its answer in the targets where ground truth is valid, 0 to 1.
            folder: of the run.

        Raises:
            DataError: there is no such file.
        """
        try:
            digest = hashlib.sha256(model.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"The teacher {model} cannot be read: {error.strerror or error}.") from None
        self.model, self.share, self.folder = model, share, folder / f"teacher-{digest[:12]}"

    def path(self, frame: Frame) -> Path:
        """Where the answer to a frame is kept."""
        folder = hashlib.sha256(os.fsencode(frame.image.parent.absolute())).hexdigest()[:8]
        return self.folder / folder / f"{frame.image.name}.png"

    def answer(self, frames: Sequence[Frame]) -> None:
        """Answer the frames that have no answer yet; not synthetic ones, whose truth is exact.

        Raises:
            DataError, ModelFileError, ProviderError: the teacher or a frame cannot be used, or no file written.
        """
        new = [frame for frame in frames if not isinstance(frame, Scene) and not self.path(frame).is_file()]
        if not new:
            return
        log.info(f"The teacher {self.model} answers {len(new)} frames.")
        answers = answers_of(self.model, None)
        for frame in tqdm(new, desc="Teacher", disable=None, leave=False):
            image, _ = frame.read()
            write_whole(self.path(frame), cv2.imencode(".png", answers.road(frame, image))[1].tobytes())

    def targets(self, frame: Frame, labels: np.ndarray) -> np.ndarray:
        """Targets uint8 [H, W] of a frame with such labels; raises DataError where its answer cannot be read."""
        if isinstance(frame, Scene):
            return from_truth(frame, labels)
        answer = cv2.imread(str(self.path(frame)), cv2.IMREAD_GRAYSCALE)
        if answer is None or answer.shape != labels.shape:
            raise DataError(f"{self.path(frame)} is damaged; delete it, and the teacher's answer is computed again.")
        return taught(labels, answer, self.share)
