# SPDX-License-Identifier: Apache-2.0
"""What labelling tools export: labelme's files beside pictures, and COCO's one file for all."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from train.frames.check import check
from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.frames.sources import sources_of

HEIGHT, WIDTH = 24, 32
SQUARE = [[4.0, 8.0], [11.5, 8.0], [11.5, 15.5], [4.0, 15.5]]  # the pixels 4 to 11 across, 8 to 15 down
INSIDE = (slice(8, 16), slice(4, 12))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return path


def labelme(path: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    """A picture and what labelme 5 writes beside it."""
    picture(path)
    content = {"version": "5.8.1", "flags": {}, "shapes": shapes, "imagePath": path.name, "imageData": None}
    content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    path.with_suffix(".json").write_text(json.dumps(content | changes))
    return path.parent


def shape(label: str, points: Any = SQUARE, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def frames(word: str) -> list[Frame]:
    (source,) = sources_of([word])
    return source.find()[0]


def labels(word: str) -> np.ndarray:
    (frame,) = frames(word)
    return frame.read()[1]


def mask_of(array: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", array.astype(np.uint8))[1].tobytes()).decode()


@pytest.mark.parametrize(
    "road",
    [
        shape("road"),
        shape("Road "),
        {"label": "road", "points": SQUARE},  # as labelme 3 wrote it
        shape("road", [[11.5, 15.5], [4.0, 8.0]], "rectangle"),
        shape("road", SQUARE, "rectangle"),
        shape("road", SQUARE, "rotation", direction=0.0),
        shape("road", [[4.0, 8.0], [11.0, 15.0]], "mask", mask=mask_of(np.ones((8, 8)))),
    ],
    ids=["polygon", "capitals", "labelme 3", "rectangle", "X-AnyLabeling's rectangle", "turned", "mask"],
)
def test_labelmes_shapes_are_drawn(road: dict[str, Any], tmp_path: Path) -> None:
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[INSIDE] = 1
    np.testing.assert_array_equal(labels(f"labelme:{labelme(tmp_path / 'um_000000.png', road)}"), expected)


def test_a_circle_and_what_has_no_area(tmp_path: Path) -> None:
    circle = shape("road", [[16, 12], [16, 20]], "circle")
    rest = [shape("road", SQUARE[:2], "line"), shape("road", SQUARE[:1], "point"), shape("road", SQUARE, "linestrip")]
    found = labels(f"labelme:{labelme(tmp_path / '0.png', circle, *rest)}")
    assert found.sum() == pytest.approx(np.pi * 8**2, rel=0.15)  # with the pixels on its edge
    assert found[12, 9:23].all() and not found[12, :7].any()


def test_later_shapes_cover_earlier_ones(tmp_path: Path) -> None:
    road = shape("road", [[0, 0], [31, 0], [31, 23], [0, 23]])
    ignored = shape("ignore", [[20, 0], [31, 0], [31, 9]])
    found = labels(f"labelme:{labelme(tmp_path / '0.png', road, shape('car'), ignored)}")
    assert not found[INSIDE].any() and found[3, 30] == 255 and found[20, 20] == 1


def test_pictures_that_are_not_annotated_yet_are_left_out(tmp_path: Path) -> None:
    labelme(tmp_path / "um_000000.png", shape("road"))
    picture(tmp_path / "um_000001.png")
    assert [frame.image.name for frame in frames(f"labelme:{tmp_path}")] == ["um_000000.png"]


@pytest.mark.parametrize(
    ("shapes", "changes", "named"),
    [
        ([shape("road", [[40, 0], [50, 0], [50, 9]])], {}, r"'road' reaches from \(40, 0\) to \(50, 9\), outside"),
        ([shape("road", [[0, 0], [900, 0], [900, 9]])], {}, "outside of its picture of 32x24. Was it drawn on another"),
        ([shape("road", [[0, 0], [float("nan"), 0], [9, 9]])], {}, "outside of its picture"),
        ([shape("road", SQUARE[:2])], {}, "fewer than three corners"),
        ([shape("road", SQUARE, "cuboid")], {}, "'road' is a cuboid; draw polygons"),
        ([shape("road", [[30, 20]], "mask", mask=mask_of(np.ones((8, 8))))], {}, "a mask of 'road' reaches beyond"),
        ([shape("road", [[0, 0]], "mask", mask="AAAA")], {}, "the mask of 'road' is damaged"),
        ([{"points": SQUARE}], {}, "not as labelme or Cityscapes write it: 'label' is missing"),
        ([], {"shapes": 7}, "not as labelme or Cityscapes write it"),
        ([], {"imageHeight": 48, "imageWidth": 64}, r"0\.json is 64x48 pixels, but its image 0\.png is 32x24"),
    ],
)
def test_what_is_wrong_with_labelmes_file_is_a_sentence(
    shapes: list[dict[str, Any]], changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=named) as raised:
        check(frames(f"labelme:{labelme(tmp_path / '0.png', *shapes, **changes)}"))
    assert str(tmp_path / "0.json") in str(raised.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "has neither labelme's 'shapes' nor Cityscapes' 'objects'"),
        ("[]", "has neither labelme's"),
        ("7", "not as labelme or Cityscapes write it"),
        ('{"shapes": [', "is not JSON, or it is damaged"),
    ],
)
def test_a_file_of_another_kind_is_a_sentence(text: str, named: str, tmp_path: Path) -> None:
    labelme(tmp_path / "0.png")
    (tmp_path / "0.json").write_text(text)
    with pytest.raises(DataError, match=named):
        check(frames(f"labelme:{tmp_path}"))


def test_polygons_without_a_picture_are_named(tmp_path: Path) -> None:
    labelme(tmp_path / "0.png", shape("road"))
    labelme(tmp_path / "1.png", shape("road"))
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.json has no PNG or JPEG"):
        frames(f"labelme:{tmp_path}")


def coco(path: Path, *annotations: dict[str, Any], file: str = "um_000000.png", **changes: Any) -> Path:
    """A COCO file of one picture, of whose annotations the ids are added."""
    content: dict[str, Any] = {
        "info": {},
        "licenses": [],
        "images": [{"id": 7, "file_name": file, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 0, "name": "none"}, {"id": 1, "name": "Road"}, {"id": 2, "name": "car"}],
        "annotations": [{"id": i, "image_id": 7, "iscrowd": 0, **one} for i, one in enumerate(annotations)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
    return path


IMAGE = {"id": 7, "file_name": "um_000000.png", "height": HEIGHT, "width": WIDTH}
ROAD = {"image_id": 7, "category_id": 1}
FLAT = [value for point in SQUARE for value in point]
SQUARE_AS_RUNS = [4 * HEIGHT + 8, *([8, 16] * 7), 8, HEIGHT * WIDTH - 11 * HEIGHT - 16]


@pytest.mark.parametrize(
    "segmentation",
    [[FLAT], [FLAT, FLAT], {"counts": SQUARE_AS_RUNS, "size": [HEIGHT, WIDTH]}],
    ids=["polygon", "two that overlap", "runs"],
)
def test_cocos_instances_are_drawn(segmentation: Any, tmp_path: Path) -> None:
    """Two polygons of one instance are both of it, and no hole."""
    picture(tmp_path / "um_000000.png")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[INSIDE] = 1
    path = coco(tmp_path / "result.json", {"category_id": 1, "segmentation": segmentation})
    np.testing.assert_array_equal(labels(f"coco:{path}"), expected)


def test_a_picture_is_not_taken_for_two(tmp_path: Path) -> None:
    """Of a file that names pictures in folders, whose pictures lie in one."""
    picture(tmp_path / "um_000000.png")
    images = [IMAGE | {"id": i, "file_name": f"{i}/um_000000.png"} for i in (1, 2)]
    roads = [{"category_id": 1, "image_id": i, "segmentation": [FLAT]} for i in (1, 2)]
    with pytest.raises(DataError, match=r"names 1/um_000000\.png and 2/um_000000\.png, but of both there is only"):
        frames(f"coco:{coco(tmp_path / 'a.json', *roads, images=images)}")


@pytest.mark.parametrize(
    ("path", "image", "name"),
    [
        ("annotations/instances_default.json", "images/um_000000.png", "um_000000.png"),
        ("annotations/instances_train.json", "images/train/um_000000.png", "um_000000.png"),
        ("annotations/instances_train2017.json", "train2017/um_000000.png", "um_000000.png"),
        ("result.json", "images/um_000000.png", "images\\um_000000.png"),
        ("result.json", "images/um_000000.png", "../../label-studio/data/media/upload/1/um_000000.png"),
        ("train/_annotations.coco.json", "train/um_000000_png.rf.9f2c1.jpg", "um_000000_png.rf.9f2c1.jpg"),
    ],
    ids=["CVAT", "CVAT with subsets", "COCO", "Label Studio", "Label Studio's uploads", "Roboflow"],
)
def test_cocos_pictures_are_found_where_tools_put_them(path: str, image: str, name: str, tmp_path: Path) -> None:
    picture(tmp_path / image)
    file = coco(tmp_path / path, {"category_id": 1, "segmentation": [FLAT]}, file=name)
    (frame,) = frames(f"coco:{file}")
    assert frame.image == tmp_path / image and frame.drive == "um"
    assert check([frame])[frame].road == 64


def test_cocos_boxes_and_pictures_without_annotations(tmp_path: Path) -> None:
    picture(tmp_path / "a_1.png")
    images = [{"id": i, "file_name": f"a_{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    box, other = ({"category_id": 2, "image_id": i, "segmentation": [], "bbox": [0, 0, 9, 9]} for i in (1, 3))
    road = {"category_id": 1, "image_id": 1, "segmentation": [FLAT]}
    images.append({"id": 3, "file_name": "only_a_box.png", "height": None, "width": None})
    (frame,) = frames(f"coco:{coco(tmp_path / 'a.json', box, road, other, images=images)}")
    assert check([frame])[frame].road == 64


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"annotations": []}, "has no polygon or mask in any of its 1 images"),
        ({"images": None}, "is no COCO file with instances"),
        ({"images": 2 * [IMAGE]}, "two of its images have the same id"),
        ({"images": [IMAGE, IMAGE | {"id": 8}]}, "two of its images have the same id or the same file_name"),
        ({"categories": 2 * [{"id": 1, "name": "road"}]}, "two of its categories have the same id"),
        ({"categories": [{"id": 1, "name": "Asphalt"}]}, "has the classes Asphalt, none of which coco calls road"),
        (
            {"annotations": [ROAD | {"segmentation": {"counts": [10**15], "size": [HEIGHT, WIDTH]}}]},
            "has not the size of its image",
        ),
        ({"annotations": [{"image_id": 7, "segments_info": []}]}, "it is COCO's panoptic version; export instances"),
        ({"annotations": [{"image_id": 8, "category_id": 1, "segmentation": [FLAT]}]}, "8 is missing"),
        ({"annotations": [{"image_id": 7, "category_id": 9, "segmentation": [FLAT]}]}, "9 is missing"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "segmentation": [FLAT[:-1]]}]}, "is no COCO file"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "segmentation": {"counts": "abc"}}]}, "is compressed"),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "segmentation": {"counts": [9], "size": [3, 3]}}]},
            "has not the size of its image",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "segmentation": [[99.0, 0, 99, 9, 90, 9]]}]},
            "outside of its picture",
        ),
        (
            {"images": [{"id": 7, "file_name": "elsewhere.png", "height": HEIGHT, "width": WIDTH}]},
            "names the picture elsewhere.png, which is in none of",
        ),
        (
            {"images": [{"id": 7, "file_name": "um_000000.png", "height": 9, "width": 9}]},
            "is 9x9 pixels, but its image um_000000.png is 32x24",
        ),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_a_sentence(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    picture(tmp_path / "um_000000.png")
    path = coco(tmp_path / "a.json", {"category_id": 1, "segmentation": [FLAT]}, **changes)
    with pytest.raises(DataError, match=named) as raised:
        check(frames(f"coco:{path}"))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["{}", "[]", "7", '{"images": [', '{"annotation": {"filename": "a.jpg"}}'])
def test_a_file_that_is_not_cocos_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json is (no COCO file|not JSON)"):
        frames(f"coco:{tmp_path / 'a.json'}")
