# SPDX-License-Identifier: Apache-2.0
"""Polygons from the files of labelling tools, drawn into labels by OpenCV."""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.frames.classes import REFUSED, Classes
from train.frames.data_error import DataError
from train.frames.picture_file import Size

BEYOND = 0.5  # of the picture's size: how far a corner may lie outside; annotators click a little beside it
POLYGONS = ("polygon", "rotation", "quadrilateral")  # the latter two are X-AnyLabeling's
LINES = ("line", "linestrip", "point", "points")  # shapes without an area


@dataclass(frozen=True)
class Shape:
    """An area of a class: polygons, float32 [n, 2] of x and y each, whose union it is; or a mask, bool, at (x, y)."""

    name: str
    rings: tuple[np.ndarray, ...] = ()
    mask: np.ndarray | None = None
    at: tuple[int, int] = (0, 0)


Shapes = list[Shape]


def draw(shapes: Shapes, size: Size, classes: Classes, where: Path | str) -> np.ndarray:
    """Labels uint8 [H, W]; a later shape covers an earlier one. `where` they are from is for messages.

    Raises:
        DataError: a class that the description refuses, or a shape outside of the picture.
    """
    labels = np.full(size, classes.elsewhere, np.uint8)
    for shape in shapes:
        label = classes.of_name(shape.name)
        if label == REFUSED:
            raise DataError(
                f"{where} has the class '{shape.name}', which its description does not list. It has {classes.known}; "
                "list it, or say what becomes of the rest."
            )
        for ring in shape.rings:
            _check_inside(ring, size, shape.name, where)
            # Corners count from the picture's corner, OpenCV's from the middle of a pixel: the pixel they are in.
            cv2.fillPoly(labels, [np.floor(ring).astype(np.int32)], label)
        if shape.mask is not None:
            x, y = shape.at
            part = labels[y : y + shape.mask.shape[0], x : x + shape.mask.shape[1]]
            if min(x, y) < 0 or part.shape != shape.mask.shape:
                raise DataError(f"{where}: a mask of '{shape.name}' reaches beyond its picture of {size[1]}x{size[0]}.")
            part[shape.mask] = label
    return labels


def _check_inside(ring: np.ndarray, size: Size, name: str, where: Path | str) -> None:
    height, width = size
    low, high = ring.min(0), ring.max(0)
    beyond = np.maximum(-low, high - (width, height)) > (BEYOND * width, BEYOND * height)
    outside = (high < 0) | (low >= (width, height))
    if not np.isfinite(ring).all() or beyond.any() or outside.any():
        reach = f"from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g})"
        raise DataError(
            f"{where}: a polygon of '{name}' reaches {reach}, outside of its picture of {width}x{height}. Was it drawn "
            "on another one?"
        )


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises DataError."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON, or it is damaged: {error}.") from None


def read_shapes(path: Path) -> tuple[Shapes, Size | None]:
    """The shapes of one image, and the size (height, width) that it had, as labelme or Cityscapes write them.

    Raises:
        DataError: the file is neither.
    """
    content = read_json(path)
    try:
        if "shapes" in content:
            return [_of_labelme(shape) for shape in content["shapes"]], _size(content, "imageHeight", "imageWidth")
        if "objects" in content:
            kept = [one for one in content["objects"] if not one.get("deleted")]
            shapes = [Shape(str(one["label"]), (_ring(one["polygon"]),)) for one in kept]
            return shapes, _size(content, "imgHeight", "imgWidth")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not as labelme or Cityscapes write it: {_reason(error)}.") from None
    raise DataError(f"{path} has neither labelme's 'shapes' nor Cityscapes' 'objects'.")


def _of_labelme(shape: dict[str, Any]) -> Shape:
    name, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float32)
    if kind == "rectangle":  # labelme has two corners, X-AnyLabeling all four
        (left, top), (right, bottom) = points.min(0), points.max(0)
        return Shape(name, (_ring([(left, top), (right, top), (right, bottom), (left, bottom)]),))
    if kind == "circle":
        centre, edge = points
        angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
        radius = float(np.linalg.norm(edge - centre))
        return Shape(name, (_ring(centre + radius * np.column_stack([np.cos(angles), np.sin(angles)])),))
    if kind == "mask":
        png = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
        mask = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) if png.size else None
        if mask is None:
            raise ValueError(f"the mask of '{name}' is damaged")
        x, y = np.rint(points[0]).astype(int)
        return Shape(name, mask=mask > 0, at=(int(x), int(y)))
    if kind in LINES:
        return Shape(name)
    if kind not in POLYGONS:
        raise ValueError(f"'{name}' is a {kind}; draw polygons, rectangles, circles or masks")
    return Shape(name, (_ring(points),))


def read_coco(path: Path) -> tuple[dict[str, Size | None], dict[str, Shapes]]:
    """Of a COCO file with instances: the sizes (height, width) of its images by file name, and the shapes of those that
    have some.

    Raises:
        DataError: it is no such file.
    """
    content = read_json(path)
    try:
        missing = {"images", "annotations", "categories"} - set(content if isinstance(content, dict) else ())
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        names = {one["id"]: str(one["name"]) for one in content["categories"]}
        files = {one["id"]: str(one["file_name"]).replace("\\", "/") for one in content["images"]}
        # As in files that were put together without new numbers: annotations would be of another picture.
        for kind, known in (("categories", names), ("images", files), ("images", set(files.values()))):
            if len(known) < len(content[kind]):
                raise ValueError(f"two of its {kind} have the same id or the same file_name")
        sizes = {files[one["id"]]: _size(one, "height", "width") for one in content["images"]}
        shapes: dict[str, Shapes] = defaultdict(list)
        for one in content["annotations"]:
            if "segments_info" in one:
                raise ValueError("it is COCO's panoptic version; export instances")
            file, drawn = files[one["image_id"]], one.get("segmentation")
            if drawn:  # a box without a polygon says nothing of pixels
                shapes[file].append(_of_coco(names[one["category_id"]], drawn, sizes[file]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no COCO file with instances: {_reason(error)}.") from None
    return sizes, dict(shapes)


def _of_coco(name: str, segmentation: Any, size: Size | None) -> Shape:
    """Polygons as lists of x, y, x, y and so on; or a mask's runs, column by column, the first of what is not in it."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if not isinstance(counts, list):
            raise ValueError(f"a mask of '{name}' is compressed; export polygons, or masks without compression")
        if size is None or list(segmentation["size"]) != list(size) or sum(map(int, counts)) != size[0] * size[1]:
            raise ValueError(f"a mask of '{name}' has not the size of its image")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return Shape(name, mask=flat.reshape(size[1], size[0]).T)
    return Shape(name, tuple(_ring(np.reshape(ring, (-1, 2))) for ring in segmentation))


def _ring(points: Any) -> np.ndarray:
    ring = np.asarray(points, np.float32)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise ValueError("a polygon has fewer than three corners")
    return ring


def _size(content: dict[str, Any], height: str, width: str) -> Size | None:
    if content.get(height) is None or content.get(width) is None:
        return None
    return int(content[height]), int(content[width])


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
