"""Rounds weights one input after the other; those still to come take up the error of those that are done.

Source: GPTQ, Frantar et al. (arXiv 2210.17323): the order of falling second moment, the Cholesky factor of the inverse.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.quantize.linear import factor_of_inverse, product
from edgesdk_converters.quantize.weights import Matrix, no_worse

DAMPING = 0.1
"""Share of the mean second moment that is added to all; `python tests/benchmarks/rounding.py` compares it with others."""
_BLOCK = 64
"""Columns between updates of all that follow; only the time depends on it."""


def gptq(matrix: Matrix, steps: Matrix, moments: Matrix, limit: int) -> Matrix:
    """Integers (O, K) as float64 for weights (O, K); on ``moments`` no output is worse than with the nearest integers.

    Args:
        matrix: Weights.
        steps: Scale of every output (O,), or of every weight (O, K).
        moments: (G, K, K), symmetric.
        limit: Largest magnitude of an integer.
    """
    shape = (moments.shape[0], -1, matrix.shape[1])
    every = np.broadcast_to(steps[:, None] if steps.ndim == 1 else steps, matrix.shape)
    q = _all_groups(matrix.reshape(shape), every.reshape(shape), damped(moments), limit)
    return no_worse(matrix, steps, moments, q.reshape(matrix.shape), limit)


def damped(moments: Matrix, share: float = DAMPING) -> Matrix:
    """(G, K, K) with a constant added to the diagonals, so that directions that calibration did not show count a little."""
    width = moments.shape[-1]
    mean = np.trace(moments, axis1=1, axis2=2) / width
    return moments + np.eye(width) * np.where(mean > 0, share * mean, 1.0)[:, None, None]


def _all_groups(matrix: Matrix, steps: Matrix, moments: Matrix, limit: int) -> Matrix:
    """Weights and scales (G, O / G, K), each group in an order of its own."""
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    left, step = (np.take_along_axis(one, order[:, None], axis=2) for one in (matrix, steps))
    sorted_ = np.take_along_axis(np.take_along_axis(moments, order[:, :, None], axis=1), order[:, None], axis=2)
    upper = factor_of_inverse(sorted_)
    q = np.zeros_like(left)
    width = left.shape[2]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = np.zeros((*left.shape[:2], end - start))
        for k in range(start, end):
            q[:, :, k] = np.clip(np.rint(left[:, :, k] / step[:, :, k]), -limit, limit)
            error = (left[:, :, k] - q[:, :, k] * step[:, :, k]) / upper[:, k, k, None]
            left[:, :, k + 1 : end] -= error[:, :, None] * upper[:, None, k, k + 1 : end]
            errors[:, :, k - start] = error
        left[:, :, end:] -= product(errors, upper[:, start:end, end:])
    result = np.empty_like(q)
    np.put_along_axis(result, order[:, None], q, axis=2)
    return result
