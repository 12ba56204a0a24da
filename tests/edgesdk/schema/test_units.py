from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.schema import UnitError, units
from edgesdk.schema.units import Unit

ALL = [one for one in vars(units).values() if isinstance(one, Unit)]


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        (units.TIME, "100ms", 0.1),
        (units.TIME, "10s", 10.0),
        (units.TIME, "5min", 300.0),
        (units.TIME, "1h", 3600.0),
        (units.TIME, "1.5 h", 5400.0),
        (units.FREQUENCY, "15Hz", 15.0),
        (units.FREQUENCY, "16kHz", 16000.0),
        (units.FREQUENCY, "1.8GHz", 1.8e9),
        (units.SIZE, "256MiB", 256 << 20),
        (units.SIZE, "4GiB", 4 << 30),
        (units.SIZE, "128KB", 128000),
        (units.SIZE, "0B", 0),
        (units.TEMPERATURE, "-20.5C", -20.5),
        (units.POWER, "6.4W", 6.4),
        (units.POWER, "350mW", 0.35),
        (units.VOLTAGE, "5.1V", 5.1),
        (units.RATE, "17.1GB/s", 17.1e9),
        (units.COMPUTE, "13TOPS", 13.0),
        (units.COMPUTE, "512GOPS", 0.512),
    ],
)
def test_parse__known_values(unit: Unit, text: str, value: float) -> None:
    parsed = unit.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert re.search(unit.pattern, text)


@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.quantity)
@given(data=st.data())
def test_format__parses_back_to_the_same_value(unit: Unit, data: st.DataObject) -> None:
    if unit.whole:
        value: float = data.draw(st.integers(0, 1 << 60))
    else:
        low = -1e12 if unit.signed else 0.0
        value = data.draw(st.floats(low, 1e12, allow_nan=False, allow_subnormal=False))
        if value and abs(value) < 1e-80:
            value = 0.0
    assert unit.parse(unit.format(value)) == value


@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.quantity)
@given(data=st.data())
def test_parse__is_exact_and_agrees_with_the_pattern(unit: Unit, data: st.DataObject) -> None:
    spelling = data.draw(st.sampled_from(sorted(unit.factors)))
    number = data.draw(st.decimals(0, 10**9, places=3).filter(lambda one: one.is_finite()))
    text = f"{number}{spelling}"
    exact = Decimal(number) * Decimal(unit.factors[spelling])
    assert re.search(unit.pattern, text)
    if unit.whole and exact != int(exact):
        with pytest.raises(UnitError, match=r"is no whole number of B\. Write for example"):
            unit.parse(text)
    else:
        assert unit.parse(text) == (int(exact) if unit.whole else float(exact))


@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.quantity)
@given(text=st.text(max_size=80))
def test_parse__any_text_gives_a_number_or_a_unit_error(unit: Unit, text: str) -> None:
    try:
        value = unit.parse(text)
    except UnitError:
        return
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("unit", "text", "fix"),
    [
        (units.TIME, "100", "100 has no unit. Write 100s (or 100ms if that is meant)."),
        (units.TIME, "5m", "Write 5min."),
        (units.TIME, "5sec", "Write 5s."),
        (units.TIME, "5 MS", "Write 5ms."),
        (units.FREQUENCY, "16khz", "Write 16kHz."),
        (units.FREQUENCY, "30fps", "Write 30Hz."),
        (units.SIZE, "256mb", "Write 256MB."),
        (units.SIZE, "256Mib", "Write 256MiB."),
        (units.TEMPERATURE, "80°C", "Write 80C."),
        (units.TIME, "-1s", "'-1s' is negative; a time is not."),
        (units.TIME, "soon", "'soon' is no time. Write for example 100ms or 10s or 5min."),
        (units.TIME, "1e999s", "unit 'e999s' of 1e999s is unknown."),
        (units.COMPUTE, "13 potatoes", "unit 'potatoes' of 13potatoes is unknown. Known: GOPS, TOPS."),
    ],
)
def test_parse__wrong_text_names_the_corrected_value(unit: Unit, text: str, fix: str) -> None:
    with pytest.raises(UnitError, match=re.escape(fix)):
        unit.parse(text)


def test_aliases__none_is_a_unit_and_each_leads_to_one() -> None:
    found: list[tuple[Any, str]] = [(unit, alias) for unit in ALL for alias in unit.aliases]
    assert found
    for unit, alias in found:
        assert alias not in unit.factors
        assert unit.aliases[alias] in unit.factors
