from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.budget import short_of


def test_budget__reads_every_option() -> None:
    budget = Budget.parse(max_drop="0.5pp", min_fidelity=["25dB", "0.99"], min_speedup="1.5x", max_size="4MiB")
    assert budget == Budget(
        max_drop=0.005, min_snr_db=25, min_agreement=0.99, min_speedup=1.5, max_size_bytes=4 * 2**20
    )
    assert budget.limits()["drop"] == 0.005
    assert Budget.parse() == Budget()
    assert Budget.parse(max_drop="1%").max_drop == 0.01


@pytest.mark.parametrize(
    ("option", "text", "fix"),
    [
        ("max_drop", "0.5", "--max-drop 0.5: 0.5 has no unit. Write 0.5pp"),
        ("max_drop", "1dB", "unit 'dB' is unknown. Write 1pp"),
        ("max_drop", "-1pp", "expected 0 to 100 percentage points. Write 1pp"),
        ("max_drop", "little", "Write for example 0.5pp"),
        ("min_fidelity", "25", "25 has no unit. Write 25dB"),
        ("min_fidelity", "98", "Write 98dB (or 0.98 if an agreement is meant)"),
        ("min_fidelity", "25db", "unit 'db' is unknown. Write 25dB"),
        ("min_fidelity", "99%", "an agreement is a share. Write 0.99"),
        ("min_fidelity", "0", "Write for example 0.99"),
        ("min_speedup", "50%", "a speed-up is a factor. Write 1.5"),
        ("min_speedup", "0", "expected a factor above 0"),
        ("max_size", "4", "4 has no unit. Write 4B (or 4MiB if that is meant)"),
        ("max_size", "4mib", "Write 4MiB"),
        ("max_size", "0B", "Write for example 4MiB"),
    ],
)
def test_budget__wrong_text_is_refused_with_the_right_one(option: str, text: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(fix)):
        Budget.parse(**{option: text})


def test_budget__names_all_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        Budget.parse(max_drop="1", min_fidelity=["20", "2x"], min_speedup="fast", max_size="big")
    assert len(caught.value.problems) == 5


@given(st.text(max_size=12))
def test_budget__any_text_is_read_or_refused(text: str) -> None:
    for option in ("max_drop", "min_fidelity", "min_speedup", "max_size"):
        with contextlib.suppress(ConfigError):
            Budget.parse(**{option: text})


def test_budget__a_single_miss_is_no_evidence() -> None:
    assert [Budget().allowed_misses(count) for count in (0, 9, 10, 50, 100, 1000)] == [0, 0, 1, 1, 2, 20]
    assert Budget().allowed_misses(18, things=9) == 0  # F1 counts every box twice
    assert Budget().allowed_misses(20, things=10) == 1
    assert Budget(min_agreement=1.0).allowed_misses(1000) == 0  # who asks for all means all


def test_budget__a_drop_that_was_asked_for_is_kept_without_grace() -> None:
    assert [Budget(max_drop=0.005).allowed_drop(count) for count in (0, 100, 199, 200, 1000)] == [0, 0, 0, 1, 5]
    assert Budget(max_drop=0.0).allowed_drop(1000) == 0


@pytest.mark.parametrize(
    ("value", "limit", "digits", "text"),
    [
        (19.98, 20, 1, "19.9"),
        (33.979, 40, 1, "34.0"),
        (0.9796, 0.98, 3, "0.979"),
        (-120.0, 20, 1, "-120.0"),
        (20.04, 20, 1, "20.0"),
    ],
)
def test_short_of__never_shows_the_limit_itself(value: float, limit: float, digits: int, text: str) -> None:
    assert short_of(value, limit, digits) == text
