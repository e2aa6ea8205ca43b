# SPDX-License-Identifier: Apache-2.0
"""A look into an ONNX file's bytes, before any library is trusted with them.

The robot has no onnx package, and ONNX Runtime calls every broken file "Protobuf parsing failed". Walking over the
fields costs milliseconds, tells a copy cut short from a file of another kind, and finds weights that lie elsewhere.
Field numbers as in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

FIRST_BYTE = 0x08  # ir_version, a number, comes first
WATCH = "road_seg.mean"  # the output that shows whether an answer is finite

_MODEL_GRAPH, _MODEL_OPSET_IMPORT, _MODEL_METADATA = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TYPE = 1, 3, 20
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
_ATTRIBUTE_IS_INT = 2
_TENSOR_TYPE, _HALF = 2, 10
_TENSOR_DATA_LOCATION, _EXTERNAL = 14, 1
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE = 1, 2, 1, 1, 2
_SHAPE_DIMENSION, _DIMENSION_VALUE, _DIMENSION_NAME = 1, 1, 2
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2

_FLOAT = 1  # TensorProto.DataType
_TYPES = {1: "float", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16"}
_DEEPEST = 16  # graphs within graphs


class TruncatedError(ValueError):
    """The bytes end within a field."""


class NotOnnxError(ValueError):
    """The bytes are no ONNX model."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, element type ("uint8") and shape, a number or a name for each dimension."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass
class Outline:
    """What a model file says of itself, its weights aside.

    Attributes:
        opset: of ONNX's own operators, None where the file names none; it comes after the graph, so that its absence is
            a file cut short.
        external: whether a tensor lies in another file.
        half: whether a weight is in half precision.
        producers: for each tensor that a node of the graph makes: the operator, and the node's first input.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    producers: dict[str, tuple[str, str]] = field(default_factory=dict)
    opset: int | None = None
    external: bool = False
    half: bool = False


def outline(data: memoryview) -> Outline:
    """Read the outline of a whole ONNX file.

    Raises TruncatedError, NotOnnxError, or UnicodeDecodeError where a text in it is not UTF-8.
    """
    found = Outline()
    graphs = 0
    for number, value in fields(data):
        if number == _MODEL_GRAPH:
            graphs += 1
            _read_graph(_message(value), found)
        elif number == _MODEL_OPSET_IMPORT:
            operators = dict(fields(_message(value)))
            version = operators.get(_OPSET_VERSION, 0)
            if _text(operators.get(_OPSET_DOMAIN)) in ("", "ai.onnx") and isinstance(version, int):
                found.opset = version
        elif number == _MODEL_METADATA:
            entry = dict(fields(_message(value)))
            found.metadata[_text(entry.get(_ENTRY_KEY))] = _text(entry.get(_ENTRY_VALUE))
    if not graphs:
        raise NotOnnxError
    return found


def metadata_entry(key: str, value: str) -> bytes:
    """Return the bytes of one metadata entry; at the end of a model file they add it."""
    return _field(_MODEL_METADATA, _field(_ENTRY_KEY, key.encode()) + _field(_ENTRY_VALUE, value.encode()))


def with_watch(data: bytes, output: str) -> bytes:
    """Return the model with one more output, float scalar WATCH: the mean of what is cast to bytes for `output`.

    It is finite where every pixel is; the cast to bytes hides NaN. Bytes of the same message put behind each other
    are merged (protobuf's encoding), so nothing is parsed or written anew. A model whose answer is not the
    result of a cast is returned as it is.
    """
    producers = outline(memoryview(data)).producers
    name, operator = output, ""
    while operator != "Cast":
        if name not in producers:
            return data
        operator, name = producers[name]
        if operator not in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Transpose"):
            return data
    cast = _node("Cast", name, WATCH + ".float", {"to": _FLOAT})
    mean = _node("ReduceMean", WATCH + ".float", WATCH, {"keepdims": 0})
    tensor = _field(_VALUE_TYPE, _field(_TYPE_TENSOR, _number(_TENSOR_ELEMENT, _FLOAT) + _field(_TENSOR_SHAPE, b"")))
    value = _field(_VALUE_NAME, WATCH.encode()) + tensor
    return data + _field(_MODEL_GRAPH, cast + mean + _field(_GRAPH_OUTPUT, value))


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one protobuf message: numbers as int, everything else as bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = 0
        for shift in range(0, 70, 7):
            if position >= len(data):
                raise TruncatedError
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise NotOnnxError

    while position < len(data):
        key = varint()
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise NotOnnxError
        if wire_type == 0:
            yield number, varint()
            continue
        if wire_type == 2:
            length = varint()
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise NotOnnxError
        if position + length > len(data):
            raise TruncatedError
        yield number, data[position : position + length]
        position += length


def _read_graph(graph: memoryview, found: Outline, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise NotOnnxError
    for number, value in fields(graph):
        if number == _GRAPH_NODE:
            _read_node(_message(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            found.external |= _is_external(_message(value))
            found.half |= (_TENSOR_TYPE, _HALF) in fields(_message(value))
        elif number == _GRAPH_SPARSE:
            found.external |= any(_is_external(_message(part)) for n, part in fields(_message(value)) if n in (1, 2))
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and depth == 0:
            (found.inputs if number == _GRAPH_INPUT else found.outputs).append(_tensor(_message(value)))


def _read_node(node: memoryview, found: Outline, depth: int) -> None:
    inputs, outputs, operator = [], [], ""
    for number, value in fields(node):
        if number == _NODE_INPUT:
            inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            outputs.append(_text(value))
        elif number == _NODE_OPERATOR:
            operator = _text(value)
        elif number == _NODE_ATTRIBUTE:
            for kind, part in fields(_message(value)):
                if kind in _ATTRIBUTE_TENSORS and isinstance(part, memoryview):
                    found.external |= _is_external(part)
                elif kind in _ATTRIBUTE_GRAPHS and isinstance(part, memoryview):
                    _read_graph(part, found, depth + 1)
    if depth == 0 and inputs:
        found.producers |= {name: (operator, inputs[0]) for name in outputs}


def _is_external(tensor: memoryview) -> bool:
    return any((number, value) == (_TENSOR_DATA_LOCATION, _EXTERNAL) for number, value in fields(tensor))


def _tensor(value: memoryview) -> Tensor:
    """Of one ValueInfoProto; a dimension without value or name is "?"."""
    name, element, shape = "", 0, []
    for number, part in fields(value):
        if number == _VALUE_NAME:
            name = _text(part)
        elif number == _VALUE_TYPE:
            for kind, tensor in fields(_message(part)):
                if kind != _TYPE_TENSOR:
                    continue
                for n, detail in fields(_message(tensor)):
                    if n == _TENSOR_ELEMENT and isinstance(detail, int):
                        element = detail
                    elif n == _TENSOR_SHAPE:
                        shape = [_dimension(_message(d)) for k, d in fields(_message(detail)) if k == _SHAPE_DIMENSION]
    return Tensor(name, _TYPES.get(element, f"type {element}"), tuple(shape))


def _dimension(dimension: memoryview) -> int | str:
    for number, value in fields(dimension):
        if number == _DIMENSION_VALUE and isinstance(value, int):
            return value
        if number == _DIMENSION_NAME:
            return _text(value)
    return "?"


def _message(value: int | memoryview | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise NotOnnxError
    return value


def _text(value: int | memoryview | None) -> str:
    return "" if value is None else bytes(_message(value)).decode()


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _node(operator: str, source: str, result: str, attributes: dict[str, int]) -> bytes:
    content = _field(_NODE_INPUT, source.encode()) + _field(_NODE_OUTPUT, result.encode())
    content += _field(_NODE_NAME, result.encode()) + _field(_NODE_OPERATOR, operator.encode())
    for name, value in attributes.items():
        content += _field(
            _NODE_ATTRIBUTE,
            _field(_ATTRIBUTE_NAME, name.encode())
            + _number(_ATTRIBUTE_INT, value)
            + _number(_ATTRIBUTE_TYPE, _ATTRIBUTE_IS_INT),
        )
    return _field(_GRAPH_NODE, content)
