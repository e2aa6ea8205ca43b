# SPDX-License-Identifier: Apache-2.0
"""A harvest's folder: pictures, proposals and a contact sheet, there as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from road_seg_node.inference import road_mask
from road_seg_node.overlay import tint
from train.frames import picture_file
from train.frames.data_error import DataError
from train.picking import proposals, uncertainty

IMAGES, TRUTHS = "image_2", "gt_image_2"  # KITTI's
COCO, RECORD, SHEET = "coco.json", "harvest.json", "sheet.jpg"
TILE, COLUMNS, MOST_TILES = (320, 200), 5, 400  # of the sheet: width and height in pixels, tiles in a row and in all
MARGIN, TEXT = 16, (cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
IN_DOUBT, DOUBT = 0.7, (0, 140, 255)  # bits of entropy from which a pixel is shown, in this colour, BGR


class Harvest:
    """A folder that grows beside its place, see `harvest`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._coco = folder, proposals.Coco()
        self._tiles: dict[int, np.ndarray] = {}

    def add(self, stem: tuple[str, str], place: int, caption: str, picture: np.ndarray, answer: np.ndarray,
            threshold: float) -> str:  # fmt: skip
        """Take a frame; returns its picture's name.

        Args:
            stem: drive and number.
            place: in the order of doubt, from 0.
            picture, answer: uint8 [H, W, 3] BGR, and the model's probability uint8 [H, W].

        Raises:
            DataError: it cannot be written.
        """
        drive, number = stem
        name, size = f"{drive}_{number}.png", answer.shape
        beside = self._folder / IMAGES / f"{drive}_{number}.json"
        shapes = proposals.shapes_of(road_mask(answer, threshold))
        truth = proposals.painted(shapes, size, beside)
        self._write(f"{IMAGES}/{name}", _png(picture))
        self._write(f"{TRUTHS}/{drive}_road_{number}.png", _png(truth))
        self._write(f"{IMAGES}/{beside.name}", _json(proposals.as_labelme(shapes, name, size)))
        self._coco.add(shapes, name, size)
        if place < MOST_TILES:
            self._tiles[place] = _tile(
                picture, truth, uncertainty.entropy(answer, threshold), f"{place + 1}  {caption}"
            )
        return name

    def close(self, record: dict[str, Any]) -> None:
        """Write what is of all frames; raises DataError."""
        self._write(COCO, _json(self._coco.content()))
        self._write(SHEET, cv2.imencode(".jpg", sheet([self._tiles[i] for i in sorted(self._tiles)]))[1].tobytes())
        self._write(RECORD, _json(record))

    def _write(self, name: str, data: bytes) -> None:
        picture_file.write_whole(self._folder / name, data)


def check_free(folder: Path) -> None:
    """Raises DataError where a harvest cannot be put there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already, and not an empty folder. Name another with --out.")
    if not folder.absolute().parent.is_dir():
        raise DataError(f"There is no folder {folder.absolute().parent} to make {folder.name} in.")


@contextmanager
def harvest(folder: Path) -> Iterator[Harvest]:
    """A harvest that is in `folder` once the block has ended, and is gone where it raised.

    Raises:
        DataError: it cannot be written.
    """
    beside = folder.absolute().with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)  # of a harvest that was killed
        beside.mkdir()
        yield Harvest(beside)
        beside.replace(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles in rows: uint8 [H, W, 3] BGR."""
    width, height = TILE
    columns = min(COLUMNS, len(tiles))
    page = np.full((-(-len(tiles) // columns) * (height + MARGIN), columns * width, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + MARGIN), i % columns * width
        page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return page


def _tile(picture: np.ndarray, truth: np.ndarray, bits: np.ndarray, caption: str) -> np.ndarray:
    """The picture with the proposed road tinted and what is in doubt in orange, below its caption."""
    shown = tint(picture, truth[..., 0])
    shown[bits > IN_DOUBT] = DOUBT
    width, height = TILE
    scale = min(width / shown.shape[1], height / shown.shape[0])
    small = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:height, :width]
    tile = cv2.copyMakeBorder(small, MARGIN, 0, 0, width - small.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
    cv2.putText(tile, caption, (2, MARGIN - 5), *TEXT)
    return tile


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
