# SPDX-License-Identifier: Apache-2.0
"""The outermost fields of an ONNX file's bytes: its metadata, and whether it is whole.

The robot has no onnx package, OpenVINO does not tell a model's metadata, and ONNX Runtime calls every broken file
"Protobuf parsing failed". Field numbers as in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

FIRST_BYTE = 0x08  # ir_version, a number, comes first
_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2


class TruncatedError(ValueError):
    """The bytes end within a field."""


class NotOnnxError(ValueError):
    """The bytes are no ONNX model."""


def metadata(data: memoryview) -> dict[str, str]:
    """The metadata of a whole ONNX file.

    Raises TruncatedError, NotOnnxError, or UnicodeDecodeError where a text in it is not UTF-8.
    """
    found, graphs = {}, 0
    for number, value in _fields(data):
        graphs += number == _GRAPH
        if number == _METADATA:
            entry = dict(_fields(value))
            found[bytes(entry.get(_KEY, b"")).decode()] = bytes(entry.get(_VALUE, b"")).decode()
    if not graphs:
        raise NotOnnxError
    return found


def metadata_entry(key: str, value: str) -> bytes:
    """The bytes of one metadata entry; at the end of a model file they add it."""
    return _field(_METADATA, _field(_KEY, key.encode()) + _field(_VALUE, value.encode()))


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (field number, value) of one protobuf message; of a number the value is empty, since none is wanted."""
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
        if number == 0 or wire_type not in (0, 1, 2, 5):
            raise NotOnnxError
        if wire_type == 0:
            varint()
            length = 0
        else:
            length = {1: 8, 5: 4}.get(wire_type) or varint()
        if position + length > len(data):
            raise TruncatedError
        yield number, data[position : position + length]
        position += length


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
