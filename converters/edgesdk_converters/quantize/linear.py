"""Linear algebra that gives the same bits on any number of threads.

OpenBLAS splits factorizations, and the odd rows and columns of products, by the number of its threads: the last bits of what
they return differ from one setting to the next, and a weight half-way between two integers then goes the other way. Products
whose sizes are multiples of 64 are split into whole tiles only, so everything here is made of those, and of matrices too small
to be split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_TILE = 64
_UNSPLIT = 1 << 17
"""Multiplications of a product that OpenBLAS leaves to one thread: it splits from twice as many on."""


def product(a: Matrix, b: Matrix) -> Matrix:
    """``a @ b`` for stacks of matrices (..., M, K) and (..., K, N)."""
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    if rows * inner * columns <= _UNSPLIT:
        return np.asarray(a @ b)
    return np.asarray((_filled(a) @ _filled(b))[..., :rows, :columns])


def cholesky(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Lower factors L of symmetric positive definite matrices (G, K, K), L L^T, and their inverses.

    Raises:
        numpy.linalg.LinAlgError: One is not positive definite.
    """
    width = matrix.shape[-1]
    if width <= _TILE:
        return _small(matrix)
    filled = _filled(matrix)
    beyond = np.arange(width, filled.shape[-1])
    filled[..., beyond, beyond] = 1.0
    lower, inverse = np.zeros_like(filled), np.zeros_like(filled)
    for start in range(0, filled.shape[-1], _TILE):
        here, before, rest = slice(start, start + _TILE), slice(0, start), slice(start + _TILE, None)
        left = filled[..., start:, here]
        if start:
            left = left - product(lower[..., start:, before], _turned(lower[..., here, before]))
        corner, corner_inverse = _small(left[..., :_TILE, :])
        lower[..., here, here], inverse[..., here, here] = corner, corner_inverse
        lower[..., rest, here] = product(left[..., _TILE:, :], _turned(corner_inverse))
        if start:
            inner = product(lower[..., here, before], inverse[..., before, before])
            inverse[..., here, before] = -product(corner_inverse, inner)
    return lower[..., :width, :width], inverse[..., :width, :width]


def solve(matrix: Matrix, right: Matrix) -> Matrix:
    """X of ``X matrix = right`` for symmetric positive definite matrices (G, K, K) and right sides (G, M, K)."""
    _, inverse = cholesky(matrix)
    return product(product(right, _turned(inverse)), inverse)


def factor_of_inverse(matrix: Matrix) -> Matrix:
    """Upper factors R of the inverses of symmetric positive definite matrices (G, K, K): R^T R."""
    _, inverse = cholesky(np.ascontiguousarray(matrix[..., ::-1, ::-1]))
    return np.ascontiguousarray(inverse[..., ::-1, ::-1])


def _small(matrix: Matrix) -> tuple[Matrix, Matrix]:
    lower = np.linalg.cholesky(matrix)
    return np.asarray(lower, np.float64), np.tril(np.linalg.inv(lower))


def _turned(matrix: Matrix) -> Matrix:
    """Transposed and copied: a matrix times its own transpose would be summed by another routine."""
    return np.ascontiguousarray(matrix.swapaxes(-1, -2))


def _filled(matrix: Matrix) -> Matrix:
    """With zeros up to multiples of a tile; a copy."""
    rows, columns = (-(-size // _TILE) * _TILE for size in matrix.shape[-2:])
    filled = np.zeros((*matrix.shape[:-2], rows, columns))
    filled[..., : matrix.shape[-2], : matrix.shape[-1]] = matrix
    return filled
