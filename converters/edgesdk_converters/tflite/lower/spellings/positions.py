"""Operators about positions, by one Gather or one scatter on flattened tensors."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array
from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_DENSE = 1 << 22
"""Elements of a mask that a scatter with max, min or mul may take."""


def strides(shape: tuple[int, ...]) -> list[int]:
    """Of the axes of a C-ordered array, in elements."""
    return [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]


def _counted(s: Sketch, index: int, sizes: Array | int) -> str:
    """Positions as int64, negative ones counted from the end."""
    constant = s.constant(index)
    if constant is not None:
        return s.const(np.where(constant < 0, constant + sizes, constant).astype(np.int64))
    x = s.input(index)
    negative = s.op("Less", x, s.like(0, index))
    return s.op("Where", negative, s.op("Add", x, s.like(sizes, index)), x)


def _grid(shape: tuple[int, ...], axes: list[int], along: list[int]) -> Array:
    """The part of a flat position that the position in the index tensor itself gives."""
    total = np.zeros(shape, np.int64)
    for axis in axes:
        total += np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))]) * along[axis]
    return total


def _elements(s: Sketch, axis: int) -> str:
    """Flat positions of the elements that GatherElements and ScatterElements name; the shape of the indices."""
    data, index = s.shape(0), s.shape(1)
    along = strides(data)
    where = _counted(s, 1, data[axis])
    if along[axis] != 1:
        where = s.op("Mul", where, s.like(along[axis], 1))
    rest = _grid(index, [a for a in range(len(data)) if a != axis], along)
    return s.op("Add", where, s.const(rest, s.dtype(1))) if rest.any() else where


@spells("GatherElements")
def gather_elements(s: Sketch) -> None:
    """Gather from the flattened tensor."""
    where = _elements(s, s.axis(0))
    size = int(np.prod(s.shape(0)))
    count = int(np.prod(s.shape(1)))
    found = s.op("Gather", s.reshape(s.x, size), s.reshape(where, count), axis=0)
    s.result(s.reshape(found, *s.shape(1)))


def _tuples(s: Sketch, batch: int) -> tuple[str, int, tuple[int, ...]]:
    """Flat positions of the slices that rows of indices name, how many slices there are, and the shape of one."""
    data, index = s.shape(0), s.shape(1)
    depth = index[-1]
    head, rest = data[: batch + depth], data[batch + depth :]
    along = strides(head)
    where = _counted(s, 1, np.asarray(data[batch : batch + depth]))
    flat = s.op("Mul", where, s.like(np.asarray(along[batch:]), 1))
    flat = s.op("ReduceSum", flat, s.ints(len(index) - 1), keepdims=0)
    if batch:
        base = _grid(index[:-1], list(range(batch)), along)
        flat = s.op("Add", flat, s.const(base, s.dtype(1)))
    return s.reshape(flat, int(np.prod(index[:-1], dtype=np.int64))), int(np.prod(head)), rest


@spells("GatherND")
def gather_nd(s: Sketch) -> None:
    """With batch dimensions: Gather from the tensor with its leading axes flattened."""
    where, count, rest = _tuples(s, int(s.attribute("batch_dims", 0)))
    found = s.op("Gather", s.reshape(s.x, count, *rest), where, axis=0)
    s.result(s.reshape(found, *s.shape(1)[:-1], *rest))


@spells("ScatterElements", "Scatter")
def scatter_elements(s: Sketch) -> None:
    """A scatter on the flattened tensor."""
    where, count = _elements(s, s.axis(0)), int(np.prod(s.shape(1)))
    found = _scatter(s, s.reshape(where, count), int(np.prod(s.shape(0))), count, 1)
    s.result(s.reshape(found, *s.shape(0)))


@spells("ScatterND")
def scatter_nd(s: Sketch) -> None:
    """A scatter of slices on the tensor with its leading axes flattened."""
    where, count, rest = _tuples(s, 0)
    number = int(np.prod(s.shape(1)[:-1], dtype=np.int64))
    found = _scatter(s, where, count, number, int(np.prod(rest, dtype=np.int64)))
    s.result(s.reshape(found, *s.shape(0)))


def _scatter(s: Sketch, where: str, rows: int, count: int, width: int) -> str:
    """Put ``count`` rows of the third input into the first one's ``rows``; (rows, width)."""
    reduction, kind = s.attribute("reduction", "none"), s.dtype()
    if kind == "bool":
        s.refuse("it scatters bool", "Cast to int32 before it and back after it")
    data = s.reshape(s.x, rows, width)
    updates = s.reshape(s.input(2), count, width)
    if reduction in ("none", "add"):
        places = s.reshape(where, count, 1)
        put = s.own("ScatterSum", places, updates, shape=(rows, width), dtype=kind)
        if reduction == "add":
            return s.op("Add", data, put)
        hits = s.own("ScatterSum", places, s.const(np.ones((count, 1), np.float32)), shape=(rows, 1), dtype="float32")
        return s.op("Where", s.op("Greater", hits, s.const(np.float32(0))), put, data)
    if rows * count * width > _DENSE:
        s.refuse(f"its reduction {reduction!r} needs a mask of {rows * count * width:,} elements", "Use add or none")
    mask = s.op("Equal", s.reshape(where, count, 1, 1), s.const(np.arange(rows).reshape(1, rows, 1), s.dtype(1)))
    limits = np.finfo(kind) if kind.startswith("float") else np.iinfo(kind)
    neutral = {"mul": 1, "max": -np.inf if kind.startswith("float") else limits.min}.get(
        reduction, np.inf if kind.startswith("float") else limits.max
    )
    spread = s.op("Where", mask, s.reshape(updates, count, 1, width), s.like(neutral))
    code = {"mul": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}[reduction]
    best = s.op(code, spread, s.ints(0), keepdims=0)
    return s.op({"mul": "Mul", "max": "Max", "min": "Min"}[reduction], data, best)


@spells("TensorScatter")
def tensor_scatter(s: Sketch) -> None:
    """Every place asks which update comes to it: past cache outside, update inside."""
    shape, new = s.shape(0), s.shape(1)
    axis = s.axis(-2)
    length, count, batch = shape[axis], new[axis], shape[0]
    at = np.arange(length, dtype=np.int32)
    if s.input(2):
        start = s.reshape(s.cast(s.input(2), "int32"), batch, 1)
        where = s.op("Sub", s.const(at.reshape(1, length)), start)
    else:
        where = s.const(np.tile(at.reshape(1, length), (batch, 1)))
    if s.attribute("mode", "linear") == "circular":
        where = s.op("Mod", where, s.const(np.int32(length)))
    inside = s.op(
        "And", s.op("GreaterOrEqual", where, s.const(np.int32(0))), s.op("Less", where, s.const(np.int32(count)))
    )
    safe = s.op("Min", s.op("Max", where, s.const(np.int32(0))), s.const(np.int32(count - 1)))
    order = [0, axis, *(a for a in range(1, len(shape)) if a != axis)]
    back = [order.index(a) for a in range(len(shape))]
    rest = tuple(shape[a] for a in order[2:])
    moved = s.reshape(s.op("Transpose", s.input(1), perm=order), batch * count, *rest)
    base = s.const((np.arange(batch, dtype=np.int32) * count).reshape(batch, 1))
    flat = s.reshape(s.op("Add", safe, base), batch * length)
    found = s.op("Transpose", s.reshape(s.op("Gather", moved, flat, axis=0), batch, length, *rest), perm=back)
    mask = s.reshape(inside, *(size if a in (0, axis) else 1 for a, size in enumerate(shape)))
    s.result(s.op("Where", mask, found, s.x))


@spells("Hardmax")
def hardmax(s: Sketch) -> None:
    """One at the first largest, zero elsewhere."""
    axis = s.axis(-1)
    best = s.op("ArgMax", s.x, axis=axis, keepdims=0)
    s.result(s.op("OneHot", best, s.ints(s.shape()[axis]), s.like([0, 1]), axis=axis))


@spells("OneHot")
def one_hot(s: Sketch) -> None:
    """Positions of another type."""
    axis = int(s.attribute("axis", -1))
    depth, values = s.constant(1, "depth"), s.constant(2, "list of values")
    assert depth is not None
    assert values is not None
    s.result(s.op("OneHot", s.cast(s.x, "int64"), s.ints(int(depth.reshape(-1)[0])), s.const(values), axis=axis))


@spells("TopK")
def smallest(s: Sketch) -> None:
    """The smallest: the largest of the negatives."""
    if s.attribute("largest", 1):
        s.refuse("its k is computed", "Make it constant")
    small = s.dtype() in ("int8", "uint8", "int16", "uint16")  # the negative of the lowest is none of them
    x = s.cast(s.x, "int32") if small else s.x
    found = s.outs("TopK", s.op("Neg", x), s.input(1), outputs=2, axis=s.axis(-1), largest=1, sorted=1)
    values = s.op("Neg", found[0])
    s.result(s.cast(values, s.dtype()) if small else values, found[1])


@spells("ArgMax", "ArgMin")
def last_extremum(s: Sketch) -> None:
    """The last of equal values: the first one from behind."""
    if not s.attribute("select_last_index", 0):
        s.refuse(f"it compares {s.dtype()}", "Cast to float32 before it")
    axis, keep = s.axis(0), int(s.attribute("keepdims", 1))
    size = s.shape()[axis]
    behind = s.slice(s.x, axis, -1, -size - 1, -1)
    found = s.op(s.node.op_type, behind, axis=axis, keepdims=keep)
    s.result(s.op("Sub", s.const(np.int64(size - 1)), found))


@spells("Compress")
def compress(s: Sketch) -> None:
    """With a constant condition it is a Gather."""
    condition = s.constant(1, "condition")
    assert condition is not None
    chosen = s.ints(*np.flatnonzero(condition))
    if "axis" in s.node.attributes:
        s.result(s.op("Gather", s.x, chosen, axis=s.axis(0)))
    else:
        s.result(s.op("Gather", s.reshape(s.x, int(np.prod(s.shape()))), chosen, axis=0))


@spells("ReduceMax", "ReduceMin")
def reduce_truth(s: Sketch) -> None:
    """Of truth values, by int32."""
    if s.dtype() != "bool":
        s.refuse(f"it reduces {s.dtype()}", "Cast to float32 before it")
    attributes = dict(s.node.attributes)
    axes = attributes.pop("axes", None)
    found = s.constant(1, "list of axes")
    if found is not None:
        axes = [int(axis) for axis in found.reshape(-1)]
    inputs = [s.cast(s.x, "int32")] + ([s.ints(*axes)] if axes else [])
    s.result(s.cast(s.op(s.node.op_type, *inputs, **attributes), s.dtype()))


@spells("Trilu")
def triangle(s: Sketch) -> None:
    """Zero on one side of a diagonal."""
    k = s.number(1, "diagonal", 0)
    ones = np.ones(s.shape()[-2:], np.bool_)
    mask = np.triu(ones, k) if s.attribute("upper", 1) else np.tril(ones, k)
    s.result(s.op("Where", s.const(mask), s.x, s.like(0)))


@spells("EyeLike")
def eye_like(s: Sketch) -> None:
    """A constant."""
    from onnx import helper

    kind = s.dtype()
    if "dtype" in s.node.attributes:
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(s.attribute("dtype"))).name
    s.result(s.const(np.eye(s.shape()[0], s.shape()[1], k=int(s.attribute("k", 0))), kind))


@spells("CumSum", "CumProd")
def cumulated(s: Sketch) -> None:
    """Each step doubles how far back it reaches."""
    axis = s.number(1, "axis", 0) % len(s.shape())
    shape, product = s.shape(), s.node.op_type == "CumProd"
    size = shape[axis]
    turn = bool(s.attribute("reverse", 0))

    def shifted(x: str, by: int) -> str:
        edge = list(shape)
        edge[axis] = min(by, size)
        filler = s.const(np.full(edge, 1 if product else 0), s.dtype())
        if by >= size:
            return filler
        kept = s.slice(x, axis, by, size) if turn else s.slice(x, axis, 0, size - by)
        return s.op("Concat", *([kept, filler] if turn else [filler, kept]), axis=axis)

    x, reach = (shifted(s.x, 1) if s.attribute("exclusive", 0) else s.x), 1
    while reach < size:
        x = s.op("Mul" if product else "Add", x, shifted(x, reach))
        reach *= 2
    s.result(x)
