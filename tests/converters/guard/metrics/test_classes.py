from __future__ import annotations

import numpy as np
import pytest

from edgesdk.bundle.manifest import Branch, Contract, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import CalibrationError
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.metrics import AccuracyMetric, metric_for


def contract(labels: tuple[str, ...] = ("yes", "no", "stop"), task: str = "raw") -> Contract:
    return Contract(
        task=task,
        inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32", branches=(Branch(name="y", class_axis=1),)),),
        labels=labels,
    )


def test_accuracy__by_hand() -> None:
    metric = metric_for(contract())
    assert isinstance(metric, AccuracyMetric)
    yes, no = np.asarray([[0.9, 0.1, 0.0]]), np.asarray([[0.1, 0.9, 0.0]])
    metric.add([yes], [no])  # no label: does not count
    assert metric.result() == {}
    for _ in range(9):
        metric.add([yes], [yes], "yes")
    assert not metric.missed(Budget(max_drop=0.005))
    metric.add([yes], [no], "0")
    assert metric.result() == {"accuracy": 0.9, "float_accuracy": 1.0}
    (shortfall,) = metric.missed(Budget(max_drop=0.005))  # one of ten is 10 percentage points
    assert "10.00 percentage points lost, expected at most 0.5 (10 labelled samples, each is 10)" in shortfall.text
    assert not metric.missed(Budget(max_drop=0.1))
    metric.add([yes], [no], "yes")
    assert not metric.missed(Budget())
    (shortfall,) = metric.missed(Budget(max_drop=0.005))
    assert "18.18 percentage points lost, expected at most 0.5 (11 labelled samples, each is 9.1)" in shortfall.text


def test_accuracy__labels_that_do_not_match() -> None:
    row = [np.asarray([[0.9, 0.1, 0.0]])]
    with pytest.raises(
        CalibrationError, match=r"label 'yess' of the evaluation samples is none of the model's\. Did you mean 'yes'?"
    ):
        AccuracyMetric(contract()).add(row, row, "yess")
    with pytest.raises(CalibrationError, match="It has: yes, no, stop"):
        AccuracyMetric(contract()).add(row, row, "9")
    with pytest.raises(
        CalibrationError, match=r"no class number 0 to 2, and the model has no labels. Name them in the spec"
    ):
        AccuracyMetric(contract(labels=())).add(row, row, "yes")


def test_accuracy__without_labels_a_drop_of_the_agreement_counts() -> None:
    metric = AccuracyMetric(contract())
    yes, no = np.asarray([[0.9, 0.1, 0.0]]), np.asarray([[0.1, 0.9, 0.0]])
    for index in range(100):
        metric.add([yes], [no if index == 0 else yes])
    assert metric.result() == {}
    assert not metric.missed(Budget())
    assert not metric.missed(Budget(max_drop=0.01))
    (shortfall,) = metric.missed(Budget(max_drop=0.005))
    assert (
        "top-1 agreement 0.990, no labels given: 1.00 percentage points lost, expected at most 0.5 (100 samples, each is 1)"
        in (shortfall.text)
    )
