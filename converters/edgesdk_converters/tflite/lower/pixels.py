"""Bytes at the input of a graph that computes in float."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk_converters.tflite.lower.ir import Operator, Tensor


def dequantize_directly(operators: Sequence[Operator]) -> list[Operator]:
    """DEQUANTIZE takes uint8 as well as int8: where it follows the QUANTIZE between the two, it needs none."""
    bytes_of: dict[int, Tensor] = {}
    for operator in operators:
        source, made = operator.inputs[0], operator.outputs[0]
        if source is None:
            continue
        if operator.code == "QUANTIZE" and (source.dtype, made.dtype) == ("uint8", "int8"):
            bytes_of[id(made)] = source
        elif operator.code == "DEQUANTIZE" and id(source) in bytes_of:
            operator.inputs[0] = bytes_of[id(source)]
    return list(operators)
