"""Functions of one tensor: inverse trigonometry, infinities, remainders, powers."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells


def _log1p(s: Sketch, x: str) -> str:
    """The logarithm of 1 + x; near zero, where LOG loses all of x, by the series of 2 atanh(z), z = x / (2 + x)."""
    z = s.op("Div", x, s.op("Add", x, s.const(np.float32(2))))
    square = s.op("Mul", z, z)
    series = s.const(np.float32(1 / 7))
    for odd in (5, 3, 1):
        series = s.op("Add", s.op("Mul", square, series), s.const(np.float32(1 / odd)))
    near = s.op("Mul", s.op("Add", z, z), series)
    far = s.op("Log", s.op("Add", x, s.const(np.float32(1))))
    return s.op("Where", s.op("Less", s.op("Abs", x), s.const(np.float32(0.3))), near, far)


def _float(s: Sketch, index: int = 0) -> str:
    x = s.input(index)
    return x if s.dtype(index) == "float32" else s.cast(x, "float32")


def _finish(s: Sketch, x: str) -> None:
    s.result(x if s.dtype() == "float32" else s.cast(x, s.dtype()))


def _atan2(s: Sketch, y: str, x: str) -> str:
    return s.own("Atan2", y, x, shape=s.shape(), dtype="float32")


@spells("Atan", "Asin", "Acos")
def arc(s: Sketch) -> None:
    """By ATAN2, with sqrt((1 - x)(1 + x)) as the other side."""
    x, one = _float(s), s.const(np.float32(1))
    if s.node.op_type == "Atan":
        ones = (
            s.op("Add", s.op("Mul", x, s.const(np.float32(0))), one)
            if s.shape() == ()
            else s.const(np.ones(s.shape(), np.float32))
        )
        _finish(s, _atan2(s, x, ones))
        return
    side = s.op("Sqrt", s.op("Mul", s.op("Sub", one, x), s.op("Add", one, x)))
    _finish(s, _atan2(s, x, side) if s.node.op_type == "Asin" else _atan2(s, side, x))


@spells("Asinh", "Acosh", "Atanh")
def area(s: Sketch) -> None:
    """By log(1 + u), u chosen so that nothing is lost near zero (near one for acosh)."""
    x, one, half = _float(s), s.const(np.float32(1)), s.const(np.float32(0.5))
    if s.node.op_type == "Atanh":
        u = s.op("Div", s.op("Add", x, x), s.op("Sub", one, x))
        _finish(s, s.op("Mul", _log1p(s, u), half))
        return
    if s.node.op_type == "Acosh":
        t = s.op("Sub", x, one)
        root = s.op("Sqrt", s.op("Mul", t, s.op("Add", x, one)))
        _finish(s, _log1p(s, s.op("Add", t, root)))
        return
    size = s.op("Abs", x)
    root = s.op("Sqrt", s.op("Add", s.op("Mul", x, x), one))
    u = s.op("Add", size, s.op("Mul", size, s.op("Div", size, s.op("Add", root, one))))
    _finish(s, s.op("Mul", s.op("Sign", x), _log1p(s, u)))


@spells("IsInf")
def is_infinite(s: Sketch) -> None:
    """Equal to infinity, or to its negative."""
    positive, negative = s.attribute("detect_positive", 1), s.attribute("detect_negative", 1)
    x = _float(s)
    if positive and negative:
        x = s.op("Abs", x)
    elif negative:
        x = s.op("Neg", x)
    elif not positive:
        s.result(s.const(np.zeros(s.shape(), np.bool_)))
        return
    s.result(s.op("Equal", x, s.const(np.float32(np.inf))))


@spells("Mod")
def remainder(s: Sketch) -> None:
    """With the sign of the dividend (fmod=1); integers of 8 and 16 bits by 32."""
    kind = "float32" if s.dtype().startswith("float") else "int32"
    first, second = (name if s.dtype(i) == kind else s.cast(name, kind) for i, name in enumerate(s.node.inputs))
    if not s.attribute("fmod", 0):
        found = s.op("Mod", first, second)
    else:
        found = s.op("Mul", s.op("Sign", first), s.op("Mod", s.op("Abs", first), s.op("Abs", second)))
    s.result(found if kind == s.dtype() else s.cast(found, s.dtype()))


@spells("Pow")
def mixed_power(s: Sketch) -> None:
    """Base and exponent of different types: in float32."""
    _finish(s, s.op("Pow", _float(s), _float(s, 1)))


@spells("Sign", "Abs", "Neg", "Reciprocal")
def of_integers(s: Sketch) -> None:
    """Of small integers, by int32; of halves, by float32."""
    kind = "float32" if s.dtype().startswith("float") else "int32"
    s.result(s.cast(s.op(s.node.op_type, s.cast(s.x, kind)), s.dtype()))


@spells("CastLike")
def cast_like(s: Sketch) -> None:
    """A Cast."""
    s.result(s.cast(s.x, s.dtype(1)))


@spells("Swish")
def swish(s: Sketch) -> None:
    """The product x * sigmoid(alpha x)."""
    alpha = float(s.attribute("alpha", 1.0))
    inner = s.x if alpha == 1.0 else s.op("Mul", s.x, s.like(alpha))
    s.result(s.op("Mul", s.x, s.op("Sigmoid", inner)))


@spells("Shrink")
def shrink(s: Sketch) -> None:
    """Zero within lambd, nearer to zero by bias outside."""
    bias, limit, kind = float(s.attribute("bias", 0.0)), float(s.attribute("lambd", 0.5)), s.dtype()
    above = s.op("Greater", s.x, s.const(np.asarray(limit, kind)))
    below = s.op("Less", s.x, s.const(np.asarray(-limit, kind)))
    low = s.op("Where", below, s.op("Add", s.x, s.const(np.asarray(bias, kind))), s.const(np.asarray(0, kind)))
    s.result(s.op("Where", above, s.op("Sub", s.x, s.const(np.asarray(bias, kind))), low))
