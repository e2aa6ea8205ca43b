# SPDX-License-Identifier: Apache-2.0
"""The frames of data sets that a description describes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from road_seg_node.listing import PICTURES, counted
from train.frames import picture_file, polygons
from train.frames.data_error import DataError
from train.frames.description import FOLDER as DESCRIPTIONS
from train.frames.description import Description
from train.frames.frame import Frame, Unlabelled, each
from train.frames.picture_file import Size
from train.frames.polygons import Shapes

# What stands before an image's number; Roboflow puts what is its own behind the name.
DRIVE, ROBOFLOW = re.compile(r"(.*?)[-_ .]*\d*"), re.compile(r"_(png|jpe?g)\.rf\..*")

log = logging.getLogger("train")


@dataclass(frozen=True)
class DescribedFrame(Frame):
    """A frame whose mask has ids or colours."""

    description: Description

    @property
    def reading(self) -> str:
        return self.description.digest

    @property
    def road_classes(self) -> str:
        return self.description.classes.road

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        classes = self.description.classes
        if classes.kind is int:
            mask = picture_file.ids(ground_truth)
            labels = classes.of_ids(mask, ground_truth)
        else:
            mask = picture_file.colours(ground_truth)
            labels = classes.of_colours(mask, ground_truth)
        self.check_size(ground_truth, mask.shape[:2], size)
        return labels


@dataclass(frozen=True)
class PolygonFrame(DescribedFrame):
    """A frame with a JSON file of polygons."""

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        shapes, drawn_on = polygons.read_shapes(ground_truth)
        if drawn_on is not None:
            self.check_size(ground_truth, drawn_on, size)
        return polygons.draw(shapes, size, self.description.classes, str(ground_truth))


@dataclass(frozen=True)
class CocoFrame(DescribedFrame):
    """A frame of a COCO file, `ground_truth`, whose polygons were read from it already."""

    shapes: Shapes = field(compare=False)
    drawn_on: Size | None

    def labels(self, ground_truth: Path, size: Size, strict: bool = True) -> np.ndarray:
        if self.drawn_on is not None:
            self.check_size(ground_truth, self.drawn_on, size)
        where = f"{ground_truth}, {self.image.name}"
        return polygons.draw(self.shapes, size, self.description.classes, where)


def find_described(description: Description, place: Path, unlabelled: bool) -> tuple[list[Frame], list[Frame]]:
    """(to train on, to validate on) of a folder, or of a COCO file; none of the latter where nothing is said of them.

    Args:
        unlabelled: take images without ground truth too, as Unlabelled.

    Raises:
        DataError: there are no frames, images lack their masks, or the reverse.
    """
    if description.kind == "coco":
        return _of_coco(description, place), []
    assert description.images and description.truths
    if not os.path.isdir(place):
        raise DataError(f"{place} is not a folder, in which {description.name} has {description.images.text}.")
    shared = description.truths.names
    truths: dict[tuple[str, ...], Path] = {}
    for parts, truth in description.truths.find(place):
        key = tuple(parts[name] for name in shared)
        if key in truths:
            raise DataError(f"{truths[key]} and {truth} are ground truth of the same frame; remove one of them.")
        truths[key] = truth
    images: dict[tuple[str, ...], Path] = {}
    found: dict[str, list[Frame]] = {"training": [], "validation": []}
    bare, other = [], []
    for parts, image in description.images.find(place):
        if image.suffix.lower() not in PICTURES:
            other.append(image)
            continue
        key = tuple(parts[name] for name in shared)
        if key in images:
            raise DataError(f"{images[key]} and {image} are the same frame; remove one of them.")
        images[key] = image
        split = description.split_of(parts)
        if split is None:
            continue
        drive = description.drive.format(**parts) if description.drive else drive_of(image)
        names = (place, drive, image.stem, image)
        if key in truths:
            kind = PolygonFrame if description.kind == "polygons" else DescribedFrame
            found[split].append(kind(*names, truths[key], description))
        elif unlabelled:
            found[split].append(Unlabelled(*names, place))
        else:
            bare.append(image)
    if not images:
        such = f"; {other[0]} is neither" if other else ""
        raise DataError(
            f"{place} holds no PNG or JPEG where {description.name} has the images, as {description.images.text}{such}."
        )
    _check_pairs(description, place, bare, [truths[key] for key in sorted(truths.keys() - images.keys())])
    return found["training"], found["validation"]


def _check_pairs(description: Description, place: Path, bare: list[Path], orphans: list[Path]) -> None:
    """Raises DataError where images have no ground truth, or the reverse; with polygons, they are not annotated yet."""
    assert description.images and description.truths

    def refuse_bare(image: Path) -> None:
        raise DataError(f"{image} has no ground truth as {description.name} has it, as {description.truths.text}.")

    def refuse_orphan(truth: Path) -> None:
        raise DataError(
            f"{truth} has no PNG or JPEG in {place} where {description.name} has the images, as "
            f"{description.images.text}."
        )

    if description.kind == "polygons" and bare:
        log.warning("%s: %d pictures without polygons are left out, such as %s.", place, len(bare), bare[0])
    else:
        each(bare, refuse_bare)
    each(orphans, refuse_orphan)


def _of_coco(description: Description, file: Path) -> list[Frame]:
    """The frames of a COCO file, whose pictures lie where labelling tools put them."""
    if os.path.isdir(file):
        raise DataError(f"{file} is a folder; name the COCO file in it.")
    sizes, shapes = polygons.read_coco(file)
    annotated = [name for name in sizes if name in shapes]
    if not annotated:
        raise DataError(f"{file} has no polygon or mask in any of its {len(sizes)} images.")
    classes = {shape.name for name in annotated for shape in shapes[name]}
    if not any(description.classes.of_name(name) == 1 for name in classes):
        raise DataError(
            f"{file} has the classes {', '.join(sorted(classes))}, none of which {description.name} calls road. Copy "
            f"{DESCRIPTIONS / 'coco.yaml'}, name yours there, and give it as --data mine.yaml:{file}."
        )
    if len(annotated) < len(sizes):
        log.warning("%s: %d pictures without polygons and masks are left out.", file, len(sizes) - len(annotated))
    parent = file.absolute().parent
    split = file.stem.rpartition("_")[2]  # of instances_train.json
    folders = (
        parent,
        parent / "images",
        parent / "image_2",  # of a harvest
        parent.parent / "images",
        parent.parent / "images" / split,
        parent.parent / split,
    )
    images = {name: _first_file(name, (*folders, parent.parent)) for name in annotated}
    names: dict[Path, str] = {}
    for name, found in images.items():
        if found is not None and names.setdefault(found, name) != name:
            raise DataError(f"{file} names {names[found]} and {name}, but of both there is only {found}.")

    def frame_of(name: str) -> Frame:
        image = images[name]
        if image is None:
            raise DataError(f"{file} names the picture {name}, which is in none of {', '.join(map(str, folders))}.")
        drive = drive_of(Path(name))
        return CocoFrame(parent, drive, image.stem, image, file, description, shapes[name], sizes[name])

    return each(sorted(annotated, key=lambda name: (Path(name).parent, counted(Path(name)))), frame_of)


def _first_file(name: str, folders: Iterable[Path]) -> Path | None:
    """The picture of that name, or of its last part, in the first folder that has it."""
    for folder in folders:
        for path in (folder / name, folder / Path(name).name):
            if os.path.isfile(path):
                return path
    return None


def drive_of(image: Path) -> str:
    """What stands before the number in a picture's name; the folder's name where nothing does."""
    drive = DRIVE.fullmatch(ROBOFLOW.sub("", image.stem))
    return (drive[1] if drive else "") or image.parent.name
