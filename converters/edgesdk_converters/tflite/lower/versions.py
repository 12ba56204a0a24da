"""The lowest version of each TFLite operator that has what is asked of it, so that old runtimes take the file.

Source: TensorFlow's ``lite/tools/versioning/op_version.cc``; tflite-runtime 2.14 is what the files are tried on.
"""

from __future__ import annotations

from edgesdk_converters.tflite.lower.ir import Operator, Tensor

_INT8_TWO = frozenset(
    [
        "ADD",
        "SUB",
        "MUL",
        "MAX_POOL_2D",
        "AVERAGE_POOL_2D",
        "TRANSPOSE",
        "GATHER",
        "SLICE",
        "STRIDED_SLICE",
        "RELU",
        "RELU6",
        "TANH",
        "LOGISTIC",
        "PAD",
        "PADV2",
        "CONCATENATION",
        "SOFTMAX",
        "MEAN",
        "MIRROR_PAD",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RSQRT",
        "MAXIMUM",
        "MINIMUM",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "BATCH_MATMUL",
        "ARG_MAX",
        "ARG_MIN",
        "LESS",
        "LESS_EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "EQUAL",
        "NOT_EQUAL",
        "SPACE_TO_DEPTH",
        "SPLIT_V",
        "SUM",
        "LOG_SOFTMAX",
        "SQUARED_DIFFERENCE",
        "DEPTH_TO_SPACE",
        "TOPK_V2",
        "EXP",
        "LOG",
        "REDUCE_PROD",
        "GELU",
        "PACK",
        "UNPACK",
        "ABS",
        "L2_NORMALIZATION",
        "FLOOR_MOD",
    ]
)
"""Operators whose int8 kernels came with version 2."""
_INT16_THREE = frozenset(
    [
        "ADD",
        "MAX_POOL_2D",
        "AVERAGE_POOL_2D",
        "RELU",
        "RELU6",
        "TANH",
        "LOGISTIC",
        "PAD",
        "PADV2",
        "CONCATENATION",
        "SOFTMAX",
        "MEAN",
        "MIRROR_PAD",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RSQRT",
        "BATCH_MATMUL",
        "LESS",
        "GREATER_EQUAL",
        "PACK",
        "TOPK_V2",
        "ABS",
        "GATHER_ND",
    ]
)
_INT16_OTHER = {
    "SUB": 5, "MUL": 4, "TRANSPOSE": 5, "GATHER": 4, "SLICE": 4, "MAXIMUM": 4, "MINIMUM": 4, "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4, "SPLIT": 4, "UNPACK": 4, "EQUAL": 4, "LEAKY_RELU": 2, "EXP": 2, "LOG": 2, "REDUCE_PROD": 2,
}  # fmt: skip
_BOOL = {"TRANSPOSE": 3, "GATHER": 3, "STRIDED_SLICE": 3, "UNPACK": 3, "REVERSE_V2": 2, "GATHER_ND": 5, "ARG_MAX": 3}
_WIDE = {"SUB": 3, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}
"""Broadcasting over more than four axes."""


def version_of(operator: Operator) -> int:
    """The version to write."""
    special = _SPECIAL.get(operator.code)
    return special(operator) if special else _usual(operator)


def _usual(operator: Operator) -> int:
    code = operator.code
    first = operator.inputs[0] if operator.inputs else None
    kind, rank = (first.dtype, len(first.shape)) if first else ("", 0)
    version = 1
    if kind == "int8" and code in _INT8_TWO:
        version = 2
    if kind == "int16":
        version = 3 if code in _INT16_THREE else _INT16_OTHER.get(code, 1)
    if kind == "bool":
        version = _BOOL.get(code, 1)
    if code in _WIDE and _broadcasts(operator):
        version = max(version, _WIDE[code])
    if rank > 4:
        deep = {"TRANSPOSE": 6 if rank > 5 else 4, "SLICE": 5, "STRIDED_SLICE": 4, "PAD": 4, "PADV2": 4}
        version = max(version, deep.get(code, 1))
    return version


def _broadcasts(operator: Operator) -> bool:
    shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
    return len(set(shapes)) > 1 and max(len(shape) for shape in shapes) > 4


def _types(operator: Operator) -> tuple[str, str, str]:
    first, second = operator.inputs[0], operator.inputs[1]
    assert first is not None
    assert second is not None
    return first.dtype, second.dtype, operator.outputs[0].dtype


def _per_channel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quantization is not None and tensor.quantization.scale.size > 1


def _conv(operator: Operator) -> int:
    data, weights = operator.inputs[0], operator.inputs[1]
    assert data is not None
    assert weights is not None
    types = _types(operator)
    if operator.code == "CONV_2D" and data.shape[-1] != weights.shape[-1]:
        return 6  # grouped
    if types[1] == "int4":
        return 7
    if types[0] == "int16":
        return 4 if operator.code == "CONV_2D" else 5
    if types == ("int8", "int8", "int8"):
        return 3
    if types == ("float32", "int8", "float32"):
        return (5 if _per_channel(weights) else 2) + (operator.code != "CONV_2D") * (1 if _per_channel(weights) else 2)
    dilated = operator.options.get("dilationWFactor", 1) != 1 or operator.options.get("dilationHFactor", 1) != 1
    return 2 if operator.code == "DEPTHWISE_CONV_2D" and dilated else 1


def _fully_connected(operator: Operator) -> int:
    types = _types(operator)
    if types == ("float32", "int8", "float32") and _per_channel(operator.inputs[1]):
        return 12
    if types[0] == "int16":
        return 7
    if len(operator.inputs) == 2:
        return 6
    if operator.options.get("keepNumDims"):
        return 5
    if types[1] == "int4":
        return 10
    if types == ("int8", "int8", "int8"):
        return 4
    if types == ("float32", "int8", "float32"):
        return 9 if operator.options.get("asymmetricQuantizeInputs") else 3
    return 1


def _transpose_conv(operator: Operator) -> int:
    if operator.options.get("fusedActivationFunction", "NONE") != "NONE":
        return 4
    if len(operator.inputs) == 4:
        return 3
    return 2 if _types(operator)[1] == "int8" else 1


def _resize(operator: Operator) -> int:
    half = operator.options.get("halfPixelCenters")
    corners = operator.options.get("alignCorners") and operator.code == "RESIZE_NEAREST_NEIGHBOR"
    return max(_usual(operator), 3 if half or corners else 1)


def _gather(operator: Operator) -> int:
    return max(_usual(operator), 5 if operator.options.get("batchDims") else 1)


def _split(operator: Operator) -> int:
    data = operator.inputs[1]
    return {"int16": 4, "int32": 3, "int8": 2}.get(data.dtype if data else "", 1)


def _cast(operator: Operator) -> int:
    first = operator.inputs[0]
    kinds = {first.dtype if first else "", operator.outputs[0].dtype}
    for wanted, version in (("bfloat16", 7), ("float64", 5), ("float16", 5), ("uint16", 4), ("int8", 3), ("uint32", 2)):
        if wanted in kinds:
            return version
    return 1


def _dequantize(operator: Operator) -> int:
    first = operator.inputs[0]
    kind = first.dtype if first else ""
    if kind == "int8":
        return 5 if _per_channel(first) else 2
    return {"int4": 6, "int16": 3, "float16": 3}.get(kind, 1)


def _quantize(operator: Operator) -> int:
    made = operator.outputs[0]
    if made.dtype == "int4":
        return 4
    if _per_channel(made):
        return 3
    return 2 if made.dtype == "int16" else 1


def _broadcast_to(operator: Operator) -> int:
    first = operator.inputs[0]
    return 3 if first is not None and first.dtype in ("int8", "int16") else 2


def _fill(operator: Operator) -> int:
    value = operator.inputs[1]
    return {"int8": 3, "int16": 3, "bool": 2}.get(value.dtype if value else "", 1)


def _tile(operator: Operator) -> int:
    return 3 if operator.inputs[0] is not None and operator.inputs[0].dtype == "int8" else 1


def _where(operator: Operator) -> int:
    return 1 if operator.inputs[0] is not None and operator.inputs[0].dtype == "bool" else 2


def _abs(operator: Operator) -> int:
    first = operator.inputs[0]
    return {"int32": 5, "int16": 3, "int8": 2}.get(first.dtype if first else "", 1)


def _sign(operator: Operator) -> int:
    return 2 if operator.inputs[0] is not None and operator.inputs[0].dtype == "int32" else 1


def _floor_div(operator: Operator) -> int:
    first = operator.inputs[0]
    return {"int16": 3, "int8": 3, "float32": 2}.get(first.dtype if first else "", 1)


_SPECIAL = {
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _conv, "FULLY_CONNECTED": _fully_connected, "TRANSPOSE_CONV": _transpose_conv,
    "RESIZE_BILINEAR": _resize, "RESIZE_NEAREST_NEIGHBOR": _resize, "GATHER": _gather, "SPLIT": _split, "CAST": _cast,
    "DEQUANTIZE": _dequantize, "QUANTIZE": _quantize, "BROADCAST_TO": _broadcast_to, "FILL": _fill, "TILE": _tile,
    "WHERE": _where, "ABS": _abs, "SIGN": _sign, "FLOOR_DIV": _floor_div,
}  # fmt: skip
