from __future__ import annotations

import math

import numpy as np
import pytest

from edgesdk.bundle.manifest import Branch, BranchFidelity, OutputSpec
from edgesdk_converters.guard import Budget, FidelityMeter, measure, snr_db
from edgesdk_converters.guard.fidelity import worst_margin


def test_snr__formula() -> None:
    a = np.asarray([3.0, 4.0])
    assert snr_db(a, a + np.asarray([0.5, 0.0])) == pytest.approx(10 * math.log10(25 / 0.25))
    assert snr_db(a, a) == 120
    assert snr_db(np.zeros(2), a) == -120
    assert snr_db(a, np.asarray([np.nan, 1.0])) == -120


def test_meter__dead_scores_are_seen_per_branch_but_not_per_tensor() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 320, (1, 4, 100)), rng.uniform(0, 1, (1, 2, 100))
    good = np.concatenate([boxes, scores], axis=1)
    broken = np.concatenate([boxes + 0.3, scores * 0], axis=1)
    whole = FidelityMeter([OutputSpec(name="y", shape=(1, 6, 100), dtype="float32")])
    parts = (Branch(name="boxes", axis=1, start=0, stop=4), Branch(name="scores", axis=1, start=4, stop=6))
    split = FidelityMeter([OutputSpec(name="y", shape=(1, 6, 100), dtype="float32", branches=parts)])
    whole.add([good], [broken])
    split.add([good], [broken])
    assert whole.result()[0].passed
    assert [figure.passed for figure in split.result()] == [True, False]
    assert "branch 'scores': SNR 0.0 dB, expected at least 20 dB" in split.missed()[0]


def test_meter__class_vector_by_agreement() -> None:
    spec = OutputSpec(name="y", shape=(1, 4), dtype="float32", branches=(Branch(name="y", class_axis=1),))
    meter = FidelityMeter([spec])
    for index in range(50):
        good = np.eye(4)[[index % 4]]
        meter.add([good], [good if index else np.eye(4)[[3]]])
    figure = meter.result()[0]
    assert figure.top1_agreement == 0.98
    assert figure.passed
    meter.add([np.eye(4)[[0]]], [np.eye(4)[[1]]])
    assert not meter.result()[0].passed
    assert "top-1 agreement 0.961, expected at least 0.98" in meter.missed()[0]


def test_meter__other_shape_is_broken() -> None:
    meter = FidelityMeter([OutputSpec(name="y", shape=(2,), dtype="float32")])
    meter.add([np.ones(2)], [np.ones(3)])
    assert not meter.result()[0].passed


def test_measure__ratio_of_work() -> None:
    a = np.random.default_rng(0).normal(size=(64, 64))
    latency = measure(lambda: [a @ a for _ in range(40)], lambda: [a @ a for _ in range(10)])
    assert 2 < latency.ratio < 8
    assert latency.runs >= 9
    assert latency.host


def test_meter__kl_divergence_by_hand() -> None:
    spec = OutputSpec(name="y", shape=(1, 2), dtype="float32", branches=(Branch(name="y", class_axis=1),))
    meter = FidelityMeter([spec])
    meter.add([np.asarray([[0.5, 0.5]])], [np.asarray([[0.25, 0.75]])])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert meter.result()[0].kl_divergence == pytest.approx(expected, abs=1e-6)
    logits = FidelityMeter([spec])
    logits.add([np.asarray([[-1.0, -1.0]])], [np.asarray([[math.log(0.25), math.log(0.75)]])])
    assert logits.result()[0].kl_divergence == pytest.approx(expected, abs=1e-6)
    sure = FidelityMeter([spec])
    sure.add([np.asarray([[1.0, 0.0]])], [np.asarray([[0.0, 1.0]])])
    assert math.isfinite(sure.result()[0].kl_divergence or 0.0)


def test_meter__limits_of_the_budget() -> None:
    a = np.linspace(-1, 1, 1000)
    spec = OutputSpec(name="y", shape=(1000,), dtype="float32")
    for budget, passes in ((Budget(), True), (Budget(min_snr_db=30), False)):
        meter = FidelityMeter([spec], budget)
        meter.add([a], [a * 1.05])  # 26 dB
        assert meter.result()[0].passed is passes
    assert worst_margin(meter.result(), Budget(min_snr_db=30)) == pytest.approx(-4, abs=0.1)
    assert "expected at least 30 dB" in meter.missed()[0]


def test_meter__what_float_is_not_sure_of_decides_nothing_where_the_values_are_close() -> None:
    spec = OutputSpec(name="y", shape=(1, 4), dtype="float32", branches=(Branch(name="y", class_axis=1),))

    def figure(undecided: int, decided_misses: int, noise: float = 0.01) -> BranchFidelity:
        meter = FidelityMeter([spec])
        tie, clear = np.asarray([[0.3, 0.29, 0.2, 0.21]]), np.asarray([[0.97, 0.01, 0.01, 0.01]])
        swap = np.asarray([[-noise, noise, 0, 0]])
        for _ in range(undecided):
            meter.add([tie], [tie + swap])
        for index in range(100):
            meter.add([clear], [clear if index >= decided_misses else clear[:, ::-1]])
        return meter.result()[0]

    assert (figure(20, 0).top1_agreement or 0) == pytest.approx(100 / 120, abs=1e-4)
    assert figure(20, 0).passed
    assert worst_margin([figure(20, 0)]) == 0
    assert not figure(20, 3).passed  # 3 of 100 that float was sure of
    assert not figure(200, 0, noise=0.2).passed  # not close
