"""Turns float weights into integers: the choice of scales, and rounding each to its nearest.

All ways of rounding work on one form of a layer: a matrix W (O, K) of O outputs, each the sum of K products with what the
layer reads, and the second moments H (G, K, K) of the latter over calibration samples and positions; the outputs of a group
of a convolution share one of the G. What rounding W to Q costs is then, output by output, (w - q s) H (w - q s)^T.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ConversionError
from edgesdk_converters.quantize.linear import product
from edgesdk_converters.quantize.units import Quantizable
from edgesdk_converters.quantize.weight_formats import WeightQuantizer

__all__ = [
    "TINY",
    "Matrix",
    "WeightQuantizer",
    "as_matrix",
    "as_scale",
    "cost",
    "demand_finite",
    "from_matrix",
    "nearest",
    "no_worse",
    "scales",
    "to_nearest",
]

Array = NDArray[Any]
Matrix = NDArray[np.float64]

TINY = 1e-12
"""Smallest scale, of an output whose weights are all zero."""
_FACTORS = np.linspace(0.4, 1.0, 31)
"""Of the largest magnitude, tried as the end of the integers; `python tests/benchmarks/rounding.py` compares it with others."""
_FULL = 512
"""Up to this K scales are chosen by all of H, beyond it by its diagonal: the cost grows with K squared."""


def nearest(
    node: Quantizable, weight: Array, *, bits: int, axis: int | None, limit: int, blocks: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each weight to its nearest integer; below 8 bits with the scale of least squared error.

    A :class:`WeightQuantizer`.

    Raises:
        ConversionError: A weight is NaN or infinite.
    """
    del blocks  # rows are quantized alike, whatever they are part of
    demand_finite(node.name, weight)
    matrix = as_matrix(weight, 0 if axis is None else axis)
    steps = scales(matrix, limit, None, per_channel=axis is not None, search=bits < 8)
    q = to_nearest(matrix, steps, limit)
    return from_matrix(q, weight, 0 if axis is None else axis), as_scale(steps, per_channel=axis is not None)


def scales(
    matrix: Matrix, limit: int, moments: Matrix | None, *, per_channel: bool = True, search: bool = True
) -> Matrix:
    """Scale of every output (O,), as float32 holds it: of the extremes, or of the least error.

    Args:
        matrix: Weights (O, K).
        limit: Largest magnitude of an integer.
        moments: (G, K, K) of the layer's input; None weighs all weights alike.
        per_channel: False is one scale for all outputs.
        search: False takes the extremes.
    """
    largest = np.abs(matrix).max(axis=1, initial=0.0)
    if not per_channel:
        largest = np.full_like(largest, largest.max(initial=0.0))
    best = _float32(np.maximum(largest / limit, TINY))
    if not search:
        return best
    lowest = np.full(largest.shape, np.inf)
    for factor in _FACTORS:
        step = _float32(np.maximum(largest * factor / limit, TINY))
        error = cost(to_nearest(matrix, step, limit) * step[:, None] - matrix, moments)
        if not per_channel:
            error = np.full_like(error, error.sum())
        # At the same error the larger step wins: it clips less of what calibration did not show.
        better = error <= lowest
        lowest, best = np.where(better, error, lowest), np.where(better, step, best)
    return np.asarray(best)


def cost(error: Matrix, moments: Matrix | None, *, exact: bool = False) -> Matrix:
    """Mean squared change of every output (O,) that a change of the weights (O, K) makes; ``exact`` however wide it is."""
    if moments is None:
        return np.asarray((error**2).sum(axis=1))
    groups, width = moments.shape[0], error.shape[1]
    parts = error.reshape(groups, -1, width)
    if width > _FULL and not exact:
        diagonal = np.diagonal(moments, axis1=1, axis2=2)
        return np.asarray((parts**2 * diagonal[:, None]).sum(axis=2).reshape(-1))
    return np.asarray((product(parts, moments) * parts).sum(axis=2).reshape(-1))


def to_nearest(matrix: Matrix, steps: Matrix, limit: int) -> Matrix:
    """Integers (O, K) as float64; ``steps`` is (O,) or (O, K)."""
    return np.asarray(np.clip(np.rint(matrix / _columns(steps)), -limit, limit))


def no_worse(matrix: Matrix, steps: Matrix, moments: Matrix, q: Matrix, limit: int) -> Matrix:
    """``q``, but the nearest integers for those outputs that come out closer with them."""
    plain, step = to_nearest(matrix, steps, limit), _columns(steps)
    worse = cost(q * step - matrix, moments, exact=True) > cost(plain * step - matrix, moments, exact=True)
    return np.where(worse[:, None], plain, q)


def as_matrix(weight: Array, axis: int) -> Matrix:
    """(O, K) with the output channels first."""
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)


def from_matrix(q: Matrix, weight: Array, axis: int) -> NDArray[np.int8]:
    """Back to the layout of ``weight``."""
    first = np.moveaxis(weight, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(q.reshape(first), 0, axis)).astype(np.int8)


def as_scale(steps: Matrix, *, per_channel: bool) -> NDArray[np.float32]:
    """(O,), or () where all outputs share one."""
    return np.asarray(steps if per_channel else steps.flat[0], np.float32)


def demand_finite(name: str, weight: Array) -> None:
    """Refuse NaN and infinity.

    Raises:
        ConversionError: With the node's name and how many there are.
    """
    finite = np.isfinite(weight)
    if not finite.all():
        bad = np.argwhere(~finite)
        at = ", ".join(map(str, bad[0]))
        raise ConversionError(
            f"node '{name}': {len(bad)} of its {weight.size} weights are NaN or infinite, the first at [{at}]. "
            f"The training has diverged or the export is broken: take an earlier checkpoint and export it again."
        )


def _columns(steps: Matrix) -> Matrix:
    return steps[:, None] if steps.ndim == 1 else steps


def _float32(values: Matrix) -> Matrix:
    return values.astype(np.float32).astype(np.float64)
