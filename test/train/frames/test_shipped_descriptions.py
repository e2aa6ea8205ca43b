# SPDX-License-Identifier: Apache-2.0
"""The shipped descriptions on folders that are laid out as the data sets are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from described_folder import HEIGHT, NOT_ROAD, NOT_VALID, ROAD, WIDTH, only, stripes, write

from train.frames import description
from train.frames.check import check

VOID, IN_SIGHT = (0, 0, 0), (64, 128, 192)


@dataclass
class Layout:
    """How a data set lies on a disk, with one frame of each split.

    Attributes:
        frames: (image, ground truth) by split; of a split that is not used without ground truth.
        stripes: classes of the stripes of every mask, with the label that each has.
        palette: whether masks are pictures with a palette.
        drives: of the frames to train on.
    """

    frames: dict[str, list[tuple[str, str | None]]]
    stripes: list[tuple[Any, int]]
    drives: set[str]
    palette: bool = False
    more: list[str] = field(default_factory=list)  # files that are there besides


CITY = "aachen_000000_000019"
LAYOUTS = {
    "cityscapes": Layout(
        {
            "training": [
                (f"leftImg8bit/train/aachen/{CITY}_leftImg8bit.png", f"gtFine/train/aachen/{CITY}_gtFine_labelIds.png")
            ],
            "validation": [
                (
                    "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png",
                    "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png",
                )
            ],
            "none": [("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", None)],
        },
        [(7, ROAD), (8, NOT_ROAD), (1, NOT_VALID), (26, NOT_ROAD), (9, NOT_VALID)],
        {"aachen"},
        more=[
            f"gtFine/train/aachen/{CITY}_gtFine_{kind}" for kind in ("color.png", "instanceIds.png", "polygons.json")
        ],
    ),
    "bdd100k": Layout(
        {
            "training": [
                ("images/10k/train/0a0a0b1a-7c39d841.jpg", "labels/sem_seg/masks/train/0a0a0b1a-7c39d841.png"),
                ("images/10k/train/3d581db5-2564fb7e.jpg", "labels/sem_seg/masks/train/3d581db5-2564fb7e.png"),
            ],
            "validation": [("images/10k/val/7d2f7975-e0c1c5a7.jpg", "labels/sem_seg/masks/val/7d2f7975-e0c1c5a7.png")],
            "none": [("images/10k/test/ac6d4f42-00000000.jpg", None)],
        },
        [(0, ROAD), (1, NOT_ROAD), (255, NOT_VALID), (13, NOT_ROAD)],
        {"0a0a0b1a-7c39d841", "3d581db5-2564fb7e"},
        more=["labels/sem_seg/colormaps/train/0a0a0b1a-7c39d841.png", "labels/sem_seg/polygons/sem_seg_train.json"],
    ),
    "bdd100k_drivable": Layout(
        {
            "training": [("images/100k/train/0000f77c.jpg", "labels/drivable/masks/train/0000f77c.png")],
            "validation": [("images/100k/val/b1c66a42.jpg", "labels/drivable/masks/val/b1c66a42.png")],
            "none": [("images/100k/test/cabc30fc.jpg", None)],
        },
        [(0, ROAD), (1, ROAD), (2, NOT_ROAD)],
        {"0000f77c"},
    ),
    "mapillary": Layout(
        {
            "training": [("training/images/_-dVLC_z.jpg", "training/v1.2/labels/_-dVLC_z.png")],
            "validation": [("validation/images/0iVnM61.jpg", "validation/v1.2/labels/0iVnM61.png")],
            "none": [("testing/images/S2vjth7.jpg", None)],
        },
        [(13, ROAD), (24, ROAD), (15, NOT_ROAD), (64, NOT_VALID), (65, NOT_VALID)],
        {"_-dVLC_z"},
        palette=True,
        more=["training/v2.0/labels/_-dVLC_z.png", "training/v1.2/instances/_-dVLC_z.png", "config_v1.2.json"],
    ),
    "camvid": Layout(
        {
            "training": [
                (f"701_StillsRaw_full/{name}.png", f"LabeledApproved_full/{name}_L.png")
                for name in ("0001TP_006690", "0006R0_f00930", "0016E5_00390", "Seq05VD_f00000")
            ]
        },
        [((128, 64, 128), ROAD), ((128, 0, 192), ROAD), ((0, 0, 192), NOT_ROAD), (VOID, NOT_VALID)],
        {"0001TP", "0006R0", "0016E5", "Seq05VD"},
    ),
    "camvid_segnet": Layout(
        {
            "training": [("train/0001TP_006690.png", "trainannot/0001TP_006690.png")],
            "validation": [("val/0016E5_07959.png", "valannot/0016E5_07959.png")],
            "none": [("test/0001TP_008550.png", None)],
        },
        [(3, ROAD), (4, NOT_ROAD), (11, NOT_VALID)],
        {"0001TP"},
        more=["train.txt"],
    ),
    "idd_lite": Layout(
        {
            "training": [("leftImg8bit/train/0/024541_image.jpg", "gtFine/train/0/024541_label.png")],
            "validation": [("leftImg8bit/val/119/903127_image.jpg", "gtFine/val/119/903127_label.png")],
            "none": [("leftImg8bit/test/2/574318_image.jpg", None)],
        },
        [(0, ROAD), (1, NOT_ROAD), (255, NOT_VALID), (6, NOT_ROAD)],
        {"0"},
        more=["gtFine/train/0/024541_inst_label.png"],
    ),
    "comma10k": Layout(
        {
            "training": [("imgs/0000_0085e9e41513078a_2018-08-19--13-26-08_11_864.png", None)],
            "validation": [("imgs/0009_01f97e0d4ae1ad05_2018-06-25--15-49-11_15_59.png", None)],
        },
        [((64, 32, 32), ROAD), ((255, 0, 0), ROAD), ((128, 128, 96), NOT_ROAD), ((204, 0, 255), NOT_VALID)],
        {"0085e9e41513078a_2018-08-19--13-26-08"},
    ),
}
for split in LAYOUTS["comma10k"].frames.values():  # masks have the names of their images
    split[:] = [(image, image.replace("imgs/", "masks/")) for image, _ in split]


def lay_out(layout: Layout, folder: Path) -> None:
    mask = stripes([item for item, _ in layout.stripes])
    for image, truth in (pair for split in layout.frames.values() for pair in split):
        write(folder / image, np.full((HEIGHT, WIDTH, 3), IN_SIGHT, np.uint8))
        if truth:
            write(folder / truth, mask, layout.palette)
    for name in layout.more:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_shipped_description_reads_its_data_set(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    lay_out(layout, tmp_path)
    source = only(f"{name}:{tmp_path}")
    assert source.name == name
    found = dict(zip(("training", "validation"), source.find(), strict=True))
    for split, frames in found.items():
        assert [(frame.image, frame.ground_truth) for frame in frames] == [
            (tmp_path / image, tmp_path / str(truth)) for image, truth in layout.frames.get(split, [])
        ]
    assert {frame.drive for frame in found["training"]} == layout.drives
    expected = np.broadcast_to(stripes([label for _, label in layout.stripes]), (HEIGHT, WIDTH))
    everything = [frame for frames in found.values() for frame in frames]
    for frame in everything:
        image, labels = frame.read()
        assert np.abs(image - np.array(IN_SIGHT[::-1], float)).max() < 4  # a JPEG's colours are near
        np.testing.assert_array_equal(labels, expected)
    pixels = int((expected == ROAD).sum()), int((expected == NOT_ROAD).sum())
    assert check(everything) == dict.fromkeys(everything, pixels)


def test_each_shipped_description_is_tested() -> None:
    assert set(LAYOUTS) | {"idd", "labelme", "coco"} == {path.stem for path in description.FOLDER.glob("*.yaml")}
    for path in description.FOLDER.glob("*.yaml"):
        assert description.load(path.stem).name == path.stem


def test_indian_roads_are_polygons(tmp_path: Path) -> None:
    """As Cityscapes has them, too; later ones cover earlier ones, and what none covers is not valid."""
    objects = [
        {"label": "road", "polygon": [[0, 6], [30, 6], [30, 24], [0, 24]]},
        {"label": "car", "polygon": [[10, 10], [19, 10], [19, 19], [10, 19]]},
        {"label": "parking", "polygon": [[20, 18], [29, 18], [29, 23], [20, 23]]},
        {"label": "drivable fallback", "polygon": [[0, 2], [29, 2], [29, 5], [0, 5]]},
        {"label": "road", "polygon": [[0, 0], [29, 0], [29, 5], [0, 5]], "deleted": 1},
    ]
    for split, ending in (("train", "png"), ("train", "jpg"), ("val", "png")):
        name = f"{split}/10/{ending}"
        write(tmp_path / f"leftImg8bit/{name}_leftImg8bit.{ending}", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        truth = tmp_path / f"gtFine/{name}_gtFine_polygons.json"
        truth.parent.mkdir(parents=True, exist_ok=True)
        truth.write_text(json.dumps({"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}))
    training, validation = only(f"idd:{tmp_path}").find()
    assert (len(training), len(validation)) == (2, 1) and {frame.drive for frame in training} == {"10"}
    expected = np.full((HEIGHT, WIDTH), NOT_VALID)
    expected[2:] = ROAD
    expected[10:20, 10:20] = NOT_ROAD
    expected[18:24, 20:30] = NOT_VALID
    for frame in training:
        np.testing.assert_array_equal(frame.read()[1], expected)
