# SPDX-License-Identifier: Apache-2.0
"""The model file, contract 1: what trainer, exporter and node agree on; nothing else passes between them.

One ONNX file, without external data, opset 18 to 20:

* input ``image``: uint8 [batch, height, width, 3], BGR, the camera's own size; height and width are free;
* output ``road_probability``: uint8 [batch, height, width], round(255 * P(road)), at the input's size;
* output ``road_seg.mean``, which may be missing: float, the mean of what is cast to bytes for that answer; it is
  finite where every pixel is, which the bytes do not show;
* metadata ``road_seg.*``: everything else a robot needs to know, see :class:`ModelInfo`.

Resizing, normalisation and softmax are inside the graph. The file ends with its own SHA-256, as the metadata entry
``road_seg.content_sha256``; a file without it is read as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from road_seg_node.inference import onnx_bytes

if TYPE_CHECKING:
    import onnx

CONTRACT = "1"
OPSETS = range(18, 21)
INPUT_NAME = "image"
OUTPUT_NAME = "road_probability"
MEAN_NAME = "road_seg.mean"
GOLDEN_HEIGHT = 96
GOLDEN_WIDTH = 160

LARGEST = 2**31 - 1  # bytes: protobuf's limit

_PREFIX = "road_seg."
_PRECISION_KEY, _HASH_KEY = _PREFIX + "precision", _PREFIX + "content_sha256"
_TEXTS = ("name", "architecture", "dataset", "licence", "checkpoint_sha256")
_OBJECTS = ("resize", "metrics", "versions")
_REMEDY = "export it again with export/export.py"


Tensor = tuple[str, str, Sequence[int | str | None]]  # of a graph: name, type such as "uint8", sizes


class ModelFileError(ValueError):
    """The model file cannot be used; the message is a sentence that names the file and what to do."""


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        name: for people, e.g. ``road_seg_compact``.
        architecture: the network, e.g. ``VGGFCN8 width 0.5``.
        resize: how the graph resizes, ``{"policy": "stretch" | "keep_aspect" | "keep_area", ...}``.
        threshold: road where probability / 255 >= threshold; a fraction 0..1, the best on validation.
        metrics: figures by data set; of an int8 file also how many bits its weights have, as `weight_bits`.
        dataset: what it was trained on.
        licence: the licence of the weights.
        checkpoint_sha256: of the checkpoint it was exported from.
        versions: of the software that made it, by package.
        golden: uint8 [GOLDEN_HEIGHT, GOLDEN_WIDTH], what the exporter's network answers on `golden_image`.
        doubt_threshold: above which `doubt.doubt` says that a scene is unlike what it was trained on, 0 to 1; None
            where nobody has measured it.
    """

    name: str
    architecture: str
    resize: dict[str, Any]
    threshold: float
    metrics: dict[str, Any]
    dataset: str
    licence: str
    checkpoint_sha256: str
    versions: dict[str, str]
    golden: np.ndarray
    doubt_threshold: float | None = None


def golden_image() -> np.ndarray:
    """Return uint8 [GOLDEN_HEIGHT, GOLDEN_WIDTH, 3], BGR: a grey road between verges, below a sky.

    Integer arithmetic alone makes it, so it is the same bytes on every machine. It is part of the contract:
    another picture would make every golden answer wrong.
    """
    y, x = np.mgrid[0:GOLDEN_HEIGHT, 0:GOLDEN_WIDTH].astype(np.int64)
    horizon = 36
    depth = np.maximum(y - horizon, 0)
    noise = ((x * 7919 + y * 104729 + x * y * 31 + (x // 5) * (y // 3) * 1009) % 2027) * 24 // 2027 - 12

    sky = np.stack([235 - y, 205 - y, 170 - y], axis=-1)
    verge = np.stack([50 + depth // 4, 100 + depth // 2, 70 + (x % 23)], axis=-1)
    road = np.stack([96 + depth // 3, 94 + depth // 3, 92 + depth // 3], axis=-1)
    mark = np.full_like(road, 215)

    from_centre = np.abs(x - 80 - depth * depth // 240)  # a slight bend to the right
    half_width = 4 + depth * 11 // 10
    on_edge_mark = np.abs(from_centre - half_width * 9 // 10) * 24 <= half_width
    on_centre_mark = (from_centre * 20 <= half_width) & (depth // 7 % 2 == 0)

    picture = np.where((y < horizon)[..., None], sky, verge)
    on_road = (y >= horizon) & (from_centre <= half_width)
    picture = np.where(on_road[..., None], road, picture)
    picture = np.where((on_road & (on_edge_mark | on_centre_mark))[..., None], mark, picture)
    return np.clip(picture + noise[..., None], 0, 255).astype(np.uint8)


def metadata(info: ModelInfo) -> dict[str, str]:
    """Return the ``road_seg.*`` metadata of a model file; raises ModelFileError on values out of range."""
    golden = np.asarray(info.golden)
    if golden.dtype != np.uint8 or golden.shape != (GOLDEN_HEIGHT, GOLDEN_WIDTH):
        raise ModelFileError(
            f"the golden answer of {info.name} must be uint8 [{GOLDEN_HEIGHT}, {GOLDEN_WIDTH}], "
            f"not {golden.dtype} {list(golden.shape)}"
        )
    entries = {"contract": CONTRACT, "threshold": json.dumps(info.threshold)}
    entries |= {key: getattr(info, key) for key in _TEXTS}
    entries |= {key: json.dumps(getattr(info, key), sort_keys=True) for key in _OBJECTS}
    if info.doubt_threshold is not None:
        entries["doubt_threshold"] = json.dumps(info.doubt_threshold)
    entries["golden"] = json.dumps(
        {
            "shape": list(golden.shape),
            "zlib_base64": base64.b64encode(zlib.compress(golden.tobytes(), 9)).decode("ascii"),
        }
    )
    result = {_PREFIX + key: value for key, value in entries.items()}
    info_from_metadata(result, info.name)  # nothing is written that cannot be read
    return result


def info_from_metadata(mapping: Mapping[str, str], where: str) -> ModelInfo:
    """Read ModelInfo from a model's metadata; `where` names the file in the ModelFileError's sentence."""
    contract = mapping.get(_PREFIX + "contract")
    if contract is None:
        raise ModelFileError(
            f"the model {where} has no road_seg metadata, so it does not follow the model contract: {_REMEDY}"
        )
    if contract != CONTRACT:
        raise ModelFileError(
            f"the model {where} follows contract {contract!r} and this node reads contract {CONTRACT!r}: "
            f"{_REMEDY} of the same release as the node"
        )

    def text(key: str) -> str:
        value = mapping.get(_PREFIX + key)
        if value is None:
            raise ModelFileError(f"the model {where} lacks the metadata {_PREFIX}{key}: {_REMEDY}")
        return value

    def parsed(key: str) -> Any:
        try:
            return json.loads(text(key))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ModelFileError(
                f"the model {where} has metadata {_PREFIX}{key} that is not JSON ({error}): {_REMEDY}"
            ) from None

    texts: dict[str, Any] = {key: text(key) for key in _TEXTS}
    objects: dict[str, Any] = {key: parsed(key) for key in _OBJECTS}
    for key, value in objects.items():
        if not isinstance(value, dict):
            raise ModelFileError(f"the model {where} has metadata {_PREFIX}{key} that is not a JSON object: {_REMEDY}")

    def fraction(key: str) -> float:
        value = parsed(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ModelFileError(
                f"the model {where} has the {key} {value!r}, which is not a number from 0 to 1: {_REMEDY}"
            )
        return float(value)

    return ModelInfo(
        **texts,
        **objects,
        threshold=fraction("threshold"),
        golden=_golden_from(parsed("golden"), where),
        doubt_threshold=fraction("doubt_threshold") if f"{_PREFIX}doubt_threshold" in mapping else None,
    )


def write(model: onnx.ModelProto, info: ModelInfo, path: str | Path) -> None:
    """Write `model` with the metadata of `info` to `path`: beside it first, then renamed.

    Other metadata of the model is kept. Raises ModelFileError where the file would break the contract or
    cannot be written; a file that was at `path` is then untouched.
    """
    import onnx

    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(opsets) != 1 or opsets[0] not in OPSETS:
        raise ModelFileError(
            f"the model for {path} has opset {opsets}, but the contract asks for {OPSETS[0]} to {OPSETS[-1]}"
        )
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelFileError(
            f"the model for {path} keeps its weights in another file (external data), but the contract is one file"
        )
    _add_mean(stamped.graph)
    kept = [entry for entry in model.metadata_props if not entry.key.startswith(_PREFIX)]
    del stamped.metadata_props[:]
    stamped.metadata_props.extend(kept)
    write_bytes(stamped.SerializeToString(), info, path, _precision(model.graph))


def write_bytes(model: bytes, info: ModelInfo, path: str | Path, precision: str = "fp32") -> None:
    """As `write`, of the bytes of a model without ``road_seg.*`` metadata, of which nothing is checked."""
    path, entries = Path(path), metadata(info) | {_PRECISION_KEY: precision}
    data = model + b"".join(onnx_bytes.metadata_entry(key, value) for key, value in entries.items())
    # At the very end, so that it covers all that comes before.
    data += onnx_bytes.metadata_entry(_HASH_KEY, hashlib.sha256(data).hexdigest())
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise ModelFileError(f"cannot write the model {path}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)


def _add_mean(graph: onnx.GraphProto) -> None:
    """Add the output MEAN_NAME, unless it is there or the answer is not the result of a cast."""
    import onnx

    casts = [node for node in graph.node if node.op_type == "Cast" and OUTPUT_NAME in node.output]
    if not casts or any(output.name == MEAN_NAME for output in graph.output):
        return
    as_float = f"{MEAN_NAME}.float"
    graph.node.append(onnx.helper.make_node("Cast", casts[0].input, [as_float], as_float, to=onnx.TensorProto.FLOAT))
    graph.node.append(onnx.helper.make_node("ReduceMean", [as_float], [MEAN_NAME], MEAN_NAME, keepdims=0))
    graph.output.append(onnx.helper.make_tensor_value_info(MEAN_NAME, onnx.TensorProto.FLOAT, []))


def _precision(graph: onnx.GraphProto) -> str:
    import onnx

    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        return "int8"
    # What is only kept in fp16 is cast before it is used.
    kept = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    half = [w for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT16 and w.name not in kept]
    return "fp16" if half else "fp32"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file, read whole and checked, so that the file may be replaced afterwards.

    Attributes:
        where: the path it was read from, for sentences.
        data: the ONNX model.
        info: its metadata.
        sha256: of the file.
        precision: of its arithmetic: "fp32", "fp16" or "int8".
    """

    where: str
    data: bytes
    info: ModelInfo
    sha256: str
    precision: str

    @property
    def quantized(self) -> bool:
        """Whether its arithmetic is in integers."""
        return self.precision == "int8"


def read(path: str | Path) -> ModelFile:
    """Read a model file and check it, its network aside, which `check_signature` does once a library has read it.

    Raises ModelFileError on a file that is missing, a folder, unreadable, empty, too large, cut short, damaged, no
    ONNX model, or one whose metadata are not the contract's.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ModelFileError(
                f"the model {path} has {size} bytes, and an ONNX file has {LARGEST} at most: give the path of a .onnx "
                "file that export/export.py wrote"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(
            f"the model {path} does not exist: give the path of a .onnx file that export/export.py wrote"
        ) from None
    except IsADirectoryError:
        raise ModelFileError(f"the model {path} is a folder: give the path of a .onnx file in it") from None
    except OSError as error:
        raise ModelFileError(f"the model {path} cannot be read: {error.strerror}") from error
    entries = _checked_metadata(data, str(path))
    info, precision = info_from_metadata(entries, str(path)), entries.get(_PRECISION_KEY, "fp32")
    return ModelFile(str(path), data, info, hashlib.sha256(data).hexdigest(), precision)


def check_signature(inputs: Sequence[Tensor], outputs: Sequence[Tensor], where: str) -> None:
    """Check what a model takes and gives against the contract, as the library says it that has read the model.

    A dimension that is free may have any name or None. Raises ModelFileError.
    """
    _check_tensor(inputs, "input", INPUT_NAME, ["batch", "height", "width", 3], where)
    bytes_alone = [tensor for tensor in outputs if tensor[0] != MEAN_NAME]
    _check_tensor(bytes_alone, "output", OUTPUT_NAME, ["batch", "height", "width"], where)


def _check_tensor(found: Sequence[Tensor], role: str, name: str, shape: list[Any], where: str) -> None:
    wanted = f"one {role}, {name}: uint8 [{', '.join(map(str, shape))}]"
    if [tensor[0] for tensor in found] != [name]:
        names = ", ".join(tensor[0] for tensor in found) or "none"
        raise ModelFileError(f"the model {where} has the {role} {names}, but the contract asks for {wanted}: {_REMEDY}")
    _, kind, sizes = found[0]
    # A number where the contract says height or width would tie the file to one camera; batch 1 is no harm.
    fits = len(sizes) == len(shape) and all(
        (have == want if isinstance(want, int) else not isinstance(have, int)) or (want == "batch" and have == 1)
        for have, want in zip(sizes, shape, strict=True)
    )
    if kind != "uint8" or not fits:
        have = ", ".join("?" if size is None else str(size) for size in sizes)
        raise ModelFileError(
            f"the model {where} has the {role} {name} of {kind} [{have}], but the contract asks for "
            f"{wanted}, with free height and width: {_REMEDY}"
        )


def _golden_from(entry: Any, where: str) -> np.ndarray:
    size = GOLDEN_HEIGHT * GOLDEN_WIDTH
    try:
        shape, packed = entry["shape"], base64.b64decode(entry["zlib_base64"], validate=True)
        # A limit, so that a hostile file cannot unpack to gigabytes.
        data = zlib.decompressobj().decompress(packed, size + 1)
    except (TypeError, KeyError, ValueError, binascii.Error, zlib.error) as error:
        raise ModelFileError(
            f"the model {where} has a golden answer that cannot be read ({error}): {_REMEDY}"
        ) from None
    if shape != [GOLDEN_HEIGHT, GOLDEN_WIDTH] or len(data) != size:
        raise ModelFileError(
            f"the model {where} has a golden answer of shape {shape} and {len(data)} bytes, "
            f"not [{GOLDEN_HEIGHT}, {GOLDEN_WIDTH}]: {_REMEDY}"
        )
    return np.frombuffer(data, np.uint8).reshape(GOLDEN_HEIGHT, GOLDEN_WIDTH)


def _content_hash(data: bytes) -> str | None:
    """Return the SHA-256 that ends the file, or None where it has none, as files of other writers may not."""
    tail = onnx_bytes.metadata_entry(_HASH_KEY, "0" * 64)
    head = tail[:-64]
    return data[-64:].decode("ascii", "replace") if data[-len(tail) : -64] == head else None


def _checked_metadata(data: bytes, where: str) -> dict[str, str]:
    """The metadata of a file that is whole."""
    if not data:
        raise ModelFileError(f"the model {where} is empty: copy it again, or {_REMEDY}")
    not_onnx = ModelFileError(f"the model {where} is not an ONNX file: give one from export/export.py")
    try:
        entries = onnx_bytes.metadata(memoryview(data))
    except onnx_bytes.TruncatedError:
        # Text or a picture reads as a protobuf that ends too early as well, but a model begins with the
        # number of its format's version.
        if data[0] != onnx_bytes.FIRST_BYTE:
            raise not_onnx from None
        raise ModelFileError(
            f"the model {where} is cut short after {len(data)} bytes: copy it again, or {_REMEDY}"
        ) from None
    except onnx_bytes.NotOnnxError:
        raise not_onnx from None
    except UnicodeDecodeError as error:
        raise ModelFileError(f"the model {where} is damaged, a text in it is not UTF-8 ({error}): {_REMEDY}") from None
    content_hash = _content_hash(data)
    if content_hash is not None:
        content = memoryview(data)[: -len(onnx_bytes.metadata_entry(_HASH_KEY, content_hash))]
        if hashlib.sha256(content).hexdigest() != content_hash:
            raise ModelFileError(
                f"the model {where} is damaged, or was changed after it was exported (its SHA-256 is not the one "
                f"that it ends with): copy it again, or {_REMEDY}"
            )
    return entries
