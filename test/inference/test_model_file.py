# SPDX-License-Identifier: Apache-2.0
"""What a model file must hold, and the sentence that each broken one gets."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from tiny_model import MODELS, TINY, edit, in_files, tiny_graph, tiny_info, write_tiny_model

from road_seg_node.inference import RoadSegmenter, model_file, onnx_bytes
from road_seg_node.inference.model_file import ModelFileError


def refusal(path: Path, provider: str = "auto") -> str:
    """Return the sentence with which the segmenter refuses the model at `path`."""
    with pytest.raises(ModelFileError) as caught:
        RoadSegmenter(path, provider)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert "export/export.py" in sentence or "give the path" in sentence
    return sentence


def write_with_metadata(path: Path, **changes: str | None) -> Path:
    """Write the tiny model with ``road_seg.`` metadata changed; None leaves an entry out."""
    entries = model_file.metadata(tiny_info())
    for key, value in changes.items():
        if value is None:
            del entries["road_seg." + key]
        else:
            entries["road_seg." + key] = value
    path.write_bytes(TINY.read_bytes() + b"".join(onnx_bytes.metadata_entry(*entry) for entry in entries.items()))
    return path


def test_golden_image_never_changes() -> None:
    image = model_file.golden_image()
    assert image.shape == (model_file.GOLDEN_HEIGHT, model_file.GOLDEN_WIDTH, 3)
    assert image.dtype == np.uint8
    # Another picture would make the golden answer of every model that was ever exported wrong.
    assert (
        hashlib.sha256(image.tobytes()).hexdigest()
        == "2c1db04a8876ab487bc7b6c24fdceb002b0e9af49fa3052571ab913517bb5c5a"
    )


def test_metadata_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = tiny_info(
        threshold=129 / 255,
        metrics={"camvid": {"road_iou": 0.9375}, "synthetic": None},
        licence="für Forschung",
        resize={"policy": "stretch", "width": 576, "height": 160},
        doubt_threshold=0.125,
    )
    model_file.write_bytes(TINY.read_bytes(), written, tmp_path / "m.onnx")
    read = RoadSegmenter(tmp_path / "m.onnx").info
    for field in dataclasses.fields(model_file.ModelInfo):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name), field.name)


@pytest.mark.needs("onnx")
def test_writing_keeps_foreign_metadata_and_replaces_its_own(tmp_path: Path) -> None:
    import onnx

    model = tiny_graph()
    onnx.helper.set_model_props(model, {"author": "somebody", "road_seg.name": "an older name"})
    model_file.write(model, tiny_info(), tmp_path / "m.onnx")
    entries = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert entries["author"] == "somebody"
    assert entries["road_seg.name"] == "tiny"
    assert model.metadata_props[1].value == "an older name"  # the caller's model is left alone


def test_a_file_is_replaced_and_never_written_over(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_tiny_model(path, name="newer")
        assert reader.read() == before
    assert RoadSegmenter(path).info.name == "newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="threshold"):
        write_tiny_model(path, threshold=1.5)
    with pytest.raises(ModelFileError, match="golden"):
        write_tiny_model(path, golden=np.zeros((10, 10), np.uint8))
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelFileError, match="cannot write"):
        write_tiny_model(tmp_path / "folder.onnx")
    with pytest.raises(ModelFileError, match="cannot write"):
        write_tiny_model(tmp_path / "no such folder" / "m.onnx")
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.onnx", "m.onnx"]


@pytest.mark.needs("onnx")
def test_another_opset_than_the_contracts_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has opset \[21\], but the contract asks for 18 to 20"):
        model_file.write(tiny_graph(opset=21), tiny_info(), tmp_path / "m.onnx")


@pytest.mark.needs("onnx")
def test_the_models_in_files_are_what_the_code_makes() -> None:
    assert in_files() == {path: path.read_bytes() for path in MODELS.iterdir()}


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("opset", model_file.OPSETS)
def test_every_opset_of_the_contract_runs(tmp_path: Path, opset: int) -> None:
    model_file.write(tiny_graph(opset=opset), tiny_info(), tmp_path / "m.onnx")
    assert RoadSegmenter(tmp_path / "m.onnx").golden_difference == 0


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "m.onnx")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file, so none can be made unreadable")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    path.chmod(0)
    with pytest.raises(ModelFileError, match="cannot be read: Permission denied"):
        RoadSegmenter(path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    assert "is empty" in refusal(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"<!DOCTYPE html>\n<html></html>\n",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"PK\x03\x04" + bytes(range(256)),
        bytes(1000),
        b"\x08\x08",
    ],
    ids=["git-lfs pointer", "web page", "picture", "archive", "zeros", "ir_version alone"],
)
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert "is not an ONNX file" in refusal(path)


def test_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_tiny_model(tmp_path / "whole.onnx").read_bytes()
    unsealed = len(whole) - len(onnx_bytes.metadata_entry("road_seg.content_sha256", "0" * 64))
    path = tmp_path / "m.onnx"
    for length in {*range(1, len(whole), 13), unsealed - 1, unsealed + 1, len(whole) - 1} - {unsealed}:
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_bytes(whole[:-1])
    assert f"cut short after {len(whole) - 1} bytes" in refusal(path)


def test_a_file_without_a_hash_is_read(tmp_path: Path) -> None:
    path = write_with_metadata(tmp_path / "m.onnx")
    assert RoadSegmenter(path, "cpu").golden_difference == 0


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_one_flipped_bit_is_found_by_the_hash(tmp_path: Path, where: float) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    data = bytearray(path.read_bytes())
    at = data.index(b"warm_thrice") if where == 0.1 else int(where * len(data))
    data[at] ^= 1
    path.write_bytes(data)
    refusal(path)


def test_a_changed_threshold_is_found_by_the_hash(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", threshold=0.25)
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75"))
    assert "is damaged, or was changed after it was exported" in refusal(path)


def test_bytes_that_only_look_like_onnx(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    edit(path, b"Gather", b"Gopher")
    sentence = refusal(path)
    assert "ONNX Runtime cannot load the model" in sentence
    assert "Gopher" in sentence


@pytest.mark.needs("onnx")
def test_external_data(tmp_path: Path) -> None:
    import onnx

    model = tiny_graph()
    onnx.helper.set_model_props(model, model_file.metadata(tiny_info()))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.weights", size_threshold=0)
    assert "External data" in refusal(path)
    with pytest.raises(ModelFileError, match="external data"):
        model_file.write(onnx.load(path, load_external_data=False), tiny_info(), tmp_path / "n.onnx")


def test_onnx_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(TINY.read_bytes())
    assert "no road_seg metadata" in refusal(path)


def test_another_contract(tmp_path: Path) -> None:
    sentence = refusal(write_with_metadata(tmp_path / "m.onnx", contract="2"))
    assert "follows contract '2' and this node reads contract '1'" in sentence


@pytest.mark.parametrize("key", sorted(set(model_file.metadata(tiny_info())) - {"road_seg.contract"}))
def test_missing_metadata(tmp_path: Path, key: str) -> None:
    path = write_with_metadata(tmp_path / "m.onnx", **{key.removeprefix("road_seg."): None})
    assert f"lacks the metadata {key}" in refusal(path)


@pytest.mark.parametrize("key", ["resize", "metrics", "versions", "threshold", "doubt_threshold", "golden"])
def test_metadata_that_is_not_json(tmp_path: Path, key: str) -> None:
    assert f"metadata road_seg.{key} that is not JSON" in refusal(
        write_with_metadata(tmp_path / "m.onnx", **{key: "{oops"})
    )


@pytest.mark.parametrize("key", ["resize", "metrics", "versions"])
def test_metadata_that_is_no_object(tmp_path: Path, key: str) -> None:
    assert f"metadata road_seg.{key} that is not a JSON object" in refusal(
        write_with_metadata(tmp_path / "m.onnx", **{key: "[1]"})
    )


@pytest.mark.parametrize("key", ["threshold", "doubt_threshold"])
@pytest.mark.parametrize("value", ["1.5", "-0.1", "NaN", "Infinity", "true", '"0.5"', "null", "[0.5]"])
def test_threshold_out_of_range(tmp_path: Path, key: str, value: str) -> None:
    sentence = refusal(write_with_metadata(tmp_path / "m.onnx", **{key: value}))
    assert f"has the {key} " in sentence and "which is not a number from 0 to 1" in sentence


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_threshold_at_the_ends_of_the_range(value: float) -> None:
    info = model_file.info_from_metadata(model_file.metadata(tiny_info(threshold=value)), "m.onnx")
    assert info.threshold == value
    assert isinstance(info.threshold, float)


def test_a_file_without_a_doubt_threshold_is_read_as_before(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    assert b"doubt" not in path.read_bytes()
    assert RoadSegmenter(path, "cpu").info.doubt_threshold is None


def packed(data: bytes, shape: list[int]) -> str:
    return json.dumps({"shape": shape, "zlib_base64": base64.b64encode(zlib.compress(data)).decode()})


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        "{}",
        "3",
        '{"shape": [96, 160], "zlib_base64": "no base64!"}',
        '{"shape": [96, 160], "zlib_base64": "AAAA"}',
        '{"shape": [96, 160], "zlib_base64": 5}',
        packed(bytes(100), [10, 10]),
        packed(bytes(96 * 160 - 1), [96, 160]),
        packed(bytes(100_000_000), [96, 160]),
    ],
    ids=["list", "object", "number", "base64", "zlib", "type", "shape", "short", "too much"],
)
def test_golden_answer_that_cannot_be_used(tmp_path: Path, value: str) -> None:
    assert "has a golden answer" in refusal(write_with_metadata(tmp_path / "m.onnx", golden=value))


@pytest.mark.parametrize("text", [b"grey is road", b"image", b"Gather"])
def test_text_that_is_not_utf8(tmp_path: Path, text: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    edit(path, text, b"\xff" + text[1:])
    refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"input_name": "pixels_in"}, "has the input pixels_in, but"),
        ({"output_name": "mask"}, "has the output mask, but"),
        ({"output_type": 6}, "output road_probability of int32"),
        ({"input_shape": ("batch", "height", "width", 4)}, "[batch, height, width, 4]"),
        ({"input_shape": ("batch", 375, 1242, 3), "output_shape": None}, "[batch, 375, 1242, 3]"),
        ({"input_shape": ("height", "width", 3), "output_shape": ("height", "width")}, "[height, width, 3]"),
        ({"input_shape": (2, "height", "width", 3), "output_shape": None}, "[2, height, width, 3]"),
    ],
)
def test_input_or_output_that_is_not_the_contracts(tmp_path: Path, changes: dict, found: str) -> None:
    path = tmp_path / "m.onnx"
    model_file.write(tiny_graph(**changes), tiny_info(), path)
    sentence = refusal(path, "cpu")
    assert found in sentence
    assert "but the contract asks for one" in sentence


@pytest.mark.needs("onnx")
@pytest.mark.needs("openvino")
def test_openvino_finds_it_too_without_names_for_what_is_free(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model_file.write(tiny_graph(input_shape=("batch", 375, 1242, 3), output_shape=None), tiny_info(), path)
    assert "has the input image of uint8 [?, 375, 1242, 3], but" in refusal(path, "openvino")


@pytest.mark.needs("onnx")
def test_batch_of_one_is_allowed(tmp_path: Path) -> None:
    model = tiny_graph(input_shape=(1, "height", "width", 3), output_shape=(1, "height", "width"))
    model_file.write(model, tiny_info(), tmp_path / "m.onnx")
    assert RoadSegmenter(tmp_path / "m.onnx").golden_difference == 0
