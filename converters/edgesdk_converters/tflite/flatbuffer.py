"""TFLite files as objects: reading with errors that name the file's fault, and writing."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ModelFormatError

IDENTIFIER = b"TFL3"
ALIGNMENT = 16
"""Of constant data in the file: kernels read it where it lies."""


LARGEST_ELEMENTS = 2**28
"""Of a tensor that is computed: 1 GiB of float32, which no board computes on; runtimes would plan memory for what a flipped bit asks for."""


def schema() -> Any:
    """The generated LiteRT schema module (imported on use: it is large)."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def read(content: bytes, *, name: str = "model.tflite") -> Any:
    """Parse a TFLite flatbuffer into a ``ModelT``.

    Raises:
        ModelFormatError: Not a TFLite file, truncated, or inconsistent.
    """
    if len(content) < 16 or content[4:8] != IDENTIFIER:
        raise ModelFormatError(
            f"{name}: not a TFLite file: got {content[4:8]!r} at byte 4, expected {IDENTIFIER!r}. "
            "Pass a .tflite flatbuffer (for ONNX, name the file .onnx)."
        )
    try:
        model = schema().ModelT.InitFromPackedBuf(content, 0)
        _check(model, len(content))
        _inline_buffers(model, content)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelFormatError(
            f"{name}: the TFLite flatbuffer is truncated or damaged ({len(content):,} bytes): {_reason(error)}. "
            "Copy or download the file again."
        ) from error
    return model


def _reason(error: Exception) -> str:
    """Python's words about a read behind the end say nothing to who has the file."""
    if isinstance(error, struct.error) and (found := re.search(r"at least (\d+) bytes", str(error))):
        return f"it refers to byte {int(found[1]):,}"
    return str(error)


def _check(model: Any, size: int) -> None:
    # The generated reader follows offsets blindly; what the rest of this package indexes is checked here once.
    if not model.subgraphs or not model.operatorCodes or model.buffers is None:
        raise ValueError("it has no subgraph, no operator codes or no buffers")
    for graph in model.subgraphs:
        _check_graph(model, graph)
    _check_signatures(model)
    for entry in model.metadata or []:
        if not 0 <= entry.buffer < len(model.buffers):
            raise ValueError(f"buffer {entry.buffer} of its metadata does not exist")
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > size:
            raise ValueError("a buffer is longer than the file")


def _check_graph(model: Any, graph: Any) -> None:
    count = len(graph.tensors)
    for operator in graph.operators:
        if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
            raise ValueError(f"operator code {operator.opcodeIndex} does not exist")
        for index in (*ids(operator.inputs), *ids(operator.outputs), *ids(operator.intermediates)):
            if not -1 <= index < count:
                raise ValueError(f"tensor {index} does not exist")
    for index in (*ids(graph.inputs), *ids(graph.outputs)):
        if not 0 <= index < count:
            raise ValueError(f"boundary tensor {index} does not exist")
    for tensor in graph.tensors:
        if not 0 <= tensor.buffer < len(model.buffers):
            raise ValueError(f"buffer {tensor.buffer} does not exist")
        if not isinstance(tensor.name, bytes):
            raise ValueError("a tensor has no name")  # noqa: TRY004 - collected by read(), not an API type error
        held = model.buffers[tensor.buffer]
        stored = held.data is not None or held.offset > 1  # such a size is the file's own
        if not stored and math.prod(max(size, 0) for size in ids(tensor.shape)) > LARGEST_ELEMENTS:
            raise ValueError(f"tensor {text(tensor.name)!r} has an impossible size ({ids(tensor.shape)})")
        tensor.name.decode("utf-8")  # the runtimes demand it, and raise UnicodeDecodeError, which is a ValueError


def _check_signatures(model: Any) -> None:
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            raise ValueError(f"subgraph {signature.subgraphIndex} of a signature does not exist")
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        entries = [*(signature.inputs or []), *(signature.outputs or [])]
        for name in (signature.signatureKey, *(entry.name for entry in entries)):
            if name is not None:
                name.decode("utf-8")
        for entry in entries:
            if not 0 <= entry.tensorIndex < count:
                raise ValueError(f"tensor {entry.tensorIndex} of a signature does not exist")


def _inline_buffers(model: Any, content: bytes) -> None:
    # litert-quantizer writes weights behind the flatbuffer and points to them; `write` puts everything inside again.
    for number, buffer in enumerate(model.buffers):
        if buffer.offset > 1:  # 0 is "none" and 1 a placeholder of the format
            if buffer.offset + buffer.size > len(content):
                raise ValueError(f"buffer {number} lies outside the file")
            buffer.data = np.frombuffer(content, dtype=np.uint8, count=buffer.size, offset=buffer.offset)
        buffer.offset = buffer.size = 0


def write(model: Any) -> bytes:
    """Serialise a ``ModelT``; equal models give equal bytes."""
    import flatbuffers

    weights = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    # Made by type(): the library has no types to derive from, and its builder no attributes to set.
    aligned = type("AlignedBuilder", (flatbuffers.Builder,), {"CreateNumpyVector": _vector})
    # Growing by doubling would copy everything again and again: make room at once.
    builder: Any = aligned((1 << 20) + weights + ALIGNMENT * len(model.buffers))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _vector(builder: Any, array: NDArray[Any]) -> int:
    """A numpy vector; bytes (weights) begin at a multiple of `ALIGNMENT`, as the schema's ``force_align`` asks.

    The Python library knows neither that attribute nor how to write bytes without swapping them first.
    """
    if array.dtype != np.uint8 or array.size == 0:
        return int(super(type(builder), builder).CreateNumpyVector(array))
    builder.StartVector(1, array.size, ALIGNMENT)
    builder.head -= array.size
    builder.Bytes[builder.head : builder.head + array.size] = array.tobytes()
    builder.vectorNumElems = array.size
    return int(builder.EndVector())


def ids(vector: Any) -> list[int]:
    """An index vector of the schema (numpy array, list or None) as a list."""
    return [] if vector is None else [int(index) for index in vector]


def text(name: Any) -> str:
    """A name of the schema as str."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def code_of(model: Any, operator: Any) -> int:
    """The operator's builtin code, whichever of the two fields the file's age made it write."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def code_name(code: int) -> str:
    """``3`` -> ``CONV_2D``."""
    return _names("BuiltinOperator").get(code, f"operator {code}")


def type_name(code: int) -> str:
    """``0`` -> ``float32``."""
    return _names("TensorType").get(code, f"type {code}").lower()


def enum_name(enum: str, code: int) -> str:
    """Name of a value of any of the schema's enumerations."""
    return _names(enum).get(code, f"{enum} {code}")


def constant(model: Any, tensor: Any) -> bytes | None:
    """The tensor's constant bytes, or None where it is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else bytes(bytearray(data))


def set_constant(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    """Give the tensor a buffer of its own with these values."""
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _names(enum: str) -> dict[int, str]:
    table = vars(getattr(schema(), enum))
    return {value: key for key, value in table.items() if isinstance(value, int)}
