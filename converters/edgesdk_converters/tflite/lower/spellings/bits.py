"""Operators on the bits of integers, by arithmetic that every runtime has."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_LOWEST = -(2**31)


def _check(s: Sketch) -> None:
    if s.dtype() in ("uint32", "uint64"):
        s.refuse(f"it works on {s.dtype()}, and TFLite computes in int32", "Cast to int32 before it")


@spells("BitShift")
def bit_shift(s: Sketch) -> None:
    """Left by a product, right by a quotient, with powers of two from a table."""
    _check(s)
    if s.attribute("direction") == "RIGHT" and s.dtype().startswith("int"):
        s.refuse("it shifts numbers with a sign to the right", "Divide, or use an unsigned type")
    # A shift by all bits or more, or by less than none, leaves nothing of what is shifted left.
    table = s.const(np.asarray([*(2**i for i in range(31)), _LOWEST, 0], np.int32))
    x, by = s.cast(s.x, "int32"), s.cast(s.input(1), "int32")
    if s.attribute("direction") == "LEFT":
        most = s.const(np.int32(min(np.iinfo(s.dtype()).bits, 32)))
        outside = s.op("Or", s.op("Less", by, s.const(np.int32(0))), s.op("GreaterOrEqual", by, most))
        by = s.op("Where", outside, s.const(np.int32(32)), by)
    power = s.op("Gather", table, by, axis=0)
    if s.attribute("direction") == "LEFT":
        made = s.op("Mul", x, power)
    else:
        made = s.op("Div", s.op("Sub", x, s.op("Mod", x, power)), power)
    if s.attribute("direction") == "LEFT" and s.dtype() != "int32":
        made = _wrapped(s, made)
    s.result(s.cast(made, s.dtype()))


def _wrapped(s: Sketch, x: str) -> str:
    """Back into the range of the type."""
    limits = np.iinfo(s.dtype())
    if limits.bits >= 32:
        return x
    made = s.op("Mod", s.op("Sub", x, s.const(np.int32(limits.min))), s.const(np.int32(2**limits.bits)))
    return s.op("Add", made, s.const(np.int32(limits.min)))


@spells("BitwiseNot")
def bitwise_not(s: Sketch) -> None:
    """All ones minus x."""
    _check(s)
    ones = -1 if np.iinfo(s.dtype()).min < 0 else int(np.iinfo(s.dtype()).max)
    s.result(s.cast(s.op("Sub", s.const(np.int32(ones)), s.cast(s.x, "int32")), s.dtype()))


@spells("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(s: Sketch) -> None:
    """Bit by bit along an axis of its own, the sign by itself."""
    _check(s)
    limits = np.iinfo(s.dtype())
    signed = limits.min < 0
    bits = min(limits.bits, 32) - (1 if signed else 0)
    powers = s.const((2 ** np.arange(bits, dtype=np.int64)).astype(np.int32))
    rank = max(len(s.shape(0)), len(s.shape(1)))
    parts, signs = [], []
    for index in (0, 1):
        x = s.cast(s.input(index), "int32")
        if signed:
            sign = s.op("Less", x, s.const(np.int32(0)))
            signs.append(sign)
            lowest = _LOWEST if limits.bits >= 32 else int(limits.min)
            x = s.op("Where", sign, s.op("Sub", x, s.const(np.int32(lowest))), x)
        wide = s.reshape(x, *((1,) * (rank - len(s.shape(index))) + s.shape(index)), 1)
        parts.append(s.op("Mod", s.op("Div", wide, powers), s.const(np.int32(2))))
    code = {"BitwiseAnd": "Min", "BitwiseOr": "Max"}.get(s.node.op_type)
    made = s.op(code, *parts) if code else s.op("Mod", s.op("Add", *parts), s.const(np.int32(2)))
    total = s.op("ReduceSum", s.op("Mul", made, powers), s.ints(-1), keepdims=0)
    if signed:
        logic = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}[s.node.op_type]
        lowest = _LOWEST if limits.bits >= 32 else int(limits.min)
        offset = s.op("Where", s.op(logic, *signs), s.const(np.int32(lowest)), s.const(np.int32(0)))
        total = s.op("Add", total, offset)
    s.result(s.cast(total, s.dtype()))
