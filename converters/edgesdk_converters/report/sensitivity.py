"""What quantizing each node alone costs, as a table with bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgesdk_converters.report import markup
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.record import NodeCost, Record
from edgesdk_converters.report.svg import Scale, linear_ticks
from edgesdk_converters.report.trials import quantized

SHOWN = 30
_WIDTH, _BAR, _HEAD = 240.0, 14.0, 30.0
_FLOOR_DB = -80.0
"""Less than this nobody measures: an eighth of a bit of 16."""
SCHEMES = {
    "float": "stays float",
    "w8a8": "8-bit weights and activations",
    "w8a16": "8-bit weights, 16-bit activations",
    "w4a8": "4-bit weights, 8-bit activations",
    "dynamic": "8-bit weights, ranges found at run time",
    "w8": "8-bit weights, float arithmetic",
    "w4": "4-bit weights, float arithmetic",
}


def error_db(ratio: float) -> float:
    """Error power over signal power as dB: 0 means that the error is as large as the signal."""
    if math.isnan(ratio) or ratio >= 1e12:
        return 120.0
    return max(-120.0, 10 * math.log10(ratio)) if ratio > 0 else -120.0


def sensitivity(record: Record) -> Html | None:
    """The most expensive nodes first; None where it was not measured."""
    costs = sorted(record.sensitivity, key=lambda cost: -_worst(cost)[1])
    if not costs:
        return None
    shown = costs[:SHOWN]
    values = [_worst(cost)[1] for cost in shown]
    low = max(_FLOOR_DB, math.floor((min(values) - 5) / 10) * 10.0)
    high = max(0.0, min(20.0, math.ceil(max(values) / 10) * 10.0))
    scale = Scale(low=min(low, high - 20), high=high, start=2, stop=_WIDTH - 12)
    used = list(dict.fromkeys(cost.scheme for cost in shown))
    return el(
        "div",
        el(
            "p",
            "Error that appears at the outputs when only this node is quantized, as a share of the signal's power: ",
            markup.minus("-20 dB is 1 %, -30 dB 0.1 %. "),
            f"The colour and the word say what the plan{_plan(record)} does with the node: ",
            el("span", [_key(scheme) for scheme in used], class_="legend"),
            class_="note",
        ),
        el(
            "div",
            el(
                "table",
                el(
                    "thead",
                    el(
                        "tr",
                        el("th", "node", scope="col"),
                        el("th", "operator", scope="col"),
                        el("th", "now", scope="col"),
                        el("th", _axis(scale), scope="col", class_="bars"),
                        el("th", "error", scope="col", class_="n"),
                        el("th", "in branch", scope="col"),
                        el("th", "weights", scope="col", class_="n"),
                    ),
                ),
                el("tbody", [_row(cost, scale) for cost in shown]),
                class_="sensitivity",
            ),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="sensitivity of the nodes",
        ),
        _rest(costs, shown),
    )


def _plan(record: Record) -> str:
    """Which one, where several were tried."""
    schemes = {trial.precision for trial in record.trials if quantized(trial)}
    return f" of recipe {record.plan.recipe!r}" if record.plan is not None and len(schemes) > 1 else ""


def _worst(cost: NodeCost) -> tuple[str, float]:
    name, ratio = max(cost.error.items(), key=lambda item: error_db(item[1]), default=("", 0.0))
    return name, error_db(ratio)


def _key(scheme: str) -> Html:
    swatch = el("svg", el("rect", width=11, height=11, class_=_class(scheme)), viewBox="0 0 11 11", aria_hidden="true")
    return el("span", swatch, f" {scheme} ({SCHEMES.get(scheme, 'as the plan says')})", class_="key")


def _class(scheme: str) -> str:
    return f"s-{scheme}" if scheme in SCHEMES else "s-other"


def _axis(scale: Scale) -> Html:
    ticks = linear_ticks(scale.low, scale.high, 4)
    return el(
        "svg",
        el("text", "error alone, dB", x=2, y=11),
        [
            el(
                "text",
                markup.minus(f"{tick:g}"),
                x=scale(tick),
                y=27,
                text_anchor="start" if tick == scale.low else "middle",
            )
            for tick in ticks
        ],
        width=_WIDTH,
        height=_HEAD,
        role="img",
        aria_label=f"scale from {scale.low:g} to {scale.high:g} dB",
    )


def _row(cost: NodeCost, scale: Scale) -> Html:
    branch, value = _worst(cost)
    bar = el(
        "svg",
        [_grid(scale(tick)) for tick in linear_ticks(scale.low, scale.high, 4)],
        el(
            "rect",
            x=scale.start,
            y=1,
            width=round(max(1.5, scale(value) - scale.start), 1),
            height=_BAR - 2,
            class_=_class(cost.scheme),
        ),
        width=_WIDTH,
        height=_BAR,
        aria_hidden="true",
    )
    others = (
        "; ".join(f"{name} {_db(error_db(ratio))}" for name, ratio in cost.error.items())
        if len(cost.error) > 1
        else None
    )
    return el(
        "tr",
        el("th", cost.node, scope="row", class_="name"),
        el("td", cost.op_type),
        el("td", cost.scheme, el("small", cost.reason) if cost.reason else None),
        el("td", bar, class_="bars"),
        el("td", _db(value), class_="n"),
        el("td", branch, title=others),
        el("td", markup.size(cost.weight_bytes) if cost.weight_bytes else "\N{EN DASH}", class_="n"),
    )


def _grid(x: float) -> Html:
    return el("line", x1=x, x2=x, y1=0, y2=_BAR, class_="grid")


def _db(value: float) -> str:
    return "lost" if value >= 120 else "none" if value <= -120 else markup.decibel(value)


def _rest(costs: Sequence[NodeCost], shown: Sequence[NodeCost]) -> Html | None:
    if len(costs) == len(shown):
        return None
    return el(
        "p",
        f"{markup.plural(len(costs) - len(shown), 'node')} that cost less are left out here; the JSON has all.",
        class_="note",
    )
