"""Quantities with their unit: what people write (``100ms``), what the code gets (0.1), and back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?"
_TEXT = re.compile(rf"\s*([+-]?{_NUMBER})\s*((?![0-9.])\S*)\s*", re.ASCII)
_LONGEST = 64
"""Characters of a quantity; nobody writes longer ones, and Decimal is slow on very long ones."""


class UnitError(ValueError):
    """A text is no quantity of this unit; the text of the error has the corrected value where one is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A kind of quantity and the spellings of its units.

    Annotate a field's number type with one; the ready-made types below do.
    """

    quantity: str
    """In words, for messages: ``time``, ``size`` ..."""
    factors: Mapping[str, str]
    """Spelling to factor (decimal text, so that it is exact); the spelling with factor 1 is the base unit."""
    examples: tuple[str, ...]
    suggest: tuple[str, ...]
    """Spellings offered to somebody who wrote a bare number, the likeliest first."""
    aliases: Mapping[str, str]
    """Spellings that are refused, and what is meant by them."""
    whole: bool = False
    """The value is a whole number of base units."""
    signed: bool = False
    """Negative values make sense (temperatures)."""

    def __hash__(self) -> int:
        """By quantity: typing puts annotations into sets."""
        return hash(self.quantity)

    @property
    def pattern(self) -> str:
        """Regular expression (ECMA 262) of the texts that :meth:`parse` takes; JSON Schema uses it."""
        sign = "[+-]?" if self.signed else r"\+?"
        return rf"^{sign}{_NUMBER} ?({'|'.join(map(re.escape, self.factors))})$".replace("\\ ", " ")

    def parse(self, text: str) -> float | int:
        """Read ``100ms``.

        Args:
            text: A number and a unit; a space may stand between them.

        Returns:
            The number in the base unit: float, or int where ``whole``.

        Raises:
            UnitError: It is not that; says what to write instead.
        """
        match = _TEXT.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise UnitError(f"{text[:_LONGEST]!r} is no {self.quantity}. Write for example {self._examples()}.")
        number, spelling = match.groups()
        if not spelling:
            raise UnitError(self.bare(number))
        if spelling not in self.factors:
            raise UnitError(self._unknown(number, spelling))
        value = Decimal(number) * Decimal(self.factors[spelling])
        if value < 0 and not self.signed:
            raise UnitError(f"{text!r} is negative; a {self.quantity} is not.")
        if not self.whole:
            return float(value)
        if value != value.to_integral_value():
            near = self.format(max(1, round(value)))
            raise UnitError(f"{text!r} is no whole number of {self.base}. Write for example {near}.")
        return int(value)

    def bare(self, number: str) -> str:
        """What to tell somebody who wrote ``number`` without its unit."""
        likely, *others = (f"{number}{unit}" for unit in self.suggest)
        rest = f" (or {', '.join(others)} if that is meant)" if others else ""
        return f"{number} has no unit. Write {likely}{rest}."

    def format(self, value: float) -> str:
        """Write a value so that :meth:`parse` gives exactly it back, in the largest unit that stays short.

        Args:
            value: In the base unit; finite.
        """
        exact = Decimal(value) if self.whole else Decimal(repr(value))
        best = _plain(exact) + self.base
        for spelling, factor in self.factors.items():
            if abs(exact) < Decimal(factor) or spelling in self.aliases:
                continue
            text = _plain(exact / Decimal(factor)) + spelling
            if len(text) < len(best) and len(text) <= _LONGEST and self.parse(text) == value:
                best = text
        return best

    @property
    def base(self) -> str:
        """The unit that the code's numbers are in."""
        return next(spelling for spelling, factor in self.factors.items() if factor == "1")

    def _examples(self) -> str:
        return " or ".join(self.examples)

    def _unknown(self, number: str, spelling: str) -> str:
        folded = {known.lower(): known for known in self.factors}
        near = self.aliases.get(spelling) or self.aliases.get(spelling.lower()) or folded.get(spelling.lower())
        if near is None:
            close = difflib.get_close_matches(spelling, self.factors, n=1)
            near = close[0] if close else None
        hint = f" Write {number}{near}." if near else ""
        return f"unit {spelling!r} of {number}{spelling} is unknown.{hint} Known: {', '.join(self.factors)}."


def _plain(value: Decimal) -> str:
    """Decimal digits without an exponent where that is short, else with one."""
    normal = value.normalize()
    text = f"{normal:f}"
    if len(text) <= 24:
        return text
    return str(normal).replace("E", "e")


def unit_of(metadata: tuple[Any, ...]) -> Unit | None:
    """The unit among an Annotated type's metadata, if there is one."""
    return next((item for item in metadata if isinstance(item, Unit)), None)


def _scaled(base: str, prefixes: str) -> dict[str, str]:
    """Spellings of ``base`` with SI prefixes, in ascending order."""
    powers = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12}
    names = [*prefixes.replace("-", ""), ""] if "-" in prefixes else list(prefixes)
    ordered = sorted(names, key=powers.__getitem__)
    return {prefix + base: format(Decimal(10) ** powers[prefix], "f") for prefix in ordered}


_BINARY = {"KiB": str(2**10), "MiB": str(2**20), "GiB": str(2**30), "TiB": str(2**40)}
_DECIMAL = {"B": "1", "KB": str(10**3), "MB": str(10**6), "GB": str(10**9), "TB": str(10**12)}

TIME = Unit(
    quantity="time",
    factors={"ns": "0.000000001", "us": "0.000001", "ms": "0.001", "s": "1", "min": "60", "h": "3600", "d": "86400"},
    examples=("100ms", "10s", "5min"),
    suggest=("s", "ms"),
    aliases={
        **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
        **dict.fromkeys(("msec", "msecs", "millisecond", "milliseconds"), "ms"),
        **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
        **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
        **dict.fromkeys(("day", "days"), "d"),
        "µs": "us",
    },
)
FREQUENCY = Unit(
    quantity="frequency",
    factors=_scaled("Hz", "m-kMG"),
    examples=("15Hz", "16kHz", "1.8GHz"),
    suggest=("Hz", "kHz"),
    aliases={"fps": "Hz", "hertz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "k": "kHz"},
)
SIZE = Unit(
    quantity="size",
    factors={**_DECIMAL, **_BINARY},
    examples=("256MiB", "4GiB", "128KB"),
    suggest=("B", "MiB"),
    aliases={
        **dict.fromkeys(("k", "kb", "kB"), "KB"),
        **dict.fromkeys(("m", "mb", "Mb"), "MB"),
        **dict.fromkeys(("g", "gb", "Gb"), "GB"),
        **dict.fromkeys(("b", "byte", "bytes"), "B"),
        **dict.fromkeys(("Ki", "kib"), "KiB"),
        **dict.fromkeys(("Mi", "mib"), "MiB"),
        **dict.fromkeys(("Gi", "gib"), "GiB"),
    },
    whole=True,
)
TEMPERATURE = Unit(
    quantity="temperature",
    factors={"C": "1"},
    examples=("80C", "-20C"),
    suggest=("C",),
    aliases={"°C": "C", "c": "C", "deg": "C", "degC": "C", "celsius": "C"},
    signed=True,
)
POWER = Unit(
    quantity="power",
    factors=_scaled("W", "m-k"),
    examples=("6.4W", "350mW"),
    suggest=("W", "mW"),
    aliases={"watt": "W", "watts": "W", "w": "W"},
)
VOLTAGE = Unit(
    quantity="voltage",
    factors=_scaled("V", "m-k"),
    examples=("5V", "850mV"),
    suggest=("V", "mV"),
    aliases={"volt": "V", "volts": "V", "v": "V"},
)
CURRENT = Unit(
    quantity="current",
    factors=_scaled("A", "m-"),
    examples=("3A", "500mA"),
    suggest=("A", "mA"),
    aliases={"amp": "A", "amps": "A", "a": "A"},
)
RATE = Unit(
    quantity="data rate",
    factors={f"{spelling}/s": factor for spelling, factor in (_DECIMAL | _BINARY).items()},
    examples=("17.1GB/s", "500MB/s"),
    suggest=("B/s", "GB/s"),
    aliases={"kB/s": "KB/s", "GBps": "GB/s", "MBps": "MB/s", "gb/s": "GB/s", "mb/s": "MB/s"},
)
COMPUTE = Unit(
    quantity="compute rate",
    factors={"GOPS": "0.001", "TOPS": "1"},
    examples=("13TOPS", "512GOPS"),
    suggest=("TOPS", "GOPS"),
    aliases={"TOP/s": "TOPS", "Tops": "TOPS", "GOP/s": "GOPS"},
)

Seconds = Annotated[float, TIME]
"""Written ``100ms``, ``10s``, ``5min``, ``1h``."""
Hertz = Annotated[float, FREQUENCY]
"""Written ``15Hz``, ``16kHz``, ``1.8GHz``."""
ByteCount = Annotated[int, SIZE]
"""Written ``256MiB``, ``4GiB``, ``128KB``; K, M and G without an i are powers of 1000."""
Celsius = Annotated[float, TEMPERATURE]
"""Written ``80C``."""
Watts = Annotated[float, POWER]
"""Written ``6.4W``."""
Volts = Annotated[float, VOLTAGE]
"""Written ``5V``."""
Amperes = Annotated[float, CURRENT]
"""Written ``3A``."""
BytesPerSecond = Annotated[float, RATE]
"""Written ``17.1GB/s``."""
Tops = Annotated[float, COMPUTE]
"""Tera operations per second, written ``13TOPS``."""
