from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, InputSpec, Measurement, OutputSpec, StateInput, TensorInput
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.variants.api import Form

CONTRACT = Contract(
    task="raw",
    inputs=(
        InputSpec(name="x", shape=(1,), dtype="float64", source=TensorInput()),
        InputSpec(name="h", shape=(1,), dtype="float64", source=StateInput(from_output="hn")),
    ),
    outputs=(OutputSpec(name="hn", shape=(1,), dtype="float64"),),
)


class Sum:
    """Adds its input to its state, with an error per step."""

    def __init__(self, error: float = 0.0) -> None:
        self._error = error

    def run(self, feed: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [(feed[0] + feed[1]) * (1 + self._error)]


def judged(error: float, steps: int) -> float:
    one = np.ones(1)
    unit = [[one, one * index] for index in range(steps)]  # the states that the exact source makes
    judge = Judge(CONTRACT, Sum(), [unit], source_size_bytes=100, optimize="size")
    form = Form(content=b"x", precision="int8", inputs=("x", "h"), outputs=("hn",))
    return judge.judge("v", form, Sum(error), Sum()).fidelity[0].snr_db


def test_judge__a_variant_lives_with_its_own_states() -> None:
    # Fed with the source's states, an error of 1 % per step stays at 40 dB for ever; with its own it adds up.
    assert judged(0.01, 2) > 35
    assert judged(0.01, 100) < 10
    assert judged(0.0, 100) == 120


def test_judge__each_sample_starts_anew() -> None:
    one = np.ones(1)
    units = [[[one, one * 0]] for _ in range(50)]
    judge = Judge(CONTRACT, Sum(), units, source_size_bytes=100, optimize="size")
    form = Form(content=b"x", precision="int8", inputs=("x", "h"), outputs=("hn",))
    measurement = judge.judge("v", form, Sum(0.01), Sum())
    assert measurement.fidelity[0].snr_db > 39
    assert measurement.held_out_samples == 50


PLAIN = Contract(
    task="raw",
    inputs=(InputSpec(name="x", shape=(1, 32), dtype="float64", source=TensorInput()),),
    outputs=(OutputSpec(name="y", shape=(1, 32), dtype="float64"),),
)


class Copy:
    """Its input, with noise that is the same at every call."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = np.random.default_rng(1).normal(0, noise, (1, 32)) if noise else np.zeros((1, 32))

    def run(self, feed: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [feed[0] + self._noise]


def measured(budget: Budget, noise: float = 0.0, size: int = 1) -> Measurement:
    rng = np.random.default_rng(0)
    judge = Judge(
        PLAIN,
        Copy(),
        [[[rng.normal(size=(1, 32))]] for _ in range(20)],
        source_size_bytes=100,
        optimize="size",
        budget=budget,
    )
    form = Form(content=b"x" * size, precision="w8", inputs=("x",), outputs=("y",))
    return judge.judge("v", form, Copy(noise), Copy())


def test_judge__keeps_to_the_budget() -> None:
    assert measured(Budget()).kept
    assert measured(Budget(), noise=0.05).kept  # 26 dB
    assert not measured(Budget(min_snr_db=30), noise=0.05).kept
    large = measured(Budget(max_size_bytes=10), size=11)
    assert large.reasons == ("larger than allowed: 11 bytes, expected at most 10",)
    assert measured(Budget(), size=100).reasons == ("not smaller than its source: 100 bytes, source 100",)
    slow = measured(Budget(min_speedup=1000))
    assert not slow.kept
    assert "expected at least 1000" in slow.reasons[0]


def test_judge__carries_the_tasks_own_figures() -> None:
    assert measured(Budget()).metrics == {"ranking_agreement": 1.0}
    lost = measured(Budget(max_drop=0.001, min_snr_db=1), noise=0.5)
    assert lost.metrics["ranking_agreement"] < 0.999
    assert any("ranking agreement" in reason for reason in lost.reasons)


def test_judge__equal_variants_get_the_same_answer() -> None:
    rng = np.random.default_rng(0)
    held_out = [[[rng.normal(size=(1, 32))]] for _ in range(20)]
    judge = Judge(PLAIN, Copy(), held_out, source_size_bytes=100, optimize="size")
    assert judge.compare(Copy(0.1)) == judge.compare(Copy(0.1))
