"""Writes the lowered operators as a TFLite flatbuffer: the one place of the lowering that touches the untyped schema."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower.ir import Operator, Quantization, Tensor
from edgesdk_converters.tflite.lower.versions import version_of

SIGNATURE = b"serving_default"
_TABLES = {
    "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions", "L2_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions", "SUM": "ReducerOptions", "REDUCE_MAX": "ReducerOptions", "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions", "REDUCE_ANY": "ReducerOptions", "REDUCE_ALL": "ReducerOptions",
    "L2_NORMALIZATION": "L2NormOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
}  # fmt: skip
"""Options tables that are not named like their operator."""
_ENUMS = {
    "padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "inDataType": "TensorType",
    "outDataType": "TensorType", "outputType": "TensorType", "quantizedBiasType": "TensorType",
    "mode": "MirrorPadMode", "weightsFormat": "FullyConnectedOptionsWeightsFormat",
}  # fmt: skip


def write(
    operators: Sequence[Operator], inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, description: str
) -> bytes:
    """The file's bytes; equal operators give equal bytes."""
    schema = fb.schema()
    model = schema.ModelT()
    model.version = 3
    model.description = description.encode()
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name = b"main"
    numbers: dict[int, int] = {}
    graph.tensors = []
    shared: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    names = _names(operators, inputs, outputs)

    def number(tensor: Tensor | None) -> int:
        if tensor is None:
            return -1
        if id(tensor) not in numbers:
            numbers[id(tensor)] = len(graph.tensors)
            graph.tensors.append(_tensor(model, tensor, names[id(tensor)], shared))
        return numbers[id(tensor)]

    graph.inputs = [number(tensor) for tensor in inputs]
    codes: dict[tuple[str, int], int] = {}
    graph.operators = []
    model.operatorCodes = []
    for operator in operators:
        made = schema.OperatorT()
        made.opcodeIndex = _code(model, codes, operator)
        made.inputs = [number(tensor) for tensor in operator.inputs]
        made.outputs = [number(tensor) for tensor in operator.outputs]
        _options(made, operator)
        graph.operators.append(made)
    graph.outputs = [number(tensor) for tensor in outputs]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(graph, inputs, outputs)]
    return fb.write(model)


def _names(operators: Sequence[Operator], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[int, str]:
    """A name of its own for each tensor, by identity: tools that read the file take the name for the tensor.

    Inputs and outputs keep theirs; where a node became several operators, the later ones' results get a number.
    """
    within = (one for operator in operators for one in (*operator.outputs, *operator.inputs) if one is not None)
    # An output of the name of an input is that input, copied: both keep it, as callers find them by it.
    found = {id(tensor): tensor.name for tensor in (*inputs, *outputs)}
    taken = set(found.values())
    for tensor in within:
        if id(tensor) in found:
            continue
        name, more = tensor.name, 0
        while name in taken:
            more += 1
            name = f"{tensor.name}_{more}"
        taken.add(name)
        found[id(tensor)] = name
    return found


def _tensor(model: Any, tensor: Tensor, name: str, shared: dict[tuple[str, tuple[int, ...], bytes], int]) -> Any:
    schema = fb.schema()
    made = schema.TensorT()
    made.name = name.encode()
    made.shape = list(tensor.shape)
    made.hasRank = True
    made.type = tensor_type(tensor.dtype)
    made.buffer = 0
    if tensor.data is not None:
        content = _content(tensor)
        key = (tensor.dtype, (), content)
        if key not in shared:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            model.buffers.append(buffer)
            shared[key] = len(model.buffers) - 1
        made.buffer = shared[key]
    made.quantization = _quantization(tensor.quantization)
    return made


def _content(tensor: Tensor) -> bytes:
    assert tensor.data is not None
    if tensor.dtype in ("int4", "uint4"):
        flat = tensor.data.reshape(-1).astype(np.int8)
        pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
        return bytes(((pairs[:, 0] & 15) | ((pairs[:, 1] & 15) << 4)).astype(np.uint8))
    return np.ascontiguousarray(tensor.data, dtype=np.dtype(tensor.dtype).newbyteorder("<")).tobytes()


def _quantization(quantization: Quantization | None) -> Any:
    if quantization is None:
        return None
    made = fb.schema().QuantizationParametersT()
    made.scale = np.asarray(quantization.scale, np.float32).reshape(-1)
    made.zeroPoint = np.asarray(quantization.zero_point, np.int64).reshape(-1)
    made.quantizedDimension = quantization.axis or 0
    return made


def _code(model: Any, codes: dict[tuple[str, int], int], operator: Operator) -> int:
    version = version_of(operator)
    key = (operator.code, version)
    if key not in codes:
        schema = fb.schema()
        made = schema.OperatorCodeT()
        made.builtinCode = getattr(schema.BuiltinOperator, operator.code)
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)
        made.version = version
        codes[key] = len(model.operatorCodes)
        model.operatorCodes.append(made)
    return codes[key]


def _options(made: Any, operator: Operator) -> None:
    schema = fb.schema()
    table = _table(operator.code)
    if table is None:
        if operator.options:
            raise TypeError(f"{operator.code} has no options table, got {sorted(operator.options)}")
        return
    options = getattr(schema, f"{table}T")()
    for key, value in operator.options.items():
        if not hasattr(options, key):
            raise TypeError(f"{table} has no field {key!r}; it has {sorted(vars(options))}")
        enum = _ENUMS.get(key)
        setattr(options, key, getattr(getattr(schema, enum), value) if enum and isinstance(value, str) else value)
    made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
    made.builtinOptions = options


@cache
def _table(code: str) -> str | None:
    known = {name.lower(): name for name in vars(fb.schema().BuiltinOptions) if not name.startswith("_")}
    return _TABLES.get(code) or known.get(f"{code.replace('_', '').lower()}options")


def tensor_type(dtype: str) -> int:
    """``float32`` -> the schema's number."""
    return int(getattr(fb.schema().TensorType, dtype.upper()))


def _signature(graph: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Any:
    schema = fb.schema()

    def entries(tensors: Sequence[Tensor], indices: Sequence[int]) -> list[Any]:
        made = []
        for tensor, index in zip(tensors, indices, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = tensor.name.encode(), index
            made.append(entry)
        return made

    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = entries(inputs, graph.inputs)
    signature.outputs = entries(outputs, graph.outputs)
    return signature
