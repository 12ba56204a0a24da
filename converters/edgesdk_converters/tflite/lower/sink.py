"""Moves RESHAPEs behind operators that do not mind them, so that they meet the next one and both vanish.

Exporters flatten to two axes around a matrix product or a Softmax, and 1-D convolutions come and go through four.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk_converters.tflite.lower.ir import Operator, Tensor
from edgesdk_converters.tflite.lower.kernels import BROADCAST_AXES

_ANY = frozenset(
    [
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "LOGISTIC",
        "TANH",
        "ABS",
        "EXP",
        "LOG",
        "SQRT",
        "RSQRT",
        "NEG",
        "FLOOR",
        "CEIL",
        "ROUND",
        "SIN",
        "COS",
        "HARD_SWISH",
        "ELU",
        "GELU",
        "LEAKY_RELU",
        "CAST",
        "QUANTIZE",
        "DEQUANTIZE",
        "LOGICAL_NOT",
        "SQUARE",
        "SIGN",
    ]
)
"""Operators that look at one element at a time."""
_LAST = frozenset({"SOFTMAX", "LOG_SOFTMAX", "FULLY_CONNECTED"})
"""Operators that look along the last axis."""
_PAIRS = frozenset({"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"})


def sink_reshapes(operators: list[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    """Move each RESHAPE down where a chain of such operators ends in another RESHAPE."""
    boundary = {id(tensor) for tensor in outputs}
    for reshape in [operator for operator in operators if operator.code == "RESHAPE"]:
        _sink(operators, reshape, boundary)
    return operators


def _takers(operators: list[Operator], tensor: Tensor) -> list[Operator]:
    return [operator for operator in operators if any(other is tensor for other in operator.inputs)]


def _sink(operators: list[Operator], reshape: Operator, boundary: set[int]) -> None:
    source = reshape.inputs[0]
    if source is None or source.data is not None:
        return
    chain: list[Operator] = []
    flat, shape = reshape.outputs[0], source.shape
    while True:
        takers = _takers(operators, flat)
        if id(flat) in boundary or len(takers) != 1:
            return
        taker = takers[0]
        if taker.code == "RESHAPE":
            break
        if not _indifferent(taker, flat, shape):
            return
        chain.append(taker)
        flat = taker.outputs[0]
        if taker.code in _LAST:
            shape = (*shape[:-1], flat.shape[-1])
    if not chain:
        return
    before = source
    places = {id(operator): index for index, operator in enumerate(operators)}
    first = reshape.outputs[0]
    for operator in chain:
        made = operator.outputs[0]
        after = Tensor(f"{made.name}_flat", (*before.shape[:-1], made.shape[-1]), made.dtype, None, made.quantization)
        if operator.code not in _LAST:
            after.shape = before.shape
        operator.inputs = [before if tensor is first else tensor for tensor in operator.inputs]
        operator.outputs = [after]
        if operator.code == "FULLY_CONNECTED":
            operator.options["keepNumDims"] = len(after.shape) != 2
        first, before = made, after
    reshape.inputs[0], reshape.outputs = before, [flat]
    _shape_input(reshape, flat)
    # It runs after the chain now.
    operators.remove(reshape)
    operators.insert(places[id(chain[-1])], reshape)


def _shape_input(reshape: Operator, made: Tensor) -> None:
    import numpy as np

    data = np.asarray(made.shape, np.int32)
    reshape.inputs[1] = Tensor(f"{made.name}_shape", tuple(data.shape), "int32", data)
    reshape.options["newShape"] = list(made.shape)


def _indifferent(operator: Operator, flat: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether an operator that takes ``flat`` could as well take it in ``shape``."""
    if operator.code in _ANY:
        return True
    same_last = bool(shape) and bool(flat.shape) and shape[-1] == flat.shape[-1]
    if operator.code in _LAST:
        rest = operator.inputs[1:] if operator.code == "FULLY_CONNECTED" else []
        constant = all(tensor is None or tensor.data is not None for tensor in rest)
        return operator.inputs[0] is flat and same_last and constant and len(shape) >= 2
    if len(shape) > BROADCAST_AXES.get(operator.code, len(shape)):
        return False
    if operator.code in _PAIRS and operator.outputs[0].shape == flat.shape and shape:
        others = [tensor for tensor in operator.inputs if tensor is not flat]
        return all(
            tensor is not None
            and tensor.data is not None
            and (tensor.size == 1 or (same_last and tensor.shape == flat.shape[-1:]))
            for tensor in others
        )
    return False
