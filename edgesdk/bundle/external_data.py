"""Refuses model files that would read other files when a runtime loads them.

A board does not import onnx, so this walks the protobuf wire format itself. onnxruntime before 1.24 follows any path
of a tensor's external data (and Python 3.10 gets no newer one), so the check must come before the runtime.

Source: onnx.proto3 of ONNX 1.23 (field numbers), protobuf encoding guide, schema.fbs of LiteRT 2.
"""

from __future__ import annotations

import struct

import msgspec

from edgesdk.errors import BundleError, BundleUnsafeError

# Message -> field number -> message of that field. Everything else cannot lead to a tensor.
_FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 8, 13, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_FAKE_BYTES = 1024 * 1024
_MAX_DEPTH = 100  # protobuf's own limit: what lies deeper, no runtime loads

# Slots of schema.fbs' Model table that name other files.
_TFLITE_EXTERNAL_SLOTS = (8, 9)


def check_self_contained(content: bytes, model_format: str, *, where: str) -> None:
    """Refuse a model that refers to data outside its own bytes.

    Args:
        content: The whole model file.
        model_format: ``onnx`` or ``tflite``; others are not looked into.
        where: Bundle and file, for messages.

    Raises:
        BundleUnsafeError: A tensor has external data, or the content is an ONNX Runtime flatbuffer in disguise.
        BundleError: The content is no file of this format.
    """
    if _is_fake_model(content):
        return
    if model_format == "onnx":
        _check_onnx(content, where)
    elif model_format == "tflite":
        _check_tflite(content, where)


def _is_fake_model(content: bytes) -> bool:
    """Whether this is a JSON text in ASCII, as the fake backend takes it under the name of any format.

    Such a text cannot be an ONNX model with external data as well: JSON has no byte 0x01, which alone says EXTERNAL
    when all bytes are below 0x80.
    """
    if content[:1] != b"{" or len(content) > _MAX_FAKE_BYTES or not content.isascii() or content[4:8] == b"TFL3":
        return False
    try:
        return isinstance(msgspec.json.decode(content), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _check_onnx(content: bytes, where: str) -> None:
    if content[4:8] == b"ORTM":
        # onnxruntime detects its own format by these bytes, and it has external data of its own.
        raise BundleUnsafeError(f"{where}: is in ONNX Runtime's own format, expected ONNX. Pack the .onnx file.")
    if not content:
        raise BundleError(f"{where}: is empty, expected an ONNX model.")
    stack = [("ModelProto", 0, len(content), 0)]
    while stack:
        message, at, end, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise BundleUnsafeError(f"{where}: is nested deeper than {_MAX_DEPTH} messages.")
        if message == "TensorProto":
            _check_tensor(content, at, end, where)
            continue
        children = _FIELDS[message]
        while at < end:
            number, kind, start, at = _field(content, at, end, where)
            if kind == _LENGTH and number in children:
                stack.append((children[number], start, at, depth + 1))


def _check_tensor(content: bytes, at: int, end: int, where: str) -> None:
    name, external = "", False
    while at < end:
        number, kind, start, at = _field(content, at, end, where)
        if number == _TENSOR_NAME and kind == _LENGTH:
            name = content[start:at].decode("utf-8", "replace")
        elif number == _TENSOR_EXTERNAL_DATA and kind == _LENGTH:
            external = True
        elif number == _TENSOR_DATA_LOCATION and kind == _VARINT:
            external = external or _varint(content, start, end, where)[0] != 0
    if external:
        raise BundleUnsafeError(
            f"{where}: tensor {name!r} has its data outside the model file, which a bundle does not allow. "
            "Save the model in one file: onnx.save(onnx.load('model.onnx'), 'one.onnx')."
        )


def _field(content: bytes, at: int, end: int, where: str) -> tuple[int, int, int, int]:
    """Number, wire type, start and end of the value of the field at ``at``."""
    tag, at = _varint(content, at, end, where)
    number, kind = tag >> 3, tag & 7
    start = at
    if kind == _LENGTH:
        length, start = _varint(content, at, end, where)
        at = start + length
    elif kind == _VARINT:
        _, at = _varint(content, at, end, where)
    elif kind == _FIXED32:
        at += 4
    elif kind == _FIXED64:
        at += 8
    else:  # groups, which ONNX never had
        raise BundleError(f"{where}: is no ONNX model: wire type {kind} at byte {start}.")
    if at > end or number == 0:
        raise BundleError(f"{where}: is no ONNX model, or truncated: field {number} at byte {start}.")
    return number, kind, start, at


def _varint(content: bytes, at: int, end: int, where: str) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BundleError(f"{where}: is no ONNX model, or truncated: number at byte {at}.")


def _check_tflite(content: bytes, where: str) -> None:
    if content[4:8] != b"TFL3":
        raise BundleError(f"{where}: is no TFLite model: identifier {content[4:8]!r}, expected b'TFL3'.")
    try:
        (root,) = struct.unpack_from("<I", content, 0)
        (back,) = struct.unpack_from("<i", content, root)
        vtable = root - back
        (size,) = struct.unpack_from("<H", content, vtable if vtable > 0 else len(content))
        if size < 4:  # a vtable holds at least its own two sizes
            raise BundleError(f"{where}: is no TFLite model, or truncated: no vtable.")
        slots = struct.unpack_from(f"<{max(0, (size - 4) // 2)}H", content, vtable + 4)
    except struct.error as error:
        raise BundleError(f"{where}: is no TFLite model, or truncated: {error}.") from error
    if any(slots[slot] for slot in _TFLITE_EXTERNAL_SLOTS if slot < len(slots)):
        raise BundleUnsafeError(
            f"{where}: has buffers outside the model file, which a bundle does not allow. Convert it without "
            "external buffers."
        )
