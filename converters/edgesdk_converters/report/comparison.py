"""Inputs with what the float and the quantized model make of them, side by side; and the calibration set's findings."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from edgesdk_converters.calibration_report.amount import LIMIT
from edgesdk_converters.report import markup
from edgesdk_converters.report.decisions import largest, near
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.record import CalibrationFindings, Example, Finding, Record
from edgesdk_converters.report.svg import Scale
from edgesdk_converters.report.tables import lines, table

_PNG = b"\x89PNG\r\n\x1a\n"
_SHOWN = 12
_LARGEST = 3
_ORDINALS = {1: "", 2: "second ", 3: "third "}
_SAID_ELSEWHERE = ("kind", "picture_size_wh")
_DASH = "\N{EN DASH}"


def examples(record: Record) -> Html | None:
    """All examples, those that differ first."""
    if not record.examples:
        return None
    same = sum(one.same for one in record.examples)
    ordered = sorted(record.examples, key=lambda one: one.same)
    return el(
        "div",
        el(
            "p",
            f"{same} of {markup.plural(len(record.examples), 'held-out input')} shown here: the same decision by the float model and by "
            f"the quantized one{_which(record)}. They are spread evenly over all, those first "
            "in which float finds something; not chosen by how well they do.",
            class_="note",
        ),
        el("div", [_example(one) for one in ordered], class_="examples"),
    )


def _which(record: Record) -> str:
    variants = dict.fromkeys(one.variant for one in record.examples if one.variant)
    return f" ({', '.join(variants)})" if variants else ""


def _example(one: Example) -> Html:
    mark = (
        el("span", "\N{CHECK MARK} same", class_="tag good")
        if one.same
        else el("span", "\N{NOT EQUAL TO} differs", class_="tag bad")
    )
    pictures = None
    both = one.got_png.startswith(_PNG)
    if one.picture_png.startswith(_PNG):
        pictures = el(
            "div",
            _picture(one.picture_png, "float" if both else "input", one),
            _picture(one.got_png, "quantized", one) if both else None,
            class_="pair" if both else "pair alone",
        )
    return el("article", el("h3", one.name, " ", mark), pictures, _differences(one), class_="example")


def _picture(png: bytes, whose: str, one: Example) -> Html:
    data = base64.b64encode(png).decode("ascii")
    return el(
        "figure",
        el(
            "img",
            src=f"data:image/png;base64,{data}",
            alt=one.name if whose == "input" else f"{one.name} with the result of the {whose} model",
        ),
        el("figcaption", whose),
    )


def _differences(one: Example) -> Html:
    """Typed results as rows; those that differ first, all others as far as there is room."""
    expected, got = dict(_rows(one.expected)), dict(_rows(one.got))
    # An empty list beside a filled one needs no row of its own.
    whole = dict.fromkeys([*expected, *got])
    names = [name for name in whole if f"{name} 1" not in whole]
    sizes = _sizes(one)
    alike = {name: near(expected.get(name), got.get(name), sizes.get(name, 0.0)) for name in names}
    shown = set(sorted(names, key=lambda name: alike[name])[:_SHOWN])
    rows = [
        (
            el("code", name),
            _words(expected.get(name)),
            _words(got.get(name)),
            _mark(one, name, expected, got, alike=alike[name]),
        )
        for name in names
        if name in shown
    ]
    rest = len(names) - len(rows)
    tail = None
    if rest:
        differing = sum(not alike[name] for name in names if name not in shown)
        tail = el(
            "p", f"{markup.plural(rest, 'more value')}, {differing} of them differing, in the JSON.", class_="note"
        )
    columns = [("result", False), ("float", False), ("quantized", False), ("", False)]
    return markup.join([table(columns, rows, label=f"results for {one.name}", class_="narrow results"), tail])


def _mark(one: Example, name: str, expected: dict[str, Any], got: dict[str, Any], *, alike: bool) -> Html:
    if expected.get(name) == got.get(name):
        return el("span", "=", title="equal")
    if alike:
        return el("span", "\N{ALMOST EQUAL TO}", title="within 5 %")
    if one.same:  # another number, and the same decision: nothing to be alarmed by
        return el("span", "\N{NOT EQUAL TO}", title="differs by more than 5 %; the decision is the same")
    return el("span", "\N{NOT EQUAL TO}", class_="no", title="differs")


def _sizes(one: Example) -> dict[str, float]:
    """Largest number of the output that a row is from: what is small beside it may differ."""
    found: dict[str, float] = {}
    for result in (one.expected, one.got):
        outputs = result.get("outputs") if result.get("kind") == "raw" else None
        for name, output in (outputs or {}).items():
            size = largest(output.get("values")) if isinstance(output, dict) else 0.0
            for row, _ in _raw({name: output}) if isinstance(output, dict) else ():
                found[row] = max(found.get(row, 0.0), size)
    return found


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a result says, by where it says it."""
    if result.get("kind") == "raw":
        yield from _raw(result.get("outputs") or {})
        return
    for name, value in result.items():
        if name in _SAID_ELSEWHERE:
            continue
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield from ((f"{name} {at}", item) for at, item in enumerate(value, 1))
        else:
            yield name, value


def _raw(outputs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, output in outputs.items():
        values = _flat(output.get("values"))
        if len(values) > _LARGEST and all(isinstance(value, int | float) for value in values):
            order = sorted(range(len(values)), key=lambda at: -values[at])[:_LARGEST]
            for rank, at in enumerate(order, 1):
                yield f"{name}, {_ORDINALS[rank]}largest", {f"[{at}]": values[at]}
        elif values:
            yield name, values
        else:
            yield from ((f"{name}, {key}", v) for key, v in output.items() if key not in ("shape", "dtype", "values"))


def _words(value: Any) -> str:
    """A value on one line; what is deep inside (keypoints, corners) is in the picture and in the JSON."""
    if value is None:
        return _DASH
    if isinstance(value, dict):
        flat = {key: inner for key, inner in value.items() if not _deep(inner)}
        if flat.get("label"):  # what one reads first, and its number says no more
            name, rest = flat.pop("label"), {key: inner for key, inner in flat.items() if key != "class_id"}
            return "; ".join([str(name), *(f"{key} {_words(inner)}" for key, inner in rest.items())])
        return "; ".join(f"{key} {_words(inner)}" for key, inner in flat.items())
    if isinstance(value, list):
        if not value:
            return "none"
        text = ", ".join(_words(item) for item in value[:8])
        return text + (f" \N{HORIZONTAL ELLIPSIS} ({len(value)})" if len(value) > 8 else "")
    return markup.minus(f"{value:.4g}") if isinstance(value, float) else str(value)


def _deep(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value))


def _flat(values: Any) -> list[Any]:
    return (
        [leaf for value in values for leaf in _flat(value)]
        if isinstance(values, list)
        else [values]
        if values is not None
        else []
    )


# -- the calibration set -----------------------------------------------------------------------------------------------

_SEVERITY = {
    "ok": ("good", "\N{CHECK MARK} fine"),
    "hint": ("", "\N{INFORMATION SOURCE} hint"),
    "warning": ("warn", "\N{WARNING SIGN} warning"),
}


def calibration(found: CalibrationFindings) -> Html:
    """Are these enough? And what else is wrong or right with them."""
    tag = "good" if found.enough else "warn"
    word = "\N{CHECK MARK} enough" if found.enough else "\N{WARNING SIGN} not enough"
    order = {"warning": 0, "hint": 1, "ok": 2}
    return el(
        "div",
        el("p", "Are these enough? ", el("span", word, class_=f"tag {tag}")),
        el("p", el("b", found.verdict[:1].upper() + found.verdict[1:])),
        el("ul", [_finding(one) for one in sorted(found.findings, key=lambda f: order[f.severity])], class_="findings"),
        el("div", _groups(found.groups), _stability(found.stability, found.forecast), class_="panels"),
    )


def _finding(one: Finding) -> Html:
    class_, word = _SEVERITY[one.severity]
    files = None
    if one.files:
        more = f" and {len(one.files) - 10:,} more" if len(one.files) > 10 else ""
        files = el("small", ", ".join(one.files[:10]) + more)
    return el("li", el("span", word, class_=f"tag {class_}".strip()), " ", el("b", one.subject), ": ", one.text, files)


def _groups(groups: dict[str, int]) -> Html | None:
    if not groups:
        return None
    most = max(1, *groups.values())
    shown = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, [_bar(count / most), markup.escape(f" {count:,}")]) for name, count in shown[:14]]
    rest = len(shown) - len(rows)
    more = el(
        "p",
        f"{markup.plural(rest, 'more group')}, the smallest with {markup.plural(shown[-1][1], 'sample')}.",
        class_="note",
    )
    return el(
        "div",
        table([("class or cluster", False), ("samples", False)], rows, label="samples per group", class_="narrow"),
        more if rest else None,
    )


def _bar(share: float) -> Html:
    return el(
        "svg",
        el("rect", width=round(share * 120, 1), height=10, class_="bar"),
        width=120,
        height=10,
        aria_hidden="true",
    )


def _stability(points: tuple[tuple[int, float], ...], forecast: tuple[int, float] | None) -> Html | None:
    """How much the ranges still move as samples are added, and what to expect of all of them."""
    known = [(count, change) for count, change in points if count > 0 and 0 <= change < 1e6]
    if len(known) < 2:
        return None
    expected = forecast if forecast is not None and forecast[0] > known[-1][0] and 0 <= forecast[1] < 1e6 else None
    last = expected or known[-1]
    top = max(LIMIT, last[1], *(change for _, change in known)) * 1.15
    x = Scale(low=known[0][0], high=last[0], start=46, stop=330, log=True)
    y = Scale(low=0, high=top, start=110, stop=8)
    path = " ".join(f"{'L' if at else 'M'}{x(count)} {y(change)}" for at, (count, change) in enumerate(known))
    end = f"{x(known[-1][0])} {y(known[-1][1])}"
    return el(
        "figure",
        el(
            "svg",
            el("line", x1=46, x2=330, y1=110, y2=110, class_="base"),
            el("line", x1=46, x2=330, y1=y(LIMIT), y2=y(LIMIT), class_="budget"),
            el("text", markup.percent(LIMIT), x=40, y=y(LIMIT) + 4, text_anchor="end"),
            el("path", d=path, class_="curve"),
            el("path", d=f"M{end} L{x(last[0])} {y(last[1])}", class_="curve ahead") if expected else None,
            [
                el(
                    "circle",
                    el("title", f"{count} samples: {markup.percent(change)}"),
                    cx=x(count),
                    cy=y(change),
                    r=3.5,
                    class_="mark" if (count, change) == expected else "mark filled",
                )
                for count, change in (*known, *([expected] if expected else []))
            ],
            [
                el("text", f"{count:,}", x=x(count), y=127, text_anchor="middle")
                for count, _ in _apart(known if expected is None else [*known, expected], x)
            ],
            el("text", markup.percent(last[1]), x=337, y=y(last[1]) + 4, class_="axis"),
            el("text", "0", x=40, y=114, text_anchor="end"),
            el("text", "samples", x=188, y=144, text_anchor="middle"),
            viewBox="0 0 380 150",
            role="img",
            aria_label="stability of the ranges: "
            + ", ".join(f"{count} samples {markup.percent(change)}" for count, change in known)
            + (f"; expected of all {expected[0]}: {markup.percent(expected[1])}" if expected else ""),
        ),
        el(
            "figcaption",
            "mean change of the ranges when as many samples again are added"
            + ("; hollow: expected of all" if expected else "")
            + "; enough below the dashed line",
        ),
        class_="stability",
    )


def _apart(points: list[tuple[int, float]], x: Scale) -> list[tuple[int, float]]:
    kept: list[tuple[int, float]] = []
    for point in points:
        if not kept or x(point[0]) - x(kept[-1][0]) > 44:
            kept.append(point)
    return kept


def kept_in_float(record: Record) -> Html:
    """Which nodes, and why, as far as the record knows."""
    from edgesdk_converters.report.trials import best

    trial = best(record)
    reasons = {cost.node: cost.reason for cost in record.sensitivity if cost.reason}
    nodes = trial.float_nodes if trial is not None else ()
    if record.plan is not None and not nodes:
        nodes = record.plan.float_nodes
    if trial is None:
        return el("p", "The bundle holds float models only.")
    if not nodes:
        return el("p", "Nothing: every node that can be an integer is one.")
    costs = {cost.node: max(cost.error.values(), default=0.0) for cost in record.sensitivity}
    if not reasons and not costs:
        return lines([el("code", node) for node in nodes], "names")
    from edgesdk_converters.report.sensitivity import error_db

    rows = [
        (
            el("code", node),
            markup.decibel(error_db(costs[node])) if node in costs else _DASH,
            reasons.get(node) or "belongs to the plan that met the limits",
        )
        for node in nodes
    ]
    return table([("node", False), ("error if quantized", True), ("why", False)], rows, label="kept in float")
