"""Which of several attempts is taken."""

from __future__ import annotations

import pytest

from edgesdk.bundle.manifest import BranchFidelity, Measurement
from edgesdk_converters.choosing import closeness
from edgesdk_converters.guard import Budget


def measured(snr_db: float, *, f1: float | None = None, kept: bool = False) -> Measurement:
    figure = BranchFidelity(output="y", branch="y", snr_db=snr_db, cosine=1, passed=snr_db >= 20)
    metrics = {} if f1 is None else {"f1": f1}
    return Measurement(variant="v", kept=kept, size_bytes=1, source_size_bytes=2, fidelity=(figure,), metrics=metrics)


def test_closeness__lost_boxes_count_as_much_as_lost_values() -> None:
    assert closeness(measured(14.0), Budget()) == -6
    # 0.002 of agreement count as a dB: 0.96 is ten of them from 0.98.
    assert closeness(measured(14.0, f1=0.96), Budget()) == pytest.approx(-10)
    assert closeness(measured(14.0, f1=0.97), Budget()) > closeness(measured(19.0, f1=0.5), Budget())


def test_closeness__what_passed_is_not_blamed_for_the_one_miss_that_was_allowed() -> None:
    assert closeness(measured(25.0, f1=0.9, kept=True), Budget()) == 5
