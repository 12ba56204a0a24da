from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import (
    Branch,
    Contract,
    InputSpec,
    Latency,
    Measurement,
    OutputSpec,
    StateInput,
    TensorInput,
)
from edgesdk.errors import CalibrationError, ConversionError
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


class Table:
    """Answers by the number in its input."""

    def __init__(self, *rows: NDArray[Any]) -> None:
        self._rows = rows

    def run(self, feed: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [self._rows[int(feed[0][0]) % len(self._rows)]]


def table(dtype: str = "float32", width: int = 4) -> Contract:
    return Contract(
        task="raw",
        inputs=(InputSpec(name="x", shape=(1,), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, width), dtype=dtype),),
    )


def reasons(
    source: Table, variant: Table, *, contract: Contract | None = None, count: int = 20, given: bool = False
) -> tuple[str, ...]:
    held_out = [[[np.asarray([float(index)], np.float32)]] for index in range(count)]
    judge = Judge(contract or table(), source, held_out, source_size_bytes=100, optimize="size")
    form = Form(content=b"x", precision="int8", inputs=("x",), outputs=("y",))
    return judge.judge("v", form, variant, source, given=given).reasons


def test_judge__nan_of_the_source_stops_with_the_node() -> None:
    fine, bad = np.ones((1, 4)), np.asarray([[1.0, np.nan, 1.0, 1.0]])
    held_out = [[[np.asarray([float(index)])]] for index in range(3)]
    with pytest.raises(
        CalibrationError, match=r"held-out inference 2: the source's output 'y' holds NaN.*: Repair the model, or take"
    ):
        Judge(table(), Table(fine, fine, bad), held_out, source_size_bytes=1, optimize="size")
    with pytest.raises(CalibrationError, match="holds NaN, so that nothing can be compared with it: it begins at log"):
        Judge(
            table(), Table(bad), held_out, source_size_bytes=1, optimize="size", explain=lambda feed: "it begins at log"
        )


def test_judge__nan_of_a_variant_is_refused_wherever_it_is() -> None:
    rows = [np.random.default_rng(index).normal(size=(1, 4)) for index in range(20)]
    broken = [row.copy() for row in rows]
    broken[7][0, 2] = np.nan
    assert reasons(Table(*rows), Table(*broken)) == ("branch 'y': NaN, infinity or another shape where float has none",)


def test_judge__infinity_must_stay_where_it_is() -> None:
    rows = [np.random.default_rng(index).normal(size=(1, 4)) for index in range(20)]
    masked = [np.where([[0, 0, 0, 1]], -np.inf, row) for row in rows]
    assert not reasons(Table(*masked), Table(*masked))
    finite = [np.where([[0, 0, 0, 1]], -1e4, row) for row in rows]
    assert reasons(Table(*masked), Table(*finite))
    assert reasons(Table(*finite), Table(*masked))


def test_judge__a_branch_that_no_sample_excites_is_unproven() -> None:
    class Sleepy(Table):
        """Zero for everything but noise, which is never a whole number."""

        def run(self, feed: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
            awake = float(feed[0][0]) % 1 != 0
            return [np.full((1, 4), 1.0 if awake else 0.0)]

    (reason,) = reasons(Sleepy(), Sleepy())
    assert "branch 'y': the float model says the same of all 20 held-out inferences" in reason
    assert "Add samples that excite it, in --calibration or --evaluation" in reason
    # What is the same even for noise is a constant: there is nothing to excite.
    assert not reasons(Table(np.ones((1, 4))), Table(np.ones((1, 4))))
    # A float form is the source in other words: it needs no samples to be that.
    assert not reasons(Sleepy(), Sleepy(), given=True)


def test_judge__ids_are_right_or_wrong_never_near() -> None:
    ids = [np.asarray([[1000 + index]]) for index in range(20)]
    near = [one + 1 for one in ids]
    contract = table("int64", 1)
    assert not reasons(Table(*ids), Table(*ids), contract=contract)
    assert not reasons(Table(*ids), Table(*ids[:19], near[19]), contract=contract)  # one of twenty
    assert reasons(Table(*ids), Table(*near), contract=contract) == (
        "branch 'y': 0 of 20 values equal, expected at least 0.98 of them",
    )
    # Bytes are pixels: there near is near.
    pixels = [np.random.default_rng(index).integers(0, 255, (1, 4)).astype(np.uint8) for index in range(20)]
    assert not reasons(Table(*pixels), Table(*[one ^ 1 for one in pixels]), contract=table("uint8"))


def test_judge__a_float_form_is_held_to_more_than_a_quantized_one() -> None:
    rows = [np.random.default_rng(index).normal(size=(1, 4)) for index in range(20)]
    off = [row * 1.02 for row in rows]  # 34 dB
    assert not reasons(Table(*rows), Table(*off))
    (reason,) = reasons(Table(*rows), Table(*off), given=True)
    assert "SNR 34.0 dB, expected at least 40 dB" in reason


def test_judge__a_float_form_that_is_a_class_vector_is_held_to_its_values_too() -> None:
    contract = table()
    branch = (Branch(name="y", class_axis=1),)
    contract = msgspec.structs.replace(
        contract, outputs=(msgspec.structs.replace(contract.outputs[0], branches=branch),)
    )
    rows = [np.eye(4)[[index % 4]] for index in range(60)]
    off = [row * 0.97 for row in rows]  # 30 dB, and every vote the same
    assert not reasons(Table(*rows), Table(*off), contract=contract, count=60)
    (reason,) = reasons(Table(*rows), Table(*off), contract=contract, count=60, given=True)
    assert "SNR 30.5 dB, expected at least 40 dB of a float form" in reason


def test_judge__a_drop_of_nothing_is_no_budget() -> None:
    held_out = [[[np.asarray([float(index)])]] for index in range(3)]
    with pytest.raises(
        ConversionError, match=r"--max-drop 0\.5pp: task 'raw' has no figure that could drop.*--min-fidelity 25dB"
    ):
        Judge(
            table(),
            Table(np.ones((1, 4))),
            held_out,
            source_size_bytes=1,
            optimize="size",
            budget=Budget(max_drop=0.005),
        )


def test_judge__neither_size_nor_speed_is_asked_of_the_source_itself() -> None:
    rows = [np.random.default_rng(index).normal(size=(1, 4)) for index in range(20)]
    held_out = [[[np.asarray([float(index)])]] for index in range(20)]
    budget = Budget(min_speedup=100, max_size_bytes=1)
    judge = Judge(table(), Table(*rows), held_out, source_size_bytes=2, optimize="speed", budget=budget)
    form = Form(content=b"xx", precision="int8", inputs=("x",), outputs=("y",))
    assert judge.judge("v", form, Table(*rows), Table(*rows), given=True).kept
    assert len(judge.judge("v", form, Table(*rows), Table(*rows)).reasons) == 2


@pytest.mark.parametrize(("ratio", "hopeless"), [(1.0, False), (1.2, False), (2.0, False), (2.2, True)])
def test_judge__only_what_is_far_too_slow_ends_a_search(ratio: float, hopeless: bool) -> None:
    judge = Judge(table(), Table(np.ones((1, 4))), [[[np.zeros(1)]]], source_size_bytes=1, optimize="speed")
    measurement = Measurement(
        variant="v",
        kept=False,
        size_bytes=1,
        source_size_bytes=2,
        latency=Latency(cpu_ms=ratio, source_cpu_ms=1, ratio=ratio, runs=9, host="here"),
    )
    assert judge.hopeless(measurement) is hopeless


def test_judge__a_float_form_keeps_what_was_asked_of_all() -> None:
    rows = [np.random.default_rng(index).normal(size=(1, 4)) for index in range(20)]
    held_out = [[[np.asarray([float(index)])]] for index in range(20)]
    judge = Judge(
        table(),
        Table(*rows),
        held_out,
        source_size_bytes=9,
        optimize="size",
        budget=Budget(min_snr_db=60),
    )
    half = judge.compare(Table(*[row * 1.002 for row in rows]), given=True)  # 54 dB
    assert half.reasons == ("branch 'y': SNR 54.0 dB, expected at least 60 dB",)


def test_judge__two_formats_of_one_quantization_decide_alike() -> None:
    branch = (Branch(name="y", class_axis=1),)
    contract = table()
    contract = msgspec.structs.replace(
        contract, outputs=(msgspec.structs.replace(contract.outputs[0], branches=branch),)
    )
    rows = [np.eye(4)[[index % 4]] for index in range(20)]
    held_out = [[[np.asarray([float(index)])]] for index in range(20)]
    judge = Judge(contract, Table(*rows), held_out, source_size_bytes=9, optimize="size")
    other = [*rows[:18], rows[0], rows[0]]
    assert judge.unlike(Table(*rows), Table(*rows)) == ""
    assert "decide differently on 2 of 20 inferences" in judge.unlike(Table(*rows), Table(*other))
    one_less = [*rows[:19], rows[0]]
    more = [[np.asarray([float(index)])] for index in range(20)]
    assert judge.unlike(Table(*rows), Table(*one_less)) == ""
    assert "decide differently on 2 of 40 inferences" in judge.unlike(Table(*rows), Table(*one_less), more)


def test_judge__two_formats_live_with_their_own_states() -> None:
    one = np.ones(1)
    unit = [[one, one * index] for index in range(30)]
    judge = Judge(CONTRACT, Sum(), [unit], source_size_bytes=100, optimize="size")
    drifted = [got[0].item() for got in judge._answers(Sum(0.1))]
    assert drifted[:2] == [pytest.approx(1.1), pytest.approx(2.31)]
