"""Rounds weights one input after the other; those still to come take up the error of those that are done.

Source: GPTQ, Frantar et al. (arXiv 2210.17323): the order of falling second moment, the Cholesky factor of the inverse.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.quantize.weights import Matrix, no_worse

DAMPING = 0.1
"""Share of the mean second moment that is added to all: on DS-CNN with 100 samples 0.1 kept more decisions than 0.01."""
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
    groups, width = moments.shape[0], matrix.shape[1]
    every = np.broadcast_to(steps[:, None] if steps.ndim == 1 else steps, matrix.shape)
    parts = [
        _group(w, s, damped(h), limit)
        for w, s, h in zip(matrix.reshape(groups, -1, width), every.reshape(groups, -1, width), moments, strict=True)
    ]
    return no_worse(matrix, steps, moments, np.concatenate(parts), limit)


def damped(moments: Matrix, share: float = DAMPING) -> Matrix:
    """(K, K) with a constant added to its diagonal, so that directions that calibration did not show count a little."""
    width = moments.shape[0]
    mean = float(np.trace(moments)) / width
    return moments + np.eye(width) * (share * mean if mean > 0 else 1.0)


def _group(matrix: Matrix, steps: Matrix, moments: Matrix, limit: int) -> Matrix:
    order = np.argsort(-np.diag(moments), kind="stable")
    left, step = matrix[:, order].copy(), steps[:, order]
    inverse = np.linalg.inv(moments[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    q = np.zeros_like(left)
    width = left.shape[1]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = np.zeros((left.shape[0], end - start))
        for k in range(start, end):
            q[:, k] = np.clip(np.rint(left[:, k] / step[:, k]), -limit, limit)
            error = (left[:, k] - q[:, k] * step[:, k]) / upper[k, k]
            left[:, k + 1 : end] -= error[:, None] * upper[k, k + 1 : end]
            errors[:, k - start] = error
        left[:, end:] -= errors @ upper[start:end, end:]
    result = np.empty_like(q)
    result[:, order] = q
    return result
