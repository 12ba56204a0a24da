"""Operators that only move values: reshaping, concatenating, cutting, padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite.lift.builder import Builder, CannotLiftError, Op, lifts

_FIRST = (0, 2, 3, 1)
"""Axis of the file -> axis with the channels first."""
_END = np.iinfo(np.int64).max


@lifts("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _reshape(graph: Builder, op: Op) -> None:
    made = graph.node("Reshape", [graph.plain(op.inputs[0]), graph.ints(graph.shape(op.outputs[0]))])
    graph.set_plain(op.outputs[0], made)


@lifts("TRANSPOSE")
def _transpose(graph: Builder, op: Op) -> None:
    order = [int(axis) for axis in graph.known(op.inputs[1])]
    graph.set_plain(op.outputs[0], graph.node("Transpose", [graph.plain(op.inputs[0])], perm=order))


@lifts("CONCATENATION")
def _concat(graph: Builder, op: Op) -> None:
    rank = len(graph.shape(op.outputs[0]))
    axis = int(op.option("axis")) % rank
    if rank == 4 and any(graph.is_first(index) for index in op.inputs):
        made = graph.node("Concat", [graph.first(index) for index in op.inputs], axis=_FIRST[axis])
        graph.set_first(op.outputs[0], graph.activate(made, op))
    else:
        made = graph.node("Concat", [graph.plain(index) for index in op.inputs], axis=axis)
        graph.set_plain(op.outputs[0], graph.activate(made, op))


@lifts("PAD", "PADV2", "MIRROR_PAD")
def _pad(graph: Builder, op: Op) -> None:
    pads = graph.known(op.inputs[1]).astype(np.int64)  # (rank, 2)
    first = len(pads) == 4 and graph.is_first(op.inputs[0])
    if first:
        pads = pads[[0, 3, 1, 2]]
    source = graph.first(op.inputs[0]) if first else graph.plain(op.inputs[0])
    inputs = [source, graph.ints([*pads[:, 0], *pads[:, 1]])]
    if op.kind == "MIRROR_PAD":
        if int(op.option("mode")) != 0:
            raise CannotLiftError("its mode is SYMMETRIC, expected REFLECT")
        made = graph.node("Pad", inputs, mode="reflect")
    else:
        value = graph.plain(op.inputs[2]) if op.kind == "PADV2" else None
        if value is not None and graph.shape(op.inputs[2]):
            value = graph.node("Reshape", [value, graph.ints([])])
        made = graph.node("Pad", [*inputs, *([value] if value else [])])
    if first:
        graph.set_first(op.outputs[0], made)
    else:
        graph.set_plain(op.outputs[0], made)


@lifts("SLICE")
def _slice(graph: Builder, op: Op) -> None:
    begin, size = (graph.known(index).astype(np.int64) for index in op.inputs[1:3])
    end = [_END if count < 0 else start + count for start, count in zip(begin, size, strict=True)]
    _cut(graph, op, list(begin), end, [1] * len(begin))


@lifts("STRIDED_SLICE")
def _strided_slice(graph: Builder, op: Op) -> None:
    begin, end, step = ([int(value) for value in graph.known(index)] for index in op.inputs[1:4])
    flags = {name: int(op.option(f"{name}Mask")) for name in ("begin", "end", "ellipsis", "newAxis", "shrinkAxis")}
    if flags["ellipsis"] or flags["newAxis"]:
        raise CannotLiftError("it has an ellipsis or a new axis")
    if op.option("offset", default=False):
        raise CannotLiftError("its ends are counted from its beginnings")
    for axis in range(len(begin)):
        bit = 1 << axis
        if flags["shrinkAxis"] & bit:
            end[axis], step[axis] = (begin[axis] + 1) or _END, 1
            continue
        if flags["begin"] & bit:
            begin[axis] = 0 if step[axis] > 0 else _END
        if flags["end"] & bit:
            end[axis] = _END if step[axis] > 0 else -_END
    _cut(graph, op, begin, end, step)


def _cut(graph: Builder, op: Op, begin: list[int], end: list[int], step: list[int]) -> None:
    axes = [
        axis
        for axis in range(len(begin))
        if (begin[axis], step[axis]) != (0, 1) or end[axis] < graph.shape(op.inputs[0])[axis]
    ]
    source = graph.plain(op.inputs[0])
    if axes:
        picked: list[list[Any]] = [[values[axis] for axis in axes] for values in (begin, end)]
        steps = graph.ints([step[axis] for axis in axes])
        source = graph.node("Slice", [source, *(graph.ints(values) for values in picked), graph.ints(axes), steps])
    graph.set_plain(op.outputs[0], graph.node("Reshape", [source, graph.ints(graph.shape(op.outputs[0]))]))


@lifts("SPLIT", "SPLIT_V")
def _split(graph: Builder, op: Op) -> None:
    source, axis_at = (op.inputs[1], op.inputs[0]) if op.kind == "SPLIT" else (op.inputs[0], op.inputs[2])
    axis = int(np.atleast_1d(graph.known(axis_at))[0]) % len(graph.shape(source))
    sizes = [graph.shape(index)[axis] for index in op.outputs]
    first = len(graph.shape(source)) == 4 and graph.is_first(source)
    name = graph.first(source) if first else graph.plain(source)
    made = graph.many("Split", [name, graph.ints(sizes)], outputs=len(op.outputs), axis=_FIRST[axis] if first else axis)
    for index, part in zip(op.outputs, made, strict=True):
        (graph.set_first if first else graph.set_plain)(index, part)


@lifts("PACK")
def _pack(graph: Builder, op: Op) -> None:
    axis = int(op.option("axis")) % len(graph.shape(op.outputs[0]))
    parts = [graph.node("Unsqueeze", [graph.plain(index), graph.ints([axis])]) for index in op.inputs]
    graph.set_plain(op.outputs[0], graph.node("Concat", parts, axis=axis))


@lifts("UNPACK")
def _unpack(graph: Builder, op: Op) -> None:
    axis = int(op.option("axis")) % len(graph.shape(op.inputs[0]))
    parts = graph.many(
        "Split", [graph.plain(op.inputs[0]), graph.ints([1] * len(op.outputs))], outputs=len(op.outputs), axis=axis
    )
    for index, part in zip(op.outputs, parts, strict=True):
        graph.set_plain(index, graph.node("Squeeze", [part, graph.ints([axis])]))


@lifts("GATHER")
def _gather(graph: Builder, op: Op) -> None:
    if int(op.option("batchDims")):
        raise CannotLiftError("it has batch dimensions")
    axis = int(op.option("axis")) % len(graph.shape(op.inputs[0]))
    graph.set_plain(op.outputs[0], graph.node("Gather", [graph.plain(index) for index in op.inputs], axis=axis))


@lifts("TILE", "BROADCAST_TO")
def _repeat(graph: Builder, op: Op) -> None:
    counts = graph.ints([int(value) for value in graph.known(op.inputs[1])])
    kind = "Tile" if op.kind == "TILE" else "Expand"
    graph.set_plain(op.outputs[0], graph.node(kind, [graph.plain(op.inputs[0]), counts]))
