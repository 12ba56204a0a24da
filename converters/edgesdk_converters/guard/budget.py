"""What a variant may cost, as the engineer states it: ``--max-drop 0.5pp --min-fidelity 25dB --min-speedup 1.5 --max-size 4MiB``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgesdk.errors import ConfigError
from edgesdk.schema.units import SIZE, UnitError

SNR_LIMIT_DB = 20.0
AGREEMENT_LIMIT = 0.98
AGREEMENT_PER_DB = 0.002
"""Makes the two limits comparable: what one dB was worth on PP-OCR's recognizer near its limit."""

FEWEST_FOR_GRACE = 10
"""Decisions from which on one may differ, whatever its share."""

_NUMBER = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*(\S*)\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits that every quantized variant must keep."""

    max_drop: float | None = None
    """Share, 0..1, that the task's own figure may fall below float's: accuracy where labels are given, else the agreement with float."""
    min_snr_db: float = SNR_LIMIT_DB
    """In every branch that is no class vector."""
    min_agreement: float = AGREEMENT_LIMIT
    """0..1: top-1 in every branch that is a class vector, and F1 of matched boxes."""
    min_speedup: float | None = None
    """Float time over variant time; None asks that it is not slower, within what two measurements of one model differ by."""
    max_size_bytes: int | None = None
    """Of the model file; None asks that it is smaller than its source."""

    @classmethod
    def parse(
        cls,
        *,
        max_drop: str | None = None,
        min_fidelity: str | Sequence[str] | None = None,
        min_speedup: str | None = None,
        max_size: str | None = None,
    ) -> Budget:
        """Read what was typed; a value without its unit is refused with the corrected one.

        Args:
            max_drop: ``0.5pp`` or ``0.5%``: percentage points of the task's own figure.
            min_fidelity: ``25dB`` for signal to noise, ``0.99`` for agreement; both may be given.
            min_speedup: ``1.5`` or ``1.5x``.
            max_size: ``4MiB``.

        Raises:
            ConfigError: All that is wrong, one line per option.
        """
        given: dict[str, Any] = {}
        problems: list[str] = []

        def take(option: str, text: str | None, read: Callable[[str], dict[str, Any]]) -> None:
            if text is None:
                return
            try:
                given.update(read(text))
            except ValueError as error:
                problems.append(f"{option} {text}: {error}")

        take("--max-drop", max_drop, lambda text: {"max_drop": _drop(text)})
        for one in [min_fidelity] if isinstance(min_fidelity, str) else min_fidelity or ():
            take("--min-fidelity", one, _fidelity)
        take("--min-speedup", min_speedup, lambda text: {"min_speedup": _speedup(text)})
        take("--max-size", max_size, lambda text: {"max_size_bytes": _size(text)})
        if problems:
            raise ConfigError(problems)
        return cls(**given)

    def limits(self) -> dict[str, float]:
        """By name with unit, for the report."""
        named = {
            "snr_db": self.min_snr_db,
            "agreement": self.min_agreement,
            "drop": self.max_drop,
            "speedup": self.min_speedup,
            "size_bytes": None if self.max_size_bytes is None else float(self.max_size_bytes),
        }
        return {name: value for name, value in named.items() if value is not None}

    def allowed_misses(self, count: int, *, things: int | None = None) -> int:
        """Of ``count`` decisions, how many may differ: the share that ``min_agreement`` leaves, but one of ten things or more.

        Twelve faces of which one falls a hair below the threshold are no evidence for an F1 of 0.96. One face of three is gone, though; and
        who asks for an agreement of 1 means it.

        Args:
            count: Decisions.
            things: That the decisions are about, where they count each twice, as F1 does; by default as many.
        """
        share = 1 - self.min_agreement
        grace = 1 if (count if things is None else things) >= FEWEST_FOR_GRACE and share > 0 else 0
        return max(grace, math.floor(share * count + 1e-9))

    def allowed_drop(self, count: int) -> int:
        """Of ``count`` decisions, how many may be lost by ``max_drop``: what was asked for, without grace."""
        return math.floor((self.max_drop or 0.0) * count + 1e-9)


def _split(text: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"is no number with a unit. Write for example {example}.")
    return float(match[1]), match[2]


def _drop(text: str) -> float:
    value, unit = _split(text, "0.5pp")
    number = f"{value:g}"
    if not unit:
        raise ValueError(f"{number} has no unit. Write {number}pp (percentage points).")
    if unit not in {"pp", "%"}:
        raise ValueError(f"unit {unit!r} is unknown. Write {number}pp. Known: pp, %.")
    if not 0 <= value < 100:
        raise ValueError(f"expected 0 to 100 percentage points. Write {min(abs(value), 99):g}pp.")
    return value / 100


def _fidelity(text: str) -> dict[str, float]:
    value, unit = _split(text, "25dB or 0.99")
    number = f"{value:g}"
    if unit == "dB":
        if not 0 < value <= 120:
            raise ValueError("expected more than 0 and at most 120 dB. Write for example 25dB.")
        return {"min_snr_db": value}
    if unit.lower() in {"db", "decibel"}:
        raise ValueError(f"unit {unit!r} is unknown. Write {number}dB.")
    if unit == "%":
        raise ValueError(f"an agreement is a share. Write {value / 100:g}.")
    if unit:
        raise ValueError(f"unit {unit!r} is unknown. Write {number}dB, or a share such as 0.99.")
    if value > 1:
        share = f" (or {value / 100:g} if an agreement is meant)" if 50 <= value <= 100 else ""
        raise ValueError(f"{number} has no unit. Write {number}dB{share}.")
    if value <= 0:
        raise ValueError("expected a share above 0 and at most 1. Write for example 0.99.")
    return {"min_agreement": value}


def _speedup(text: str) -> float:
    value, unit = _split(text, "1.5")
    if unit == "%":
        raise ValueError(f"a speed-up is a factor. Write {1 + value / 100:g}.")
    if unit not in {"", "x"}:
        raise ValueError(f"unit {unit!r} is unknown. Write {value:g} (times as fast as float).")
    if value <= 0:
        raise ValueError("expected a factor above 0. Write for example 1.5.")
    return value


def _size(text: str) -> int:
    try:
        size = int(SIZE.parse(text))
    except UnitError as error:
        raise ValueError(str(error)) from None
    if size == 0:
        raise ValueError("no model has no bytes. Write for example 4MiB.")
    return size


def short_of(value: float, limit: float, digits: int) -> str:
    """What misses a limit, with so many decimals: 19.98 is never shown as the 20.0 that was asked for."""
    text = f"{value:.{digits}f}"
    if value < limit <= float(text):
        text = f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"
    return text
