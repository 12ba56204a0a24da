"""What the kernels take: element types of tensors without a scale, and numbers of axes.

Integers of 8 and 16 bits without a scale mean themselves; most kernels take them only as quantized numbers (some abort, some
compute nonsense). Where a wider type has a kernel they are computed in that, between two CASTs, which changes no number.

Source: the kernels' ``Prepare`` and ``Eval`` of tflite-runtime 2.14 and ai-edge-litert 2.3, tried with every type and 1 to 7 axes.
"""

from __future__ import annotations

_REAL = frozenset({"float32"})
_WIDE = frozenset({"float32", "int32"})
_TRUTH = frozenset({"bool"})
_SMALL = frozenset({"float32", "int32", "int16", "int8", "uint8"})
_ANY = _SMALL | _TRUTH
_BYTES = frozenset({"float32", "int32", "int8", "uint8"})

_TYPES: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "EXP", "LOG", "SQRT", "RSQRT", "SIN", "COS", "SQUARE", "FLOOR", "CEIL", "ROUND", "ELU", "GELU", "LOGISTIC", "TANH",
            "HARD_SWISH", "LEAKY_RELU", "PRELU", "SOFTMAX", "LOG_SOFTMAX", "RELU", "RELU6", "RELU_N1_TO_1", "AVERAGE_POOL_2D",
            "MAX_POOL_2D", "BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "ATAN2",
            "RESIZE_BILINEAR", "LOCAL_RESPONSE_NORMALIZATION", "SIGN",
        ),
        _REAL,
    ),
    **dict.fromkeys(
        (
            "NEG", "ADD", "SUB", "MUL", "DIV", "POW", "FLOOR_DIV", "FLOOR_MOD", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL",
            "SUM", "MEAN", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "CUMSUM", "ABS",
        ),
        _WIDE,
    ),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"), _TRUTH),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL"), _WIDE | _TRUTH),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "PAD", "PADV2", "MIRROR_PAD", "MAXIMUM", "MINIMUM"), _SMALL),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN", "TOPK_V2", "SCATTER_ND", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), _BYTES),
    "ONE_HOT": _BYTES | _TRUTH,
    "TILE": _BYTES | _TRUTH,
    "REVERSE_SEQUENCE": frozenset({"float32", "int32", "int16", "uint8"}),
    "RESIZE_NEAREST_NEIGHBOR": frozenset({"float32", "int16", "int8", "uint8"}),
    **dict.fromkeys(
        ("GATHER", "GATHER_ND", "SLICE", "STRIDED_SLICE", "TRANSPOSE", "CONCATENATION", "PACK", "UNPACK", "SELECT_V2", "BROADCAST_TO"),
        _ANY,
    ),
}  # fmt: skip
"""Types by operator; what is not named takes all that the lowering computes in."""
_PLACES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "ADD", "SUB", "MUL", "DIV", "POW", "FLOOR_DIV", "FLOOR_MOD", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL",
            "NOT_EQUAL", "MAXIMUM", "MINIMUM", "PRELU", "ATAN2", "LOGICAL_AND", "LOGICAL_OR", "BATCH_MATMUL", "FULLY_CONNECTED",
            "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D",
        ),
        (0, 1),
    ),
    "SELECT_V2": (1, 2), "SPLIT": (1,), "SCATTER_ND": (1,), "ONE_HOT": (2, 3), "PADV2": (0, 2), "TRANSPOSE_CONV": (2, 1),
}  # fmt: skip
_EXACT = {"bool": 1, "int8": 8, "uint8": 8, "int16": 16}
"""Types that are computed in wider ones, and their bits."""
ROUNDED = frozenset({"LOG", "SQRT", "RESIZE_BILINEAR"})
"""Operators whose result float32 rounds anyway: int32 goes through them as float32."""
HYBRID = frozenset({"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL"})
"""Operators whose weights may be of another type than their data."""
_TO_INTEGER = frozenset({"ARG_MAX", "ARG_MIN"})
_TO_TRUTH = frozenset({"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"})
MOST_AXES = 6
"""Of any tensor that a kernel computes with: XNNPACK has no more."""
_AXES = {
    **dict.fromkeys(("SLICE", "STRIDED_SLICE", "PAD", "PADV2", "BATCH_MATMUL"), 5),
    **dict.fromkeys(("RESHAPE", "CAST", "QUANTIZE", "DEQUANTIZE"), 8),
}
ELEMENTWISE = frozenset(
    {
        "ADD", "RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "ABS", "EXP", "LOG", "SQRT", "RSQRT", "NEG", "FLOOR", "CEIL",
        "ROUND", "SIN", "COS", "HARD_SWISH", "ELU", "GELU", "LEAKY_RELU", "LOGICAL_NOT", "SQUARE", "SIGN",
    }
)  # fmt: skip
"""Operators that look at one element at a time, whatever the axes."""
BROADCAST_AXES = {
    **dict.fromkeys(
        (
            "MUL", "POW", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR",
            "FLOOR_MOD", "FLOOR_DIV", "PRELU",
        ),
        4,
    ),
    **dict.fromkeys(("SUB", "DIV", "MAXIMUM", "MINIMUM", "SELECT_V2"), 5),
}  # fmt: skip
"""Over how many axes these may broadcast: where there are more tflite-runtime 2.14 aborts the process
or computes something else."""


def places(code: str, count: int) -> tuple[int, ...]:
    """Which inputs hold numbers that the operator computes with, the others being axes, shapes, positions."""
    if code in ("CONCATENATION", "PACK"):
        return tuple(range(count))
    return tuple(place for place in _PLACES.get(code, (0,)) if place < count)


def computed_in(code: str, dtype: str) -> str | None:
    """The type in which an operator takes a tensor of ``dtype`` that has no scale: ``dtype``, a wider one, or None."""
    types = _TYPES.get(code)
    if types is None or dtype in types:
        return dtype
    if dtype in _EXACT:
        return next((wide for wide in ("int32", "float32") if wide in types), None)
    return "float32" if dtype == "int32" and code in ROUNDED else None


def keeps_type(code: str) -> bool:
    """Whether the results have the type of the operands."""
    return code not in _TO_INTEGER | _TO_TRUTH


def most_axes(code: str) -> int:
    """How many axes the operands of an operator may have."""
    return _AXES.get(code, MOST_AXES)
