"""Passes over the TFLite operators: reshapes of reshapes, what nobody takes, float16 weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk_converters.tflite.lower.ir import Operator, Tensor
from edgesdk_converters.tflite.lower.sink import sink_reshapes

HALF_FROM = 32
"""Elements; smaller constants gain less than the DEQUANTIZE's tensor costs."""
_WEIGHTED = frozenset(
    [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "TRANSPOSE_CONV",
        "FULLY_CONNECTED",
        "BATCH_MATMUL",
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "PRELU",
        "GATHER",
    ]
)


def tidy(operators: Sequence[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    """Operators without detours."""
    kept = _join_reshapes(list(operators), outputs)
    kept = _join_reshapes(sink_reshapes(_drop_dead(kept, outputs), outputs), outputs)
    return _drop_dead(_absorb_reshapes(_drop_dead(kept, outputs), outputs), outputs)


def _join_reshapes(operators: list[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    """A RESHAPE of a RESHAPE takes the first one's input; one that changes nothing goes."""
    made_by = {id(operator.outputs[0]): operator for operator in operators if operator.code == "RESHAPE"}
    boundary = {id(tensor) for tensor in outputs}
    instead: dict[int, Tensor] = {}
    kept: list[Operator] = []
    for operator in operators:
        operator.inputs = [instead.get(id(t), t) if t is not None else None for t in operator.inputs]
        if operator.code == "RESHAPE":
            source = operator.inputs[0]
            while source is not None and (maker := made_by.get(id(source))) is not None:
                source = maker.inputs[0]
            source = instead.get(id(source), source)
            operator.inputs[0] = source
            made = operator.outputs[0]
            if source is not None and source.shape == made.shape:
                if id(made) not in boundary:
                    instead[id(made)] = source
                    continue
                if id(source) not in boundary and _make_instead(kept, source, made):
                    instead = {key: made if tensor is source else tensor for key, tensor in instead.items()}
                    instead[id(source)] = made
                    continue
        kept.append(operator)
    return kept


def _absorb_reshapes(operators: list[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    """RESHAPEs that a neighbour does by itself: FULLY_CONNECTED flattens its input, reductions can drop their axes."""
    boundary = {id(tensor) for tensor in outputs}
    made_by = {id(tensor): operator for operator in operators for tensor in operator.outputs}
    taken: dict[int, int] = {}
    for operator in operators:
        for tensor in operator.inputs:
            if tensor is not None:
                taken[id(tensor)] = taken.get(id(tensor), 0) + 1
    gone: set[int] = set()
    for operator in operators:
        first = operator.inputs[0] if operator.inputs else None
        maker = made_by.get(id(first))
        if first is None or maker is None:
            continue
        if operator.code == "FULLY_CONNECTED" and maker.code == "RESHAPE" and not operator.options.get("keepNumDims"):
            operator.inputs[0] = maker.inputs[0]
        elif operator.code == "RESHAPE" and maker.options.get("keepDims") and taken[id(first)] == 1:
            places = maker.inputs[1]
            if id(first) in boundary or places is None or places.data is None:
                continue
            left = tuple(size for place, size in enumerate(first.shape) if place not in set(places.data.tolist()))
            if left == operator.outputs[0].shape:
                maker.options["keepDims"] = False
                maker.outputs = operator.outputs
                made_by[id(operator.outputs[0])] = maker
                gone.add(id(operator))
    return [operator for operator in operators if id(operator) not in gone]


def _make_instead(operators: list[Operator], source: Tensor, made: Tensor) -> bool:
    """Let the operator that makes ``source`` make the output ``made``; False where ``source`` is an input or a constant."""
    maker = next((operator for operator in operators if any(t is source for t in operator.outputs)), None)
    if maker is None:
        return False
    maker.outputs = [made if tensor is source else tensor for tensor in maker.outputs]
    for operator in operators:
        operator.inputs = [made if tensor is source else tensor for tensor in operator.inputs]
    return True


def _drop_dead(operators: list[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    wanted = {id(tensor) for tensor in outputs}
    kept: list[Operator] = []
    for operator in reversed(operators):
        if any(id(tensor) in wanted for tensor in operator.outputs):
            kept.append(operator)
            wanted.update(id(tensor) for tensor in operator.inputs if tensor is not None)
    return kept[::-1]


def halve(operators: Sequence[Operator]) -> list[Operator]:
    """Float weights as float16 with a DEQUANTIZE in front; those that float16 cannot hold stay."""
    halved: dict[int, Tensor] = {}
    casts: list[Operator] = []
    for operator in operators:
        if operator.code not in _WEIGHTED:
            continue
        for place, tensor in enumerate(operator.inputs):
            if tensor is None or tensor.data is None or tensor.dtype != "float32" or tensor.size < HALF_FROM:
                continue
            if id(tensor) not in halved:
                if np.abs(tensor.data).max() > np.finfo(np.float16).max:
                    continue
                small = Tensor(f"{tensor.name}_f16", tensor.shape, "float16", tensor.data.astype(np.float16))
                halved[id(tensor)] = Tensor(tensor.name, tensor.shape, "float32")
                casts.append(Operator("DEQUANTIZE", [small], [halved[id(tensor)]], {}, operator.node))
            operator.inputs[place] = halved[id(tensor)]
    return [*casts, *operators]
