"""Sparse constants of TFLite as the arrays that they stand for.

The format is that of ``SparsityParameters`` in the LiteRT schema (tensorflow/lite/schema/schema.fbs): dimensions, whole ones first and
blocks behind them, in an order of their own; each dense, or compressed rows with segments and indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.tflite import flatbuffer as fb

Array = NDArray[Any]
_DENSE = 0


def densify(values: Array, shape: Sequence[int], sparsity: Any) -> Array:
    """The whole array.

    Args:
        values: What the file stores, 1-D, in traversal order.
        shape: Of the whole.
        sparsity: ``SparsityParametersT`` of the schema.

    Raises:
        ValueError: The description contradicts itself or the values.
    """
    rank, elements = len(shape), math.prod(shape)
    order, blocks = fb.ids(sparsity.traversalOrder), fb.ids(sparsity.blockMap)
    levels = list(sparsity.dimMetadata or [])
    if (
        sorted(order) != list(range(rank + len(blocks)))
        or len(levels) != len(order)
        or set(order[:rank]) != set(range(rank))
    ):
        raise ValueError("its sparse dimensions are not those of its shape")
    if any(not 0 <= axis < rank for axis in blocks):
        raise ValueError("its sparse blocks lie along axes that it does not have")
    where: list[NDArray[np.int64]] = []
    parent = np.zeros(1, np.int64)
    for level in levels:
        repeats, index, parent = _expand(level, parent, elements)
        where = [np.repeat(one, repeats) for one in where] + [index]
    if len(parent) != len(values):
        raise ValueError(f"{len(values)} sparse values are stored where its indices ask for {len(parent)}")
    position = [np.zeros(len(values), np.int64)] * rank
    for dimension, index in zip(order, where, strict=True):
        if dimension < rank:
            position[dimension] = index
        else:
            axis = blocks[dimension - rank]
            position[axis] = position[axis] * int(levels[order.index(dimension)].denseSize) + index
    if any(len(at) and (at.min() < 0 or at.max() >= size) for at, size in zip(position, shape, strict=True)):
        raise ValueError("a sparse index lies outside its shape")
    whole: Array = np.zeros(shape, values.dtype)
    whole[tuple(position)] = values
    return whole


def _expand(
    level: Any, parent: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """How often each entry so far is repeated, the index of each new one along this dimension, and the entries' numbers."""
    if int(level.format) == _DENSE:
        size = int(level.denseSize)
        if not 1 <= size <= most or len(parent) * size > most:
            raise ValueError("its sparse dimensions hold more than its shape")
        index = np.tile(np.arange(size, dtype=np.int64), len(parent))
        return np.full(len(parent), size, np.int64), index, np.repeat(parent, size) * size + index
    segments, indices = _vector(level.arraySegments), _vector(level.arrayIndices)
    if not len(parent):
        return parent, parent, parent
    if parent.max() + 1 >= len(segments):
        raise ValueError("its sparse segments are too few")
    begin, end = segments[parent], segments[parent + 1]
    counts = end - begin
    if (counts < 0).any() or begin.min() < 0 or end.max() > len(indices) or int(counts.sum()) > most:
        raise ValueError("its sparse segments do not fit its indices")
    at = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    return counts, indices[at], at


def _vector(table: Any) -> NDArray[np.int64]:
    values = getattr(table, "values", None)
    return np.asarray([] if values is None else values, np.int64)
