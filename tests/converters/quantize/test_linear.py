from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk_converters.quantize.linear import cholesky, factor_of_inverse, product, solve

Matrix = NDArray[np.float64]


def positive(groups: int, width: int) -> Matrix:
    rng = np.random.default_rng(width)
    rows = rng.normal(size=(groups, 3 * width + 5, width))
    return np.asarray(rows.transpose(0, 2, 1) @ rows / rows.shape[1] + 0.1 * np.eye(width), np.float64)


@pytest.mark.parametrize(("groups", "width"), [(1, 1), (3, 25), (1, 64), (2, 65), (1, 200)])
def test_linear__what_it_says(groups: int, width: int) -> None:
    matrix, right = positive(groups, width), np.random.default_rng(0).normal(size=(groups, 7, width))
    lower, inverse = cholesky(matrix)
    np.testing.assert_allclose(lower @ lower.transpose(0, 2, 1), matrix, atol=1e-10)
    np.testing.assert_allclose(lower @ inverse, np.broadcast_to(np.eye(width), matrix.shape), atol=1e-10)
    np.testing.assert_allclose(solve(matrix, right) @ matrix, right, atol=1e-10)
    upper = factor_of_inverse(matrix)
    assert not np.tril(upper, -1).any()
    np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper, np.linalg.inv(matrix), atol=1e-9)
    np.testing.assert_allclose(product(right, matrix), right @ matrix, atol=1e-10)


def test_cholesky__not_positive() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(-positive(1, 70))


SAME = """
import hashlib, numpy as np
from edgesdk_converters.quantize.linear import factor_of_inverse, product, solve
rng, found = np.random.default_rng(0), hashlib.sha256()
for groups, width, rows in ((1, 480, 1), (1, 480, 33), (1, 290, 97), (5, 65, 7), (60, 25, 1), (1, 700, 5)):
    x = rng.normal(size=(groups, 2 * width, width))
    h = product(x.transpose(0, 2, 1).copy(), x) / width + 0.1 * np.eye(width)
    h = (h + h.transpose(0, 2, 1)) / 2
    right = rng.normal(size=(groups, rows, width))
    for made in (h, product(right, h), product(h, right.transpose(0, 2, 1)), solve(h, right), factor_of_inverse(h)):
        found.update(np.ascontiguousarray(made).tobytes())
print(found.hexdigest())
"""


def test_linear__number_of_threads_changes_no_bit() -> None:
    def run(threads: str) -> Any:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        return subprocess.run([sys.executable, "-c", SAME], env=environment, check=True, capture_output=True).stdout

    assert run("1") == run("2") == run("3")
