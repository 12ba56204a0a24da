"""What the activations did over the calibration samples, and where their ranges were cut: one small plot each."""

from __future__ import annotations

import math

from edgesdk_converters.report import markup
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.record import Record, TensorHistogram

SHOWN = 24
_BINS = 60
_WIDTH, _TOP, _FLOOR, _HEIGHT = 220.0, 6.0, 86.0, 104.0


def histograms(record: Record) -> Html | None:
    """Those that lose the most to their range first; None where there are none."""
    usable = [one for one in record.histograms if _sound(one)]
    if not usable:
        return None
    shown = sorted(usable, key=lambda one: -clipped(one))[:SHOWN]
    rest = len(record.histograms) - len(shown)
    return el(
        "div",
        el(
            "p",
            "How often an activation took a value over the calibration samples (height is the logarithm of the count). The band "
            "between the two lines is the range that the integers cover; ",
            el("b", "hatched"),
            " bars lie outside and are clipped to its edge.",
            class_="note",
        ),
        _hatch(),
        el("div", [_figure(one) for one in shown], class_="multiples"),
        el("p", f"{markup.plural(rest, 'more tensor')} in the JSON.", class_="note") if rest > 0 else None,
    )


def clipped(one: TensorHistogram) -> float:
    """Share of the values outside the chosen range, 0..1; a bin counts as its middle."""
    total = sum(one.counts)
    if not total:
        return 0.0
    step = (one.high - one.low) / len(one.counts)
    outside = sum(
        count
        for index, count in enumerate(one.counts)
        if not one.chosen_low <= one.low + (index + 0.5) * step <= one.chosen_high
    )
    return outside / total


def _sound(one: TensorHistogram) -> bool:
    edges = (one.low, one.high, one.chosen_low, one.chosen_high)
    return bool(one.counts) and all(math.isfinite(edge) and abs(edge) < 1e30 for edge in edges) and one.low < one.high


def _hatch() -> Html:
    """The pattern, once for the document."""
    return el(
        "svg",
        el(
            "defs",
            el(
                "pattern",
                el("rect", width=5, height=5, class_="hatch-ground"),
                el("path", d="M0 5L5 0", class_="hatch-line"),
                id="hatch",
                width=5,
                height=5,
                patternUnits="userSpaceOnUse",
            ),
        ),
        width=0,
        height=0,
        aria_hidden="true",
        class_="defs",
    )


def _figure(one: TensorHistogram) -> Html:
    low, high = min(one.low, one.chosen_low), max(one.high, one.chosen_high)
    bins = _fewer(one)
    top = math.log1p(max(count for _, _, count in bins)) or 1.0

    def x(value: float) -> float:
        return round((value - low) / (high - low) * _WIDTH, 2)

    bars = []
    for left, right, count in bins:
        if not count:
            continue
        height = max(1.0, math.log1p(count) / top * (_FLOOR - _TOP))
        inside = one.chosen_low <= (left + right) / 2 <= one.chosen_high
        bars.append(
            el(
                "rect",
                x=x(left),
                y=round(_FLOOR - height, 1),
                width=round(max(0.8, x(right) - x(left) - 0.4), 2),
                height=round(height, 1),
                class_="bar" if inside else "cut",
            )
        )
    share = clipped(one)
    chosen = f"{markup.number(one.chosen_low)} to {markup.number(one.chosen_high)}"
    lost = (
        f"{markup.percent(share) if share >= 0.001 else f'{share * 100:.2g} %'} clipped" if share else "nothing clipped"
    )
    caption = [el("b", one.tensor), f"made by {one.node}" if one.node else "input", f"range {chosen}, {lost}"]
    return el(
        "figure",
        el(
            "svg",
            el(
                "rect",
                x=x(one.chosen_low),
                y=0,
                width=round(max(1.0, x(one.chosen_high) - x(one.chosen_low)), 2),
                height=_FLOOR,
                class_="band",
            ),
            bars,
            [
                el("line", x1=x(edge), x2=x(edge), y1=0, y2=_FLOOR, class_="edge")
                for edge in (one.chosen_low, one.chosen_high)
            ],
            el("line", x1=0, x2=_WIDTH, y1=_FLOOR, y2=_FLOOR, class_="base"),
            el("text", markup.number(low), x=0, y=_HEIGHT - 4),
            el("text", markup.number(high), x=_WIDTH, y=_HEIGHT - 4, text_anchor="end"),
            viewBox=f"-2 0 {_WIDTH + 4:.0f} {_HEIGHT:.0f}",
            role="img",
            aria_label=f"histogram of {one.tensor}: values {markup.number(one.low)} to {markup.number(one.high)}, range {chosen}, {lost}",
        ),
        el("figcaption", [el("span", line) for line in caption]),
    )


def _fewer(one: TensorHistogram) -> list[tuple[float, float, int]]:
    """Left edge, right edge and count of at most as many bins as can be told apart at this width."""
    total = len(one.counts)
    step, group = (one.high - one.low) / total, -(-total // _BINS)
    return [
        (one.low + start * step, one.low + min(start + group, total) * step, sum(one.counts[start : start + group]))
        for start in range(0, total, group)
    ]
