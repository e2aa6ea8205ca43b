# SPDX-License-Identifier: Apache-2.0
"""The road that a model proposes, for a person to correct: for labelme, as COCO, and painted in KITTI's colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.frames import description, polygons
from train.frames.kitti import GROUND_TRUTH_COLOURS
from train.frames.picture_file import Size
from train.frames.polygons import Shape, Shapes

ROAD, NOT_ROAD = "road", "not road"  # as the descriptions labelme and coco know them
SPECK = 1 / 2000  # of the picture: smaller areas, and holes, are left to the person
SMOOTH = 1 / 400  # of the picture's height: how far a polygon may pass beside the mask's edge
LABELME = "5.8.1"  # the version whose files these are


def shapes_of(mask: np.ndarray) -> Shapes:
    """The road of a mask, uint8 [H, W], 0 where there is none, larger areas before the smaller ones that cover them.

    A picture without road is one area that is not road: to tools that export polygons, none would mean not annotated.
    """
    height, width = mask.shape
    shapes = [(area, Shape(ROAD, (ring,))) for area, ring in _areas(mask)]
    framed = cv2.copyMakeBorder(cv2.compare(mask, 0, cv2.CMP_EQ), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    cv2.floodFill(framed, None, (0, 0), 0)  # what reaches the picture's edge is no hole
    if shapes:
        holes = np.ascontiguousarray(framed[1:-1, 1:-1])
        shapes += [(area, Shape(NOT_ROAD, (ring,))) for area, ring in _areas(holes)]
    if not shapes:
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        shapes = [(float(height * width), Shape(NOT_ROAD, (corners,)))]
    return [shape for _, shape in sorted(shapes, key=lambda item: -item[0])]


def _areas(mask: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """(area in pixels, outline as float32 [n, 2] of x and y) of what hangs together in a mask and is no speck."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    found = []
    for i, contour in enumerate(contours):
        area = cv2.contourArea(contour)
        if hierarchy[0, i, 3] < 0 and area >= SPECK * mask.size:  # else it is the edge of a hole
            ring = cv2.approxPolyDP(contour, max(1.0, SMOOTH * len(mask)), True).reshape(-1, 2)
            if len(ring) >= 3:
                found.append((area, ring.astype(np.float32) + 0.5))  # the middle of its pixels
    return found


def painted(shapes: Shapes, size: Size, path: Path) -> np.ndarray:
    """Ground truth uint8 [H, W, 3] BGR in KITTI's colours, drawn as the trainer draws polygons; `path`: theirs."""
    road = polygons.draw(shapes, size, description.load("labelme").classes, path) == 1
    truth = np.empty((*size, 3), np.uint8)
    truth[...] = GROUND_TRUTH_COLOURS["not road"]
    truth[road] = GROUND_TRUTH_COLOURS["road"]
    return truth


def as_labelme(shapes: Shapes, name: str, size: Size) -> dict[str, Any]:
    """What labelme writes beside the picture of that name."""
    return {
        "version": LABELME,
        "flags": {},
        "shapes": [
            {"label": s.name, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
            for s in shapes
            for ring in s.rings
        ],
        "imagePath": name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


class Coco:
    """A COCO file of instances, which CVAT and others import, picture by picture."""

    def __init__(self) -> None:
        self._ids = {ROAD: 1, NOT_ROAD: 2}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, shapes: Shapes, name: str, size: Size) -> None:
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": name, "height": size[0], "width": size[1]})
        for shape in shapes:
            for ring in shape.rings:
                (left, top), (right, bottom) = ring.min(0).tolist(), ring.max(0).tolist()
                self._annotations.append(
                    {
                        "id": len(self._annotations) + 1,
                        "image_id": image,
                        "category_id": self._ids[shape.name],
                        "segmentation": [ring.ravel().tolist()],
                        "area": cv2.contourArea(ring),
                        "bbox": [left, top, right - left, bottom - top],
                        "iscrowd": 0,
                    }
                )

    def content(self) -> dict[str, Any]:
        return {
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": number, "name": name} for name, number in self._ids.items()],
        }
