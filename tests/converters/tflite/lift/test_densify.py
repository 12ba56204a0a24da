from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk_converters.tflite.lift.densify import densify

Array = NDArray[Any]


def sparsify(whole: Array, blocks: dict[int, int], order: Sequence[int], sparse: Sequence[bool]) -> tuple[Array, Any]:
    """The same as values and SparsityParameters: axes cut into blocks, dimensions in an order of their own, each dense or compressed."""
    rank, sizes = whole.ndim, [blocks.get(axis, 1) for axis in range(whole.ndim)]
    cut = whole.reshape([part for n, b in zip(whole.shape, sizes, strict=True) for part in (n // b, b)])
    inner = [2 * axis + 1 for axis in blocks]
    unit = [2 * axis + 1 for axis in range(rank) if axis not in blocks]
    cut = cut.transpose([2 * axis for axis in range(rank)] + inner + unit).reshape(
        [n // b for n, b in zip(whole.shape, sizes, strict=True)] + list(blocks.values())
    )
    nodes, levels = [cut.transpose(order)], []
    for level, dimension in enumerate(order):
        size, meta = cut.shape[dimension], schema.DimensionMetadataT()
        assert level < len(sparse)
        if not sparse[level]:
            meta.format, meta.denseSize = schema.DimensionType.DENSE, size
            nodes = [node[i] for node in nodes for i in range(size)]
        else:
            kept = [[i for i in range(size) if np.any(node[i])] for node in nodes]
            meta.format = schema.DimensionType.SPARSE_CSR
            meta.denseSize = size if dimension >= rank else 0
            meta.arraySegments, meta.arrayIndices = schema.Int32VectorT(), schema.Uint8VectorT()
            meta.arraySegments.values = np.cumsum([0, *map(len, kept)])
            meta.arrayIndices.values = [i for found in kept for i in found]
            nodes = [node[i] for node, found in zip(nodes, kept, strict=True) for i in found]
        levels.append(meta)
    made = schema.SparsityParametersT()
    made.traversalOrder, made.blockMap, made.dimMetadata = list(order), list(blocks), levels
    return np.asarray(nodes, whole.dtype), made


@st.composite
def described(draw: Any) -> tuple[Array, Array, Any]:
    rank = draw(st.integers(1, 4))
    blocks = {axis: draw(st.sampled_from([1, 2, 4])) for axis in range(rank) if draw(st.booleans())}
    shape = [draw(st.integers(1, 3)) * blocks.get(axis, 1) for axis in range(rank)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    whole = (rng.normal(size=shape) * (rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0])))).astype(np.float16)
    order = [*draw(st.permutations(range(rank))), *range(rank, rank + len(blocks))]
    values, sparsity = sparsify(whole, blocks, order, draw(st.lists(st.booleans(), min_size=9, max_size=9)))
    return whole, values, sparsity


@given(described())
def test_densify__gives_back_the_whole(case: tuple[Array, Array, Any]) -> None:
    whole, values, sparsity = case
    np.testing.assert_array_equal(densify(values, whole.shape, sparsity), whole)


@given(described(), st.data())
def test_densify__damaged_descriptions_are_refused_or_read(case: tuple[Array, Array, Any], data: st.DataObject) -> None:
    """A ValueError or an array of the right shape; never numpy's own complaints, nor memory for a size that is made up."""
    whole, values, sparsity = case
    number = data.draw(st.sampled_from([-1, 0, 1, 5, 2**31 - 1]))
    level = data.draw(st.sampled_from(sparsity.dimMetadata))
    kind = data.draw(st.integers(0, 4))
    if kind == 0:
        level.denseSize = number
    elif kind == 1 and level.arraySegments is not None:
        level.arraySegments.values = [number] * len(level.arraySegments.values)
    elif kind == 2 and level.arrayIndices is not None:
        level.arrayIndices.values = [number] * len(level.arrayIndices.values)
    elif kind == 3:
        level.format = 1 - level.format
    else:
        sparsity.blockMap = [number] * len(sparsity.blockMap)
    try:
        assert densify(values, whole.shape, sparsity).shape == whole.shape
    except ValueError as error:
        assert "spars" in str(error)  # noqa: PT017 - either end is fine


def test_densify__says_what_is_wrong() -> None:
    values, sparsity = sparsify(np.eye(4, dtype=np.float32), {}, [0, 1], [False, True])
    with pytest.raises(ValueError, match="3 sparse values are stored where its indices ask for 4"):
        densify(values[:3], (4, 4), sparsity)
    with pytest.raises(ValueError, match="sparse dimensions are not those of its shape"):
        densify(values, (2, 2, 4), sparsity)
