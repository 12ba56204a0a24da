"""The tables: trials, contract, files, operators, sparsity, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgesdk.bundle.manifest import (
    AudioInput,
    ConstantInput,
    ImageInput,
    InputSpec,
    Measurement,
    OutputSpec,
    StateInput,
)
from edgesdk_converters.report import markup
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.record import Record, Trial
from edgesdk_converters.report.trials import figure_in_words, quantized

_DASH = "\N{EN DASH}"
Column = tuple[str, bool]
"""Heading, and whether its cells are numbers."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, label: str, class_: str = "") -> Html:
    """A table whose first cell in each row is the row's heading; scrolls by itself where it is too wide."""
    body = [
        el(
            "tr",
            [
                el("th", cell, scope="row", class_="n" if number else None)
                if at == 0
                else el("td", cell, class_="n" if number else None)
                for at, (cell, (_, number)) in enumerate(zip(row, columns, strict=True))
            ],
        )
        for row in rows
    ]
    head = el("tr", [el("th", title, scope="col", class_="n" if number else None) for title, number in columns])
    inner = el("table", el("thead", head), el("tbody", body), class_=class_ or None)
    return el("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names with values, one pair a line."""
    return el("dl", [(el("dt", name), el("dd", value)) for name, value in pairs if value not in (None, "", ())])


def lines(items: Iterable[object], class_: str | None = None) -> Html:
    """A list."""
    return el("ul", [el("li", item) for item in items], class_=class_)


def code(text: object) -> Html:
    """Names of tensors, nodes, files; commands."""
    return el("code", text)


def trials(record: Record) -> Html:
    """Everything that was tried, in its order; numbers are those of the plot."""
    columns = [
        ("#", True),
        ("variant", False),
        ("verdict", False),
        ("size", True),
        ("time", True),
        ("memory", True),
        ("fidelity per branch", False),
    ]
    metrics = any(trial.measurement.metrics for trial in record.trials)
    if metrics:
        columns.append(("task metrics", False))
    rows = [_trial(number, trial, metrics=metrics) for number, trial in enumerate(record.trials, 1)]
    return table(columns, rows, label="trials", class_="trials")


def _trial(number: int, trial: Trial, *, metrics: bool) -> list[object]:
    measurement = trial.measurement
    recipe = [el("small", trial.recipe)] if trial.recipe else []
    if trial.float_nodes and quantized(trial):
        recipe.append(el("small", f"{markup.plural(len(trial.float_nodes), 'node')} in float"))
    row: list[object] = [
        str(number),
        [el("b", measurement.variant), recipe],
        _verdict(trial),
        [markup.size(measurement.size_bytes), el("small", _of_source(measurement))],
        _time(measurement),
        markup.size(measurement.peak_memory_bytes) if measurement.peak_memory_bytes is not None else _DASH,
        el("ul", [_branch(figure) for figure in measurement.fidelity], class_="plain")
        if measurement.fidelity
        else _DASH,
    ]
    if metrics:
        row.append(
            el("ul", [el("li", _metric(*item)) for item in measurement.metrics.items()], class_="plain") or _DASH
        )
    return row


def _of_source(measurement: Measurement) -> str:
    return f"{markup.times(measurement.size_bytes / max(measurement.source_size_bytes, 1))} of source"


def _time(measurement: Measurement) -> object:
    latency = measurement.latency
    if latency is None:
        return _DASH
    return [markup.times(latency.ratio), el("small", f"{markup.milliseconds(latency.cpu_ms)} CPU")]


def _branch(figure: object) -> Html:
    from edgesdk.bundle.manifest import BranchFidelity

    assert isinstance(figure, BranchFidelity)
    mark = (
        el("span", "\N{CHECK MARK}", class_="yes")
        if figure.passed
        else el("span", "\N{BALLOT X} below limit", class_="no")
    )
    return el("li", code(figure.branch), " ", figure_in_words(figure), markup.NBSP, mark)


def _metric(name: str, value: float) -> str:
    words = name.replace("_", " ")
    return f"{words} {markup.percent(value)}" if 0 <= value <= 1 else f"{words} {markup.number(value)}"


def _verdict(trial: Trial) -> list[Html]:
    reasons = trial.measurement.reasons
    if trial.chosen and reasons:
        word = el("span", "\N{WARNING SIGN} in the bundle all the same", class_="tag warn")
    elif trial.chosen:
        word = el("span", "\N{CHECK MARK} in the bundle", class_="tag good")
    elif reasons:
        word = el("span", "\N{BALLOT X} refused", class_="tag bad")
    else:
        word = el("span", f"{_DASH} not chosen", class_="tag")
    # The column beside it has the figures of the branches.
    branches = [reason for reason in reasons if reason.startswith("branch ")]
    said: list[str] = [reason for reason in reasons if reason not in branches]
    if branches:
        said.insert(0, f"{markup.plural(len(branches), 'branch', 'branches')} below the limit")
    return [word, *([lines(said, "reasons")] if said else [])]


# -- what went in and out --------------------------------------------------------------------------------------------


def contract(record: Record) -> list[Html]:
    """Inputs with their pre-processing, outputs with their branches."""
    it = record.contract
    inputs = [(code(spec.name), _tensor(spec), meaning(spec)) for spec in it.inputs]
    outputs = [
        (code(spec.name), _tensor(spec), [[code(branch.name), " "] for branch in spec.branches] or "one branch")
        for spec in it.outputs
    ]
    parts = [
        table([("input", False), ("tensor", False), ("what goes in", False)], inputs, label="inputs"),
        table([("output", False), ("tensor", False), ("branches judged alone", False)], outputs, label="outputs"),
    ]
    extra: list[tuple[str, object]] = [("task", it.task)]
    if it.labels:
        more = f" \N{HORIZONTAL ELLIPSIS} ({len(it.labels):,})" if len(it.labels) > 8 else ""
        extra.append(("labels", ", ".join(label.strip() or "(space)" for label in it.labels[:8]) + more))
    if it.options:
        extra.append(("options", ", ".join(f"{key}: {_short(value)}" for key, value in it.options.items())))
    return [facts(extra), *parts]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "\N{HORIZONTAL ELLIPSIS}"


def _tensor(spec: InputSpec | OutputSpec) -> str:
    text = f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"
    if spec.quantization is not None:
        scale, zero = spec.quantization.scale, spec.quantization.zero_point
        text += f", scale {markup.number(scale[0])}, zero point {zero[0]}" + (" ..." if len(scale) > 1 else "")
    return text


def meaning(spec: InputSpec) -> str:
    """What the board does before this input, in words."""
    source = spec.source
    match source:
        case ImageInput():
            scale = "1/255" if abs(source.scale - 1 / 255) < 1e-9 else f"{source.scale:g}"
            fit = {
                "letterbox": f"letterbox on {source.pad_value}",
                "pad-right": f"padded right with {source.pad_value}",
            }
            text = f"picture, {source.colour}, {source.layout}, {fit.get(source.fit, source.fit)}, times {scale}"
            mean, std = (", ".join(f"{value:g}" for value in values) for values in (source.mean, source.std))
            text += "" if set(source.mean) == {0.0} else f", minus {mean}"
            return text + ("" if set(source.std) == {1.0} else f", divided by {std}")
        case AudioInput():
            context = f" after {source.context_samples} of the chunk before" if source.context_samples else ""
            return f"PCM, mono, {source.sample_rate_hz:,} Hz, {source.chunk_samples} samples{context}"
        case StateInput():
            return f"state: output {source.from_output} of the inference before, zeros at first"
        case ConstantInput():
            return f"constant {_short(source.value)}"
        case _:
            return "array as it is"


# -- inside the files ------------------------------------------------------------------------------------------------


def files(record: Record) -> Html | None:
    """What the bundle holds."""
    if not record.files:
        return None
    rows = [
        (code(name), markup.size(entry.size_bytes), code(entry.sha256)) for name, entry in sorted(record.files.items())
    ]
    return table(
        [("file in the bundle", False), ("size", True), ("sha256", False)], rows, label="files", class_="hashes"
    )


def operators(record: Record) -> Html | None:
    """How many of which, one column per variant; a table for each format, because they call them differently."""
    if not record.operators:
        return None
    by_format: dict[str, list[str]] = {}
    for variant in record.operators:
        by_format.setdefault(variant.partition("-")[0], []).append(variant)
    return el("div", [_operators(record, variants) for variants in by_format.values()], class_="panels")


def _operators(record: Record, variants: Sequence[str]) -> Html:
    totals: dict[str, int] = {}
    for variant in variants:
        for name, count in record.operators[variant].items():
            totals[name] = max(totals.get(name, 0), count)
    rows: list[Sequence[object]] = [
        (code(name), *(str(record.operators[variant].get(name, "") or _DASH) for variant in variants))
        for name in sorted(totals, key=lambda key: (-totals[key], key))
    ]
    rows.append(("all", *(f"{sum(record.operators[variant].values()):,}" for variant in variants)))
    columns = [("operator", False), *((variant, True) for variant in variants)]
    return table(columns, rows, label=f"operators of {', '.join(variants)}", class_="narrow")


def sparsity(record: Record) -> Html | None:
    """The weights that are zero already."""
    if not record.sparsity:
        return None
    some = sorted(((share, node) for node, share in record.sparsity.items() if share >= 0.01), reverse=True)
    if not some:
        return el(
            "p",
            f"In each of {markup.plural(len(record.sparsity), 'node')} with weights, less than 1 % of them are zero: "
            "there is nothing that a sparse kernel could skip.",
        )
    rows = [(code(node), _share(share)) for share, node in some[:12]]
    rest = len(some) - len(rows)
    return markup.join(
        [
            el(
                "p",
                f"{len(some)} of {markup.plural(len(record.sparsity), 'node')} with weights have 1 % zeros or more"
                + (f"; the first {len(rows)} are shown." if rest else "."),
            ),
            table([("node", False), ("weights that are zero", False)], rows, label="sparsity", class_="narrow"),
        ]
    )


def _share(share: float) -> list[Html]:
    bar = el(
        "svg",
        el("rect", width=100, height=10, class_="trough"),
        el("rect", width=round(min(share, 1.0) * 100, 1), height=10, class_="bar"),
        width=100,
        height=10,
        aria_hidden="true",
    )
    return [bar, markup.escape(f" {markup.percent(share)}")]


def provenance(record: Record) -> Html:
    """Hashes and tools: enough to make the same again."""
    it = record.provenance
    samples = markup.plural(it.calibration_samples, "sample") if it.calibration_samples else None
    return facts(
        [
            ("source", [code(it.source_file), " sha256 ", code(it.source_sha256)]),
            ("calibration", [samples, ", sha256 ", code(it.calibration_sha256)] if it.calibration_sha256 else samples),
            ("recipe", it.recipe),
            ("made for", it.device or record.device),
            ("measured on", record.host),
            ("bundle", [code(record.bundle), f", version {record.version}"]),
            ("identity", code(record.identity) if record.identity else None),
            (
                "plan",
                [code(record.plan.recipe), " for the graph ", code(record.plan.model_sha256)] if record.plan else None,
            ),
            ("licence", record.licence.name + (f" ({record.licence.source})" if record.licence.source else "")),
            ("tools", ", ".join(f"{name} {version}" for name, version in sorted(it.tools.items()))),
        ]
    )
