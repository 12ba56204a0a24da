"""Size against fidelity and time against fidelity, over everything that was tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgesdk_converters.report import markup
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.record import Record, Trial
from edgesdk_converters.report.svg import Box, Label, Scale, linear_ticks, log_ticks, place
from edgesdk_converters.report.trials import (
    EQUAL_DB,
    FidelityAxis,
    dominated,
    fidelity_axis,
    limit_size,
    limit_time,
    quantized,
)

_WIDTH, _HEIGHT = 500.0, 360.0
_AREA = Box(58.0, 16.0, _WIDTH - 14.0, _HEIGHT - 46.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    number: int
    """Row in the table."""
    trial: Trial
    x: float
    y: float
    beaten: bool


def pareto(record: Record) -> Html | None:
    """The two plots with their legend; None where there is nothing to compare."""
    axis = fidelity_axis(record)
    shown = [
        (number, trial, value)
        for number, trial in enumerate(record.trials, 1)
        if (value := axis.value(trial.measurement, record)) is not None
    ]
    if not shown:
        return None
    beaten = dominated(
        [
            (t.measurement.size_bytes, t.measurement.latency.ratio if t.measurement.latency else None, v)
            for _, t, v in shown
        ]
    )
    sizes = [
        _Point(number=n, trial=t, x=float(max(1, t.measurement.size_bytes)), y=v, beaten=b)
        for (n, t, v), b in zip(shown, beaten, strict=True)
    ]
    latencies = [
        _Point(number=n, trial=t, x=t.measurement.latency.ratio, y=v, beaten=b)
        for (n, t, v), b in zip(shown, beaten, strict=True)
        if t.measurement.latency is not None and 0 <= t.measurement.latency.ratio < 1e6
    ]
    figures = [_panel(sizes, axis, "size of the file (logarithmic)", markup.size, limit_size(record), log=True)]
    if latencies:
        figures.append(
            _panel(latencies, axis, "time, as a multiple of float", markup.times, limit_time(record), log=False)
        )
    return join_panels(figures)


def join_panels(figures: Sequence[Html]) -> Html:
    """Side by side, with one legend."""
    return el(
        "div",
        el("div", figures, class_="panels"),
        el(
            "p",
            "Each marker is a row of the table above, by its number. ",
            el("b", "Circle"),
            " ONNX, ",
            el("b", "square"),
            " TFLite; ",
            el("b", "filled"),
            " in the bundle, ",
            el("b", "hollow"),
            " not; ",
            el("b", "faint"),
            " beaten by another one in size, time and fidelity at once. The thin line is the Pareto front: nothing above and to the left of"
            " it was found. The dashed line is the budget: beyond it, towards the shaded side,"
            " the guard refuses.",
            class_="note",
        ),
    )


def _front(spots: Sequence[tuple[float, float]]) -> Html:
    """Steps over the markers that no other one beats in both directions; up on the page is a smaller y."""
    steps: list[tuple[float, float]] = []
    for x, y in sorted(spots):
        if not steps or y < steps[-1][1]:
            steps.append((x, y))
    path = "".join(f" H{x} V{y}" for x, y in steps[1:])
    return el("path", d=f"M{steps[0][0]} {steps[0][1]}{path}", class_="front")


def _panel(
    points: Sequence[_Point],
    axis: FidelityAxis,
    title: str,
    unit: Callable[[float], str],
    budget: float | None,
    *,
    log: bool,
) -> Html:
    across = _across([p.x for p in points], budget, log=log)
    up = _up([p.y for p in points], axis)
    spots = [(across(p.x), up(p.y)) for p in points]
    order = sorted(range(len(points)), key=lambda i: (not points[i].trial.chosen, points[i].beaten, points[i].number))
    texts = [_name(points[i]) for i in order]
    line_y = up(axis.limit)
    labels = place([spots[i] for i in order], texts, _AREA)
    ticks = log_ticks(across.low, across.high) if log else linear_ticks(across.low, across.high)
    parts: list[Html | None] = [_shade(line_y, across, budget)]
    for tick in _spaced(ticks, across, unit):
        parts.append(_line(across(tick), _AREA.top, across(tick), _AREA.bottom, "grid"))
        parts.append(_text(across(tick), _AREA.bottom + 17, unit(tick), "middle"))
    for tick in linear_ticks(up.low, up.high):
        parts.append(_line(_AREA.left, up(tick), _AREA.right, up(tick), "grid"))
        parts.append(_text(_AREA.left - 7, up(tick) + 4, _tick(tick, axis), "end"))
    parts.append(_line(_AREA.left, line_y, _AREA.right, line_y, "budget"))
    if budget is not None:
        parts.append(_line(across(budget), _AREA.top, across(budget), _AREA.bottom, "budget"))
    parts.append(_front(spots))
    parts += [_lead(labels[at], spots[i]) for at, i in enumerate(order)]
    parts += [_marker(points[i], *spots[i], unit, axis) for i in reversed(order)]
    parts += [_label(labels[at], faint=points[i].beaten and not points[i].trial.chosen) for at, i in enumerate(order)]
    parts.append(_text((_AREA.left + _AREA.right) / 2, _HEIGHT - 8, title, "middle", "axis"))
    parts.append(
        el(
            "text",
            axis.title,
            x=0,
            y=0,
            text_anchor="middle",
            class_="axis",
            transform=f"translate(13 {(_AREA.top + _AREA.bottom) / 2:.0f}) rotate(-90)",
        )
    )
    return el(
        "svg",
        parts,
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        role="img",
        aria_label=f"{title} against {axis.title}; every value is in the table of trials",
    )


def _across(values: Sequence[float], budget: float | None, *, log: bool) -> Scale:
    wanted = [*values, *([] if budget is None else [budget])]
    if log:
        return Scale(low=min(wanted) / 1.35, high=max(wanted) * 1.35, start=_AREA.left, stop=_AREA.right, log=True)
    return Scale(low=0.0, high=max(1.1, *wanted) * 1.06, start=_AREA.left, stop=_AREA.right)


def _up(values: Sequence[float], axis: FidelityAxis) -> Scale:
    low, high = min(*values, axis.limit), max(*values, axis.limit)
    air = max((high - low) * 0.1, 0.5)
    top = min(high + air, 100 + air / 2) if axis.kind == "agreement" else high + air
    return Scale(low=low - air, high=top, start=_AREA.bottom, stop=_AREA.top)


def _spaced(ticks: Sequence[float], scale: Scale, unit: Callable[[float], str]) -> list[float]:
    """Those whose texts do not meet."""
    kept: list[float] = []
    right = -math.inf
    for tick in ticks:
        half = len(unit(tick)) * 3.4 + 4
        if scale(tick) - half >= right:
            kept.append(tick)
            right = scale(tick) + half
    return kept


def _tick(value: float, axis: FidelityAxis) -> str:
    if axis.kind != "agreement" and value >= EQUAL_DB:
        return f"\N{GREATER-THAN OR EQUAL TO} {EQUAL_DB:.0f}"
    return markup.minus(f"{value:g}") if axis.kind != "agreement" or value <= 100 else ""


def _shade(line_y: float, across: Scale, budget: float | None) -> Html:
    shades = [
        el(
            "rect",
            x=_AREA.left,
            y=line_y,
            width=_AREA.right - _AREA.left,
            height=_AREA.bottom - line_y,
            class_="beyond",
        )
    ]
    if budget is not None:
        at = across(budget)
        shades.append(el("rect", x=at, y=_AREA.top, width=_AREA.right - at, height=line_y - _AREA.top, class_="beyond"))
    return markup.join(shades)


def _name(point: _Point) -> str:
    return f"{point.number} {point.trial.measurement.variant}" if point.trial.chosen else str(point.number)


def _marker(point: _Point, x: float, y: float, unit: Callable[[float], str], axis: FidelityAxis) -> Html:
    trial = point.trial
    words = (
        f"{point.number} {trial.measurement.variant}, {trial.recipe or trial.precision}: {unit(point.x)}, "
        f"{markup.number(point.y)} ({axis.title}){'' if trial.chosen else ', not in the bundle'}"
    )
    classes = " ".join(
        name
        for name, holds in (
            ("mark", True),
            ("filled", trial.chosen),
            ("faint", point.beaten and not trial.chosen),
            ("source", not quantized(trial)),
        )
        if holds
    )
    title = el("title", words)
    if trial.format == "onnx":
        return el("circle", title, cx=x, cy=y, r=5, class_=classes)
    return el("rect", title, x=x - 4.5, y=y - 4.5, width=9, height=9, class_=classes)


def _lead(label: Label | None, spot: tuple[float, float]) -> Html | None:
    if label is None or not label.led:
        return None
    x = min(max(spot[0], label.box.left), label.box.right)
    y = min(max(spot[1], label.box.top), label.box.bottom)
    return _line(spot[0], spot[1], x, y, "lead")


def _label(label: Label | None, *, faint: bool) -> Html | None:
    if label is None:
        return None
    return _text(label.box.left + 1, label.box.bottom - 3.5, label.text, "start", "label faint" if faint else "label")


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return el("line", x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), class_=class_)


def _text(x: float, y: float, text: str, anchor: str, class_: str | None = None) -> Html:
    return el("text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=class_)
