"""Rounds weights up or down, or further, such that the output of the layer on calibration samples changes least.

The question is AdaRound's (Nagel et al., arXiv 2004.10568). It learns the answer by gradient descent on a relaxation;
here it is found by coordinate descent on the integers themselves, which needs the second moments of the layer's input only,
has no step size and ends where no single weight can be better.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.quantize.gptq import damped
from edgesdk_converters.quantize.linear import product
from edgesdk_converters.quantize.weights import Matrix, no_worse, to_nearest

SWEEPS = 20
"""Most rounds over all weights; it ends before where no weight moves any more."""
_SMALLEST = 1e-9
"""Relative gain below which a weight stays: ties must not hang on the order of a sum."""


def adaround(matrix: Matrix, steps: Matrix, moments: Matrix, limit: int, *, start: Matrix | None = None) -> Matrix:
    """Integers (O, K) as float64 for weights (O, K); on ``moments`` no output is worse than with the nearest integers.

    Args:
        matrix: Weights.
        steps: Scale of every output (O,), or of every weight (O, K).
        moments: (G, K, K), symmetric.
        limit: Largest magnitude of an integer.
        start: Integers to begin with; None is the nearest.
    """
    groups, width = moments.shape[0], matrix.shape[1]
    every = np.broadcast_to(steps[:, None] if steps.ndim == 1 else steps, matrix.shape)
    first = to_nearest(matrix, steps, limit) if start is None else start
    shape = (groups, -1, width)
    weight, step = matrix.reshape(shape), every.reshape(shape)
    q = _descend(weight, step, damped(moments), first.reshape(shape).copy(), limit).reshape(matrix.shape)
    return no_worse(matrix, steps, moments, q, limit)


def _descend(weight: Matrix, step: Matrix, hessian: Matrix, q: Matrix, limit: int) -> Matrix:
    """All groups and outputs at once, one input after the other: outputs do not depend on each other."""
    slope = product(q * step - weight, hessian)
    curve = np.diagonal(hessian, axis1=1, axis2=2)
    for _ in range(SWEEPS):
        changed = False
        for k in range(weight.shape[2]):
            ideal = q[:, :, k] - slope[:, :, k] / (curve[:, k, None] * step[:, :, k])
            change = np.clip(np.rint(ideal), -limit, limit) - q[:, :, k]
            # Going from q by d changes the cost by d (d - 2 (ideal - q)) times a positive number.
            gain = change * (2 * (ideal - q[:, :, k]) - change)
            change = np.where(gain > _SMALLEST, change, 0.0)
            group, output = np.nonzero(change)
            if not group.size:
                continue
            changed = True
            q[:, :, k] += change
            moved = change[group, output] * step[group, output, k]
            slope[group, output] += moved[:, None] * hessian[group, k]
        if not changed:
            break
    return q
