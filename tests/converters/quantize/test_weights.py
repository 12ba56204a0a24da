from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.errors import ConversionError
from edgesdk_converters.quantize.moments import Moments
from edgesdk_converters.quantize.rounding import best_weights, round_matrix
from edgesdk_converters.quantize.units import Quantizable
from edgesdk_converters.quantize.weights import cost, nearest, scales, to_nearest

NODE = Quantizable(name="conv7", op_type="Conv", weight_elements=1, is_compute=True, schemes=("w8a8", "float"))
Matrix = NDArray[np.float64]


def layer(seed: int, outputs: int, width: int, groups: int, samples: int) -> tuple[Matrix, Matrix]:
    """Weights and the moments of correlated inputs, which need not have full rank."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (outputs * groups, width)) * rng.uniform(0.1, 4, (outputs * groups, 1))
    inputs = rng.normal(0, 1, (groups, samples, width)) @ rng.normal(0, 1, (groups, width, width))
    return weights, inputs.transpose(0, 2, 1) @ inputs / samples


@pytest.mark.parametrize("method", ["gptq", "adaround"])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    outputs=st.integers(1, 5),
    width=st.integers(1, 24),
    groups=st.integers(1, 3),
    samples=st.integers(1, 60),
    limit=st.sampled_from([1, 7, 63, 127]),
)
def test_round_matrix__never_worse_than_nearest(
    method: Literal["gptq", "adaround"], seed: int, outputs: int, width: int, groups: int, samples: int, limit: int
) -> None:
    weights, moments = layer(seed, outputs, width, groups, samples)
    steps = scales(weights, limit, moments)
    q = round_matrix(method, weights, steps, moments, limit)
    plain = to_nearest(weights, steps, limit)
    assert np.abs(q).max() <= limit
    assert (q == np.rint(q)).all()
    ours, theirs = (cost(one * steps[:, None] - weights, moments, exact=True) for one in (q, plain))
    assert (ours <= theirs * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("method", ["gptq", "adaround"])
def test_round_matrix__much_better_on_correlated_inputs(method: Literal["gptq", "adaround"]) -> None:
    weights, moments = layer(1, 64, 48, 1, 400)
    steps = scales(weights, 7, moments)
    q = round_matrix(method, weights, steps, moments, 7)
    plain = to_nearest(weights, steps, 7)
    ours, theirs = (cost(one * steps[:, None] - weights, moments).sum() for one in (q, plain))
    assert ours < 0.75 * theirs


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), outputs=st.integers(1, 6), width=st.integers(1, 30))
def test_scales__search_is_no_worse_than_the_extremes(seed: int, outputs: int, width: int) -> None:
    weights, moments = layer(seed, outputs, width, 1, 50)
    for known in (None, moments):
        found, extremes = scales(weights, 7, known), scales(weights, 7, known, search=False)
        errors = [cost(to_nearest(weights, s, 7) * s[:, None] - weights, known) for s in (found, extremes)]
        assert (errors[0] <= errors[1] + 1e-12).all()
        assert (found <= extremes).all()


def test_scales__one_for_all_outputs() -> None:
    weights, _ = layer(0, 4, 8, 1, 50)
    found = scales(weights, 7, None, per_channel=False)
    assert (found == found[0]).all()


@pytest.mark.parametrize("axis", [0, 1, None])
def test_nearest__formula(axis: int | None) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 6, 3, 3)).astype(np.float32)
    q, scale = nearest(NODE, weight, bits=8, axis=axis, limit=127)
    assert q.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale.shape == (() if axis is None else (weight.shape[axis],))
    wide = scale if axis is None else np.expand_dims(scale, tuple(i for i in range(4) if i != axis))
    np.testing.assert_allclose(q * wide, weight, atol=float(scale.max()) / 2 + 1e-6)


def test_nearest__all_zero_weights() -> None:
    q, scale = nearest(NODE, np.zeros((2, 1, 3, 3), np.float32), bits=4, axis=0, limit=7)
    assert not q.any()
    assert (scale > 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nearest__not_a_number(bad: float) -> None:
    weight = np.ones((2, 3, 1, 1), np.float32)
    weight[1, 2] = bad
    with pytest.raises(
        ConversionError,
        match=r"node 'conv7': 1 of its 6 weights are NaN or infinite, the first at \[1, 2, 0, 0\]. .*earlier checkpoint",
    ):
        nearest(NODE, weight, bits=8, axis=0, limit=127)


def test_best_weights__repairs_what_was_lost_before() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 500, 6))
    changed = x * rng.uniform(0.5, 1.5, 6)  # the layer before lost the size of its channels
    weight = rng.normal(size=(4, 6))

    def mean(a: Matrix, b: Matrix) -> Matrix:
        return a.transpose(0, 2, 1) @ b / 500

    moments = Moments(
        second=mean(changed, changed), cross=mean(x, changed), mean=x.mean(1), mean_quantized=changed.mean(1)
    )
    target = best_weights(weight, moments)
    before, after = (np.abs(x[0] @ weight.T - changed[0] @ w.T).mean() for w in (weight, target))
    assert after < 0.4 * before


SAME = """
import hashlib, numpy as np
from edgesdk_converters.quantize.rounding import round_matrix
from edgesdk_converters.quantize.weights import scales
rng = np.random.default_rng(0)
x = np.clip(np.rint(rng.normal(0, 900, (1, 3000, 288)) @ rng.normal(0, 0.1, (288, 288))), -4096, 4096)
w = rng.normal(size=(96, 288))
h = x.transpose(0, 2, 1) @ x / 3000
s = scales(w, 7, h)
print([hashlib.sha256(round_matrix(m, w, s, h, 7).tobytes()).hexdigest() for m in ("gptq", "adaround")])
"""


def test_round_matrix__number_of_threads_changes_nothing() -> None:
    def run(threads: str) -> Any:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        return subprocess.run([sys.executable, "-c", SAME], env=environment, check=True, capture_output=True).stdout

    assert run("1") == run("2")
