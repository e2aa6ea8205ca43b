# SPDX-License-Identifier: Apache-2.0
"""The shipped descriptions on folders that are laid out as the data sets are, and what a description may not say."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from train.frames import description
from train.frames.check import check
from train.frames.data_error import DataError
from train.frames.datasets import gather
from train.frames.frame import Frame
from train.frames.sources import Source, absolute, sources_of
from train.labels import IGNORE

HEIGHT, WIDTH = 24, 30
ROAD, NOT_ROAD, NOT_VALID = 1, 0, IGNORE
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


def write(path: Path, picture: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    if palette:
        image = Image.fromarray(picture, "P")
        image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(path)


def stripes(classes: list[Any]) -> np.ndarray:
    """A mask, uint8 [H, W] of ids or [H, W, 3] of colours, with a stripe of columns for each class."""
    values = np.array(classes, np.uint8)
    return np.broadcast_to(values[np.arange(WIDTH) * len(classes) // WIDTH], (HEIGHT, WIDTH, *values.shape[1:])).copy()


def lay_out(layout: Layout, folder: Path) -> None:
    mask = stripes([item for item, _ in layout.stripes])
    for image, truth in (pair for split in layout.frames.values() for pair in split):
        write(folder / image, np.full((HEIGHT, WIDTH, 3), IN_SIGHT, np.uint8))
        if truth:
            write(folder / truth, mask, layout.palette)
    for name in layout.more:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def only(word: str) -> Source:
    (source,) = sources_of([word])
    return source


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
    assert check(everything) == dict.fromkeys(everything, int((expected == ROAD).sum()))


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


@pytest.fixture
def ids(tmp_path: Path) -> tuple[Path, Path]:
    """A description of a data set with ids, and its folder with a frame."""
    values = {"images": "{drive}/{frame}.png", "masks": "{drive}/masks/{frame}.png", "road": [1], "not_road": [0]}
    path, folder = tmp_path / "mine.yaml", tmp_path / "mine"
    path.write_text(yaml.safe_dump(values))
    write(folder / "a" / "0.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write(folder / "a" / "masks" / "0.png", stripes([0, 1]))
    return path, folder


def frames_of(path: Path, folder: Path, **changes: Any) -> list[Frame]:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return only(f"{path}:{folder}").find()[0]


@pytest.mark.parametrize(
    ("mask", "road", "not_road"),
    [
        (stripes([0, 1]), [1], [0]),
        (stripes([0, 255]), [255], [0]),
        (stripes([False, True]).astype(bool), [1], [0]),  # one bit a pixel
        (stripes([0, 1]).astype(np.uint16) * 300, [300], [0]),
        (stripes([(0, 0, 0), (255, 255, 255)]), [255], [0]),  # grey, saved with three channels
        (stripes([(0, 0, 0, 255), (9, 9, 9, 255)]), [9], [0]),
        (stripes([(0, 0, 0), (255, 0, 255)]), ["#ff00ff"], ["#000000"]),
    ],
    ids=["0 and 1", "0 and 255", "bits", "16 bits", "grey as RGB", "RGBA", "colours"],
)
def test_masks_of_any_kind_are_read(
    ids: tuple[Path, Path], mask: np.ndarray, road: list[Any], not_road: list[Any]
) -> None:
    path = ids[1] / "a" / "masks" / "0.png"
    Image.fromarray(mask).save(path)
    (frame,) = frames_of(*ids, road=road, not_road=not_road)
    np.testing.assert_array_equal(frame.read()[1], stripes([0, 1]))
    assert check([frame]) == {frame: HEIGHT * WIDTH // 2}


def test_another_description_of_the_same_folder_is_checked_for_itself(ids: tuple[Path, Path]) -> None:
    (frame,) = frames_of(*ids)
    assert check([frame])[frame] == HEIGHT * WIDTH // 2
    (frame,) = frames_of(*ids, road=[0], not_road=[1, 2])
    assert check([frame])[frame] == HEIGHT * WIDTH // 2
    (frame,) = frames_of(*ids, road=[2], not_road=[0, 1])
    assert check([frame])[frame] == 0


@pytest.mark.parametrize(
    ("mask", "changes", "named"),
    [
        (stripes([0, 1, 7]), {}, r"0\.png has the id 7 at row 0, column 20, .*It has the id 0, the id 1"),
        (stripes([(0, 0, 0), (1, 2, 3)]), {}, "has colours, but its description has ids"),
        (stripes([0, 1])[:20], {}, r"0\.png is 30x20 pixels, but its image 0\.png is 30x24"),
        (
            stripes([(0, 0, 0), (1, 2, 3)]),
            {"road": ["#ffffff"], "not_road": ["#000000"]},
            r"0\.png has #010203 at row 0, column 15, .*It has #000000, #ffffff",
        ),
    ],
)
def test_a_mask_that_is_not_as_described_is_a_sentence(
    ids: tuple[Path, Path], mask: np.ndarray, changes: dict[str, Any], named: str
) -> None:
    write(ids[1] / "a" / "masks" / "0.png", mask)
    with pytest.raises(DataError, match=named):
        check(frames_of(*ids, **changes))


@pytest.mark.parametrize("rest", ["not_road", "not_valid", "road"])
def test_the_rest_becomes_what_is_said(ids: tuple[Path, Path], rest: str) -> None:
    write(ids[1] / "a" / "masks" / "0.png", stripes([0, 1, 7]))
    (frame,) = frames_of(*ids, rest=rest)
    labels = {"not_road": NOT_ROAD, "road": ROAD, "not_valid": NOT_VALID}
    np.testing.assert_array_equal(frame.read()[1], stripes([0, 1, labels[rest]]))


def test_what_has_no_partner_is_named(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    write(folder / "a" / "1.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"a/1\.png has no ground truth as mine has it, as \{drive\}/masks/\{frame\}\.png"
    ):
        frames_of(path, folder)
    assert len(only(f"{path}:{folder}").find(unlabelled=True)[0]) == 2
    write(folder / "a" / "masks" / "1.png", stripes([0, 1]))
    write(folder / "b" / "masks" / "2.png", stripes([0, 1]))
    with pytest.raises(DataError, match=r"b/masks/2\.png has no image in .*mine as mine has them"):
        frames_of(path, folder)


def test_frames_are_in_counting_order_and_endings_in_either_case(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    for name in ("10", "9"):
        write(folder / "a" / f"{name}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write(folder / "a" / "masks" / f"{name}.png", stripes([0, 1]))
        (folder / "a" / f"{name}.png").rename(folder / "a" / f"{name}.PNG")
    assert [frame.image.name for frame in frames_of(path, folder)] == ["0.png", "9.PNG", "10.PNG"]


def test_hidden_files_are_no_frames(ids: tuple[Path, Path]) -> None:
    """As a Mac leaves them on a disk that is not its own."""
    path, folder = ids
    (folder / "a" / "._0.png").write_bytes(b"Mac OS X")
    (folder / "a" / "masks" / "._0.png").write_bytes(b"Mac OS X")
    for name in ("@eaDir", "__MACOSX"):  # a folder for each picture, with smaller ones in it; copies
        shutil.copytree(folder / "a", folder / name)
    (folder / "a" / "masks" / "Thumbs.db").touch()
    assert len(frames_of(path, folder)) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"roads": [1]}, "unknown key.s. roads"),
        ({"road": None}, "road must be a list"),
        ({"road": []}, "road must list at least one class"),
        ({"road": [0]}, "0 is listed twice"),
        ({"road": ["#12345"]}, "'#12345' is no colour"),
        ({"road": [-1]}, "-1 is not a class"),
        ({"road": [1.5]}, "1.5 is not a class"),
        ({"road": ["#804080"]}, "classes must all be ids, all be colours, or all be names"),
        ({"road": ["road"], "not_road": ["car"]}, "classes of polygons are names"),
        ({"rest": "ignored"}, "rest must be one of not_road, road, not_valid, refused"),
        ({"images": "/data/{frame}.png"}, "images must be a path in the data set's folder"),
        ({"images": "../{drive}/{frame}.png"}, "images must be a path in the data set's folder"),
        ({"masks": "masks/0.png"}, "masks must share parts"),
        ({"masks": "masks/{name}.png"}, "masks must share parts"),
        ({"masks": "masks/{frame:[0-9}.png"}, "is not a valid pattern"),
        ({"polygons": "{drive}/{frame}.json"}, "it must have one of masks, polygons, coco"),
        ({"drive": "{city}"}, "drive must be made of parts of images"),
        ({"training": {"split": "train"}}, "training must say which values of which parts"),
        ({"validation": "val"}, "validation must say which values of which parts"),
    ],
)
def test_a_description_that_makes_no_sense_is_a_sentence(
    ids: tuple[Path, Path], changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(DataError, match=rf"mine\.yaml: .*{named}.* See docs/data\.md"):
        frames_of(*ids, **changes)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("kitti360:{folder}", "There is no description .*kitti360.yaml.* There are bdd100k, .*; or give a file"),
        ("nowhere.yaml:{folder}", "There is no description nowhere.yaml"),
        ("cityscapes:{folder}/nowhere", "nowhere is not a folder, in which cityscapes has leftImg8bit/"),
        ("cityscapes:{folder}", "holds no picture where cityscapes has them, as leftImg8bit/"),
        ("{folder}/list.yaml:{folder}", "it must hold a mapping"),
        ("{folder}/broken.yaml:{folder}", "is not YAML"),
        ("coco:{folder}/broken.yaml", "is not JSON"),
    ],
)
def test_a_word_that_names_no_data_set_is_a_sentence(word: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(DataError, match=named):
        only(word.format(folder=tmp_path)).find()


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "12:30"
    folder.mkdir()
    assert only(str(folder)).description is None
    assert absolute(str(folder)) == str(folder)


def test_words_mean_the_same_elsewhere(ids: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ids[0].parent)
    word = absolute("mine.yaml:mine")
    assert word == f"{ids[0]}:{ids[1]}"
    assert absolute("cityscapes:mine") == f"cityscapes:{ids[1]}" and absolute("mine") == str(ids[1])
    assert len(sources_of(["mine.yaml:mine", word])) == 1


def test_a_run_gathers_data_sets_of_several_kinds(ids: tuple[Path, Path], tmp_path: Path) -> None:
    lay_out(LAYOUTS["cityscapes"], tmp_path / "cityscapes")
    for i in range(1, 4):
        write(ids[1] / "a" / f"{i}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write(ids[1] / "a" / "masks" / f"{i}.png", stripes([0, 1]))
    words = [f"cityscapes:{tmp_path / 'cityscapes'}", f"{ids[0]}:{ids[1]}"]
    frames = gather(words, [], 0.25, 0.0, {"cityscapes": 3.0})
    assert frames.weights == [3.0, 1.0, 1.0, 1.0]
    assert {name: len(members) for name, members in frames.held.items()} == {"cityscapes": 1, "mine": 1}
