"""Puts the report together: one HTML document that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import resources

from edgesdk_converters.report import comparison, markup, tables
from edgesdk_converters.report.histograms import histograms
from edgesdk_converters.report.markup import Html, el
from edgesdk_converters.report.pareto import pareto
from edgesdk_converters.report.record import Record
from edgesdk_converters.report.sensitivity import sensitivity
from edgesdk_converters.report.trials import best, limit_agreement, limit_db, margin, verdict, worst

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Told to the browser: no scripts, no fonts, nothing from any network, whatever slipped in."""
_LIMITS: dict[str, Callable[[float], str]] = {
    "snr_db": lambda v: f"SNR at least {v:g} dB in every branch",
    "agreement": lambda v: f"top-1 agreement at least {markup.percent(v)} in every branch that is a class vector",
    "time_ratio": lambda v: f"time at most {markup.times(v)} that of float",
    "size_bytes": lambda v: f"size at most {markup.size(v)}",
    "speedup": lambda v: f"at least {v:g} times as fast as float",
    "drop": lambda v: f"task accuracy at most {markup.percent(v)} below float",
}


def page(record: Record, *, viewers: Mapping[str, str] | None = None) -> str:
    """The report as HTML.

    Args:
        record: What is shown.
        viewers: Variant id -> address that opens it in a viewer; only where somebody serves it.
    """
    sections = list(_sections(record, viewers))
    says = verdict(record)
    body = el(
        "main",
        el(
            "header",
            el("h1", record.name),
            el("p", f"Conversion report: task {record.contract.task}, for {record.device}", class_="sub"),
            el(
                "div",
                el("span", _ICONS[says.kind], " ", says.headline, class_=f"tag {_TONES[says.kind]}"),
                el("p", says.sentence),
                class_=f"verdict {says.kind}",
            ),
            _figures(record),
            el("nav", [el("a", title, href=f"#{_anchor(title)}") for title, _ in sections], aria_label="sections"),
        ),
        [el("section", el("h2", title, id=_anchor(title)), content) for title, content in sections],
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{record.name}: conversion report"),
        el("style", Html(resources.files(__package__).joinpath("style.css").read_text("utf-8"))),
    )
    return f"<!DOCTYPE html>\n{el('html', head, el('body', body), lang='en')}\n"


_METRICS = {
    "f1": "of the boxes as float finds them (F1)",
    "iou": "overlap of the boxes that both find (IoU)",
    "character_agreement": "of the characters as float reads them",
    "character_accuracy": "of the characters as the labels say",
    "float_character_accuracy": "of the characters as the labels say, by float",
    "accuracy": "of the labelled samples right",
    "float_accuracy": "of the labelled samples right, by float",
    "ranking_agreement": "of the neighbours in the order of float",
}
_ICONS = {"passed": "\N{CHECK MARK}", "overruled": "\N{WARNING SIGN}", "float-only": "\N{BALLOT X}"}
_TONES = {"passed": "good", "overruled": "warn", "float-only": "bad"}


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z]+", "-", title.lower())


def _figures(record: Record) -> Html | None:
    """What one wants to know first."""
    trial = best(record)
    if trial is None:
        return None
    it = trial.measurement
    figure = worst(it, record)
    cards = [
        (markup.size(it.size_bytes), f"size of {it.variant}; source {markup.size(it.source_size_bytes)}"),
        (
            markup.times(it.latency.ratio) if it.latency else "not measured",
            f"of the float model's time; {markup.milliseconds(it.latency.cpu_ms)} CPU time per inference, one thread"
            if it.latency
            else "time",
        ),
    ]
    if figure is not None:
        by_class = figure.top1_agreement is not None
        value = markup.percent(figure.top1_agreement or 0.0) if by_class else markup.decibel(figure.snr_db)
        what = "same top class as float" if by_class else "SNR against float"
        cards.append(
            (
                value,
                f"{what} in the branch nearest to its limit, {figure.branch}; {it.held_out_samples} held-out inputs",
            )
        )
    if it.peak_memory_bytes is not None:
        cards.append((markup.size(it.peak_memory_bytes), "peak memory of loading and running it"))
    for name, share in list(it.metrics.items())[:2]:
        cards.append(
            (
                markup.percent(share) if 0 <= share <= 1 else markup.number(share),
                _METRICS.get(name, name.replace("_", " ")),
            )
        )
    return el("div", [el("div", el("b", value), el("span", text)) for value, text in cards], class_="figures")


def _sections(record: Record, viewers: Mapping[str, str] | None) -> Iterator[tuple[str, object]]:
    yield (
        "Trials",
        [
            _limits(record),
            tables.trials(record) if record.trials else el("p", "Nothing was measured."),
            _failures(record),
        ],
    )
    if plot := pareto(record):
        yield "Size, time and fidelity", plot
    yield "What goes in and out", [tables.contract(record), _assumptions(record)]
    if content := comparison.examples(record):
        yield "Examples", content
    yield "Kept in float", comparison.kept_in_float(record)
    if content := sensitivity(record):
        yield "Sensitivity of the nodes", content
    if record.calibration is not None:
        yield "Calibration set", comparison.calibration(record.calibration)
    if content := histograms(record):
        yield "Activations and their ranges", content
    if content := tables.operators(record):
        yield "Operators", content
    if content := tables.sparsity(record):
        yield "Sparsity", content
    yield "Provenance", [tables.provenance(record), tables.files(record)]
    yield "Look into the models", _viewers(record, viewers)


def _limits(record: Record) -> Html:
    limits = {"snr_db": limit_db(record), "agreement": limit_agreement(record), **record.limits}
    words = [
        _LIMITS[name](value) if name in _LIMITS else f"{name.replace('_', ' ')} {markup.number(value)}"
        for name, value in limits.items()
    ]
    host = (
        f" Time is the median CPU time of one thread on {record.host}, in turn with float; it is not the board's."
        if record.host
        else ""
    )
    return el("p", f"Limits: {'; '.join(words)}.{host}{_few(record)}", class_="note")


def _few(record: Record) -> str:
    """Why something passed that lies below the line."""
    let_through = [
        one.measurement.held_out_samples
        for one in record.trials
        if any(figure.passed and margin(figure, record) < 0 for figure in one.measurement.fidelity)
    ]
    if not let_through:
        return ""
    return (
        f" With only {markup.plural(min(let_through), 'held-out input')}, a single decision that differs is no reason to refuse, "
        "although it takes the share below the limit: give more to evaluate on."
    )


def _failures(record: Record) -> Html | None:
    if not record.failures:
        return None
    return markup.join([el("h3", "Could not be made"), tables.lines(record.failures)])


def _assumptions(record: Record) -> Html | None:
    if not record.assumptions:
        return None
    return markup.join([el("h3", "Taken as given, because nothing said otherwise"), tables.lines(record.assumptions)])


def _viewers(record: Record, viewers: Mapping[str, str] | None) -> Html:
    if viewers:
        links = [el("a", f"Open {variant} in Netron", href=address) for variant, address in viewers.items()]
        return markup.join([el("p", "Netron runs on this machine and sends nothing anywhere."), tables.lines(links)])
    bundle = record.bundle if re.fullmatch(r"[\w.+-]+", record.bundle) else "BUNDLE.edge"
    return markup.join(
        [
            el(
                "p",
                "This command shows this page with a link for each model file, which opens it in Netron, the graph viewer, on this "
                "machine and without a network. Netron must be installed there: ",
                el("code", "pip install netron"),
            ),
            el("pre", el("code", f"edgesdk report {bundle} --serve")),
        ]
    )
