from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, InputSpec, OutputSpec, StateInput, TensorInput
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
