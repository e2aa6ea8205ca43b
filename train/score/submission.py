# SPDX-License-Identifier: Apache-2.0
"""The files of a submission to KITTI Road's server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from train.frames import picture_file
from train.frames.frame import Frame
from train.frames.picture_file import write_whole
from train.score.answers import Answers
from train.score.birdseye import BirdsEye
from train.score.tally import BIRDSEYE, PERSPECTIVE


def write(
    answers: Answers,
    frames: Iterable[Frame],
    lanes: set[Frame],
    homographies: Mapping[Frame, np.ndarray],
    folder: Path,
) -> list[Path]:
    """Write the probabilities of `frames` as 8-bit grey PNGs named as KITTI's ground truth; returns what was written.

    They go into perspective/, and those of the frames in `homographies` into birdseye/ too, 400x800 with 0 where the
    camera sees nothing. The latter are what the server ranks: they are also in submission.zip, without folders, as it
    asks for.
    """
    written, views = [], []
    for frame in frames:
        image = picture_file.read(frame.image)
        pictures = {"road": answers.road(frame, image)}
        if frame in lanes:
            pictures["lane"] = answers.lane(frame, image, pictures["road"])
        for kind, picture in pictures.items():
            name = f"{frame.drive}_{kind}_{frame.number}.png"
            written.append(_write_png(folder / PERSPECTIVE / name, picture))
            if frame in homographies:
                above = BirdsEye(homographies[frame], *picture.shape)
                views.append(_write_png(folder / BIRDSEYE / name, above.view(picture)))
    if views:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:  # PNGs do not shrink further
            for path in views:
                file.write(path, path.name)
        views.append(folder / "submission.zip")
        write_whole(views[-1], archive.getvalue())
    return written + views


def _write_png(path: Path, picture: np.ndarray) -> Path:
    write_whole(path, cv2.imencode(".png", picture)[1].tobytes())
    return path
