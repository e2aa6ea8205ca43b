# SPDX-License-Identifier: Apache-2.0
"""Descriptions of one's own: what they read, and what they may not say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from described_folder import HEIGHT, NOT_ROAD, NOT_VALID, ROAD, WIDTH, only, stripes, write
from kitti_folder import add_frame
from PIL import Image

from train.frames.check import check
from train.frames.data_error import DataError
from train.frames.datasets import gather
from train.frames.frame import Frame
from train.frames.sources import absolute, sources_of


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
    assert check([frame])[frame].road == HEIGHT * WIDTH // 2


def test_another_description_of_the_same_folder_is_checked_for_itself(ids: tuple[Path, Path]) -> None:
    (frame,) = frames_of(*ids)
    assert check([frame])[frame].road == HEIGHT * WIDTH // 2
    (frame,) = frames_of(*ids, road=[0], not_road=[1, 2])
    assert check([frame])[frame].road == HEIGHT * WIDTH // 2
    (frame,) = frames_of(*ids, road=[2], not_road=[0, 1])
    assert check([frame])[frame].road == 0


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
    with pytest.raises(DataError, match=r"b/masks/2\.png has no PNG or JPEG in .*mine where mine has the images"):
        frames_of(path, folder)


def test_frames_are_in_counting_order_and_endings_in_either_case(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    for name in ("10", "9"):
        write(folder / "a" / f"{name}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write(folder / "a" / "masks" / f"{name}.png", stripes([0, 1]))
        (folder / "a" / f"{name}.png").rename(folder / "a" / f"{name}.PNG")
    assert [frame.image.name for frame in frames_of(path, folder)] == ["0.png", "9.PNG", "10.PNG"]


def test_paths_are_as_the_shell_writes_them_and_numbers_may_have_a_length(ids: tuple[Path, Path]) -> None:
    changes = {"images": "./{drive}//{frame:[0-9]{1,6}}.png", "masks": "./{drive}/masks/{frame:[0-9]{1,6}}.png"}
    assert len(frames_of(*ids, **changes)) == 1


def test_ground_truth_that_is_there_twice_is_named(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    (folder / "a" / "masks" / "0.txt").touch()
    with pytest.raises(DataError, match=r"masks/0\.png and .*masks/0\.txt are ground truth of the same frame"):
        frames_of(path, folder, masks="{drive}/masks/{frame}.*")


def test_pictures_of_another_kind_are_named(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    (folder / "a" / "0.png").rename(folder / "a" / "0.bmp")
    with pytest.raises(DataError, match=r"holds no PNG or JPEG where mine has the images, .*a/0\.bmp is neither"):
        frames_of(path, folder, images="{drive}/{frame}.*")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder; run the tests as another user")
def test_a_folder_that_cannot_be_read_is_named(ids: tuple[Path, Path]) -> None:
    path, folder = ids
    (folder / "b").mkdir(mode=0)
    with pytest.raises(DataError, match=r"mine/b cannot be read"):
        frames_of(path, folder)


@pytest.fixture
def drives(ids: tuple[Path, Path]) -> str:
    """The word of a data set with two drives of three frames."""
    for name in ("a/1", "a/2", "b/0", "b/1", "b/2"):
        write(ids[1] / f"{name}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write(ids[1] / f"{name.replace('/', '/masks/')}.png", stripes([0, 1]))
    return f"{ids[0]}:{ids[1]}"


def test_splits_that_nothing_is_in_are_said(
    ids: tuple[Path, Path], drives: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames_of(*ids, training={"drive": "c"})
    with pytest.raises(DataError, match=r"mine has no frame to train on as mine has them \(training is drive c\)"):
        gather([drives], [], 0.25, 0.0, {})
    frames_of(*ids, training={"drive": "a"}, validation={"drive": ["c", "d"]})
    found = gather([drives], [], 0.25, 0.0, {})
    assert len(found.training) == 2 and "no frame to validate on" in caplog.text
    assert "validation is drive c or d); of the others a share is held out" in caplog.text


def test_no_frame_is_both_trained_and_validated_on(ids: tuple[Path, Path], drives: str) -> None:
    frames_of(*ids, training={"drive": "a"}, validation={"drive": "b"})
    other = ids[0].with_name("other.yaml")
    values = yaml.safe_load(ids[0].read_text()) | {"training": {"drive": "b"}, "validation": {"drive": "a"}}
    other.write_text(yaml.safe_dump(values))
    with pytest.raises(DataError, match=r"mine would validate on .*b/0\.png \(and 2 more\), which other --data trains"):
        gather([drives, f"{other}:{ids[1]}"], [], 0.25, 0.0, {})


def test_a_home_is_found_behind_a_colon(monkeypatch: pytest.MonkeyPatch, ids: tuple[Path, Path]) -> None:
    monkeypatch.setenv("HOME", str(ids[1].parent))
    assert only(f"{ids[0]}:~/mine").place == ids[1]


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
        ({"rest": ["not_road"]}, "rest must be one of not_road, road, not_valid, refused"),
        ({"rest": "ignored"}, "rest must be one of not_road, road, not_valid, refused"),
        ({"images": "/data/{frame}.png"}, "images must be a path in the data set's folder"),
        ({"images": "../{drive}/{frame}.png"}, "images must be a path in the data set's folder"),
        ({"masks": "masks/0.png"}, "masks must share parts"),
        ({"masks": "masks/{name}.png"}, "masks must share parts"),
        ({"masks": "masks/{frame:[0-9}.png"}, "is not a valid pattern"),
        ({"polygons": "{drive}/{frame}.json"}, "it must have one of masks, polygons, coco"),
        ({"images": "**/{frame}.png"}, "is not a valid pattern: name each folder"),
        ({"images": "{drive}\\{frame}.png"}, "is not a valid pattern: write / between folders"),
        ({"images": "{drive}/{fr-ame}.png"}, "is not a valid pattern: a part is {name} or {name:regular expression}"),
        ({"images": "{drive}/{frame.png"}, "is not a valid pattern: a part is {name}"),
        ({"drive": "{drive"}, "drive must be made of parts of images"),
        ({"drive": "{drive.name}"}, "drive must be made of parts of images"),
        ({"drive": "drive"}, "drive must be made of parts of images"),
        ({"validation": {"drive": {"a": "b"}}}, "validation must say which values of which parts"),
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
        ("cityscapes", "'cityscapes' lacks where the data set is: cityscapes:PLACE"),
        ("cityscapes:", "'cityscapes:' lacks where"),
        ("{folder}/list.yaml", r"list\.yaml' lacks where the data set is: .*list\.yaml:PLACE"),
        ("coco:{folder}", "is a folder; name the COCO file in it"),
        ("nowhere.yaml:{folder}", "There is no description nowhere.yaml"),
        ("cityscapes:{folder}/nowhere", "nowhere is not a folder, in which cityscapes has leftImg8bit/"),
        ("cityscapes:{folder}", "holds no PNG or JPEG where cityscapes has the images, as leftImg8bit/"),
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


def test_a_key_that_is_there_twice_is_named(ids: tuple[Path, Path]) -> None:
    ids[0].write_text(ids[0].read_text() + "road: [2]\n")
    with pytest.raises(DataError, match=r"mine\.yaml: road is there twice"):
        only(f"{ids[0]}:{ids[1]}")


def test_words_mean_the_same_elsewhere(ids: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ids[0].parent)
    word = absolute("mine.yaml:mine")
    assert word == f"{ids[0]}:{ids[1]}"
    assert absolute("cityscapes:mine") == f"cityscapes:{ids[1]}" and absolute("mine") == str(ids[1])
    assert len(sources_of(["mine.yaml:mine", word])) == 1


def test_a_run_gathers_data_sets_of_several_kinds(drives: str, tmp_path: Path) -> None:
    folder = tmp_path / "kitti"
    folder.mkdir()
    for number in range(4):
        add_frame(folder, f"um_{number:06}.png")
    frames = gather([str(folder), drives], [], 0.25, 0.0, {"kitti": 3.0})
    assert frames.weights == [3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0]
    assert {name: len(members) for name, members in frames.held.items()} == {"kitti": 1, "mine": 2}
