"""Checks that a TFLite file is whole before a runtime that does not check it reads past its end.

tflite-runtime 2.14 kills the process with SIGSEGV on a truncated file; ai-edge-litert verifies for itself. Only what
truncation and careless editing break is checked: that every table, vector and string lies inside the file.

Source: FlatBuffers binary format; field numbers from tensorflow/lite/schema/schema.fbs (version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count

MOST_TABLES = 1_000_000
"""As in FlatBuffers' own verifier: a crafted file can name one table very often."""

# Per table: field number -> what is behind its offset: a table's name, "[Name]" a vector of tables, "options" a table of
# any kind, or the element size of a vector of scalars (a string is one of bytes).
_TABLES: dict[str, dict[int, str | int]] = {
    "Model": {1: "[OperatorCode]", 2: "[SubGraph]", 3: 1, 4: "[Buffer]", 5: 4, 6: "[Metadata]", 7: "[SignatureDef]"},
    "OperatorCode": {1: 1},
    "SubGraph": {0: "[Tensor]", 1: 4, 2: 4, 3: "[Operator]", 4: 1},
    "Tensor": {0: 4, 3: 1, 4: "Quantization", 6: "options", 7: 4},
    "Quantization": {0: 4, 1: 4, 2: 4, 3: 8},
    "Operator": {1: 4, 2: 4, 4: "options", 5: 1, 7: 1, 8: 4},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "SignatureDef": {0: "[TensorMap]", 1: "[TensorMap]", 2: 1},
    "TensorMap": {0: 1},
    "options": {},
}


def find_damage(content: bytes) -> str:
    """Why this is no whole TFLite file, or an empty text."""
    if len(content) < 8 or content[4:8] != b"TFL3":
        return f"bytes 4 to 7 are {content[4:8]!r}, expected b'TFL3'"
    try:
        _table(content, _follow(content, 0), "Model", count(1))
    except (struct.error, _OutsideError):
        return f"the file ends at byte {len(content)}, but its tables go on behind that: it is truncated or damaged"
    return ""


class _OutsideError(Exception):
    pass


def _follow(content: bytes, at: int) -> int:
    offset: int = struct.unpack_from("<I", content, at)[0]
    return at + offset


def _vector(content: bytes, at: int, item_bytes: int) -> int:
    count: int = struct.unpack_from("<I", content, at)[0]
    if at + 4 + count * item_bytes > len(content):
        raise _OutsideError
    return count


def _table(content: bytes, at: int, name: str, seen: Iterator[int]) -> None:
    if next(seen) > MOST_TABLES:
        raise _OutsideError
    vtable = at - struct.unpack_from("<i", content, at)[0]
    if vtable < 0:
        raise _OutsideError
    vtable_bytes, table_bytes = struct.unpack_from("<HH", content, vtable)
    if vtable + vtable_bytes > len(content) or at + table_bytes > len(content):
        raise _OutsideError
    for field, kind in _TABLES[name].items():
        slot = 4 + 2 * field
        if slot + 2 > vtable_bytes:
            continue
        offset = struct.unpack_from("<H", content, vtable + slot)[0]
        if not offset:
            continue
        target = _follow(content, at + offset)
        if isinstance(kind, int):
            _vector(content, target, kind)
        elif kind.startswith("["):
            for index in range(_vector(content, target, 4)):
                _table(content, _follow(content, target + 4 + 4 * index), kind[1:-1], seen)
        else:
            _table(content, target, kind, seen)
