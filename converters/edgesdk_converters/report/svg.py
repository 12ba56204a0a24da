"""Scales, ticks and labels that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHARACTER_PX = 7.6
"""Upper bound of the mean advance of 12 px bold sans-serif text: measured 7.2 to 7.5 in DejaVu Sans, the widest usual one."""
LINE_PX = 14.0


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle in pixels, y down."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether they share an area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies in the other."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to pixels."""

    low: float
    high: float
    start: float
    """Pixel of ``low``."""
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are put on the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.stop - self.start), 2)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values within ``low``..``high``, steps of 1, 2 or 5."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2, 5 times powers of ten within ``low``..``high``; fewer where that would be more than ``most``."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**p for p in range(first, last + 1) for f in factors if low <= f * 10.0**p <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text that found its place."""

    text: str
    box: Box
    led: bool
    """Whether it is so far from its point that a line should lead there."""


def place(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    area: Box,
    *,
    radius: float = 7.0,
    blocked: Sequence[Box] = (),
) -> list[Label | None]:
    """Find a place for the label of every point.

    No label meets another one, a marker or what is blocked, and all lie within ``area``. The first come has the first choice. None
    where the area is full.

    Args:
        points: Centres of the markers.
        texts: As many.
        area: Where labels may be.
        radius: Of a marker with the air around it.
        blocked: Places to keep free.
    """
    taken = [*blocked, *(Box(x - radius, y - radius, x + radius, y + radius) for x, y in points)]
    placed: list[Label | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        width = len(text) * CHARACTER_PX + 2
        found = None
        for box, led in _candidates(x, y, width, radius, area):
            if box.within(area) and not any(box.meets(other) for other in taken):
                found = Label(text=text, box=box, led=led)
                taken.append(box)
                break
        placed.append(found)
    return placed


def _candidates(x: float, y: float, width: float, radius: float, area: Box) -> list[tuple[Box, bool]]:
    half = LINE_PX / 2
    found: list[tuple[Box, bool]] = []
    for ring in range(12):
        gap = radius + 1 + ring * LINE_PX
        led = ring > 0
        spots = (
            (x + gap, y - half),
            (x - gap - width, y - half),
            (x - width / 2, y - gap - LINE_PX),
            (x - width / 2, y + gap),
            (x + gap * 0.7, y - gap * 0.7 - LINE_PX),
            (x + gap * 0.7, y + gap * 0.7),
            (x - gap * 0.7 - width, y - gap * 0.7 - LINE_PX),
            (x - gap * 0.7 - width, y + gap * 0.7),
        )
        found += [(Box(left, top, left + width, top + LINE_PX), led) for left, top in spots]
    rows = int((area.bottom - area.top) // LINE_PX)
    columns = int((area.right - area.left) // max(width, 1))
    grid = [
        Box(
            area.left + column * width,
            area.top + row * LINE_PX,
            area.left + (column + 1) * width,
            area.top + (row + 1) * LINE_PX,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    grid.sort(key=lambda box: math.hypot((box.left + box.right) / 2 - x, (box.top + box.bottom) / 2 - y))
    return found + [(box, True) for box in grid]
