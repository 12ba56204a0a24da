"""What is true of one trial, or of one against another; nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.manifest import BranchFidelity, Measurement
from edgesdk_converters.report import markup
from edgesdk_converters.report.record import Record, Trial

FLOATS = ("fp32", "fp16")
SNR_LIMIT_DB, AGREEMENT_LIMIT = 20.0, 0.98
"""The guard's defaults; only for a record that names no limits."""
_AGREEMENT_PER_DB = 0.002
"""As in the guard: what one dB is worth where branches of both kinds stand on one axis."""
EQUAL_DB = 60.0
"""Drawn as the end of the axis: nobody tells 60 dB from 120, and the float variants would squeeze all others."""


def limit_db(record: Record) -> float:
    """Least SNR of a branch."""
    limit = record.limits.get("snr_db", SNR_LIMIT_DB)
    return limit if abs(limit) <= 120 else SNR_LIMIT_DB


def limit_agreement(record: Record) -> float:
    """Least top-1 agreement of a branch that is a class vector, 0..1."""
    limit = record.limits.get("agreement", AGREEMENT_LIMIT)
    return limit if 0 <= limit <= 1 else AGREEMENT_LIMIT


def limit_time(record: Record) -> float | None:
    """Largest time as a multiple of float's; None where time decided nothing."""
    speedup = record.limits.get("speedup", 0.0)
    limit = 1 / speedup if 1e-3 < speedup < 1e3 else record.limits.get("time_ratio", 0.0)
    return limit if 1e-3 <= limit <= 1e3 else None


def limit_size(record: Record) -> float | None:
    """Largest size of a file in bytes; None where it decided nothing."""
    limit = record.limits.get("size_bytes", 0.0)
    return limit if 1 <= limit < 1e15 else None


def margin(figure: BranchFidelity, record: Record) -> float:
    """Distance to the limit in dB; 0.002 of agreement count as one."""
    if figure.top1_agreement is not None:
        return (figure.top1_agreement - limit_agreement(record)) / _AGREEMENT_PER_DB
    return figure.snr_db - limit_db(record)


def worst(measurement: Measurement, record: Record) -> BranchFidelity | None:
    """The branch that is nearest to its limit, or furthest below it."""
    return min(measurement.fidelity, key=lambda figure: margin(figure, record), default=None)


def quantized(trial: Trial) -> bool:
    """Whether any of its arithmetic or weights are integers."""
    return trial.precision not in FLOATS


def best(record: Record) -> Trial | None:
    """The chosen quantized trial that one would show first: what passed before what was overruled, then the smallest."""
    chosen = [trial for trial in record.trials if trial.chosen and quantized(trial)]
    return min(chosen, key=lambda t: (bool(t.measurement.reasons), t.measurement.size_bytes), default=None)


Kind = Literal["agreement", "snr", "margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityAxis:
    """One number for the fidelity of a trial, in the unit that the guard judged by."""

    kind: Kind
    title: str
    limit: float
    """The budget, in the axis' unit."""

    def value(self, measurement: Measurement, record: Record) -> float | None:
        """Of the worst branch; None where nothing was compared."""
        if not measurement.fidelity:
            return None
        if self.kind == "agreement":
            return min(_between(0.0, (f.top1_agreement or 0.0) * 100, 100.0) for f in measurement.fidelity)
        if self.kind == "snr":
            return min(_between(-EQUAL_DB, f.snr_db, EQUAL_DB) for f in measurement.fidelity)
        return min(_between(-EQUAL_DB, margin(f, record), EQUAL_DB) for f in measurement.fidelity)


def _between(low: float, value: float, high: float) -> float:
    """Within the axis; what is no number is at its lower end."""
    return max(low, min(value, high)) if value == value else low  # noqa: PLR0124 - not NaN


def fidelity_axis(record: Record) -> FidelityAxis:
    """Top-1 agreement where every branch is a class vector, SNR where none is, the distance to the limits otherwise."""
    figures = [figure for trial in record.trials for figure in trial.measurement.fidelity]
    classes = [figure.top1_agreement is not None for figure in figures]
    if classes and all(classes):
        limit = limit_agreement(record) * 100
        return FidelityAxis(kind="agreement", title="same top class as float, worst branch, %", limit=limit)
    if not any(classes):
        return FidelityAxis(kind="snr", title="SNR against float, worst branch, dB", limit=limit_db(record))
    return FidelityAxis(kind="margin", title="worst branch, dB above its limit", limit=0.0)


def dominated(measurements: Sequence[tuple[float, float | None, float]]) -> list[bool]:
    """Which of (size, time ratio, fidelity) another one beats: no worse in all of them and better in one.

    A time that was not measured is compared with nothing.
    """

    def beats(a: tuple[float, float | None, float], b: tuple[float, float | None, float]) -> bool:
        pairs = [(a[0], b[0]), (-a[2], -b[2])]
        if b[1] is not None:
            if a[1] is None:
                return False
            pairs.append((a[1], b[1]))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [any(beats(other, one) for other in measurements if other is not one) for one in measurements]


def figure_in_words(figure: BranchFidelity) -> str:
    """One branch: what the guard judged it by first, the other figures after it."""
    snr = markup.decibel(figure.snr_db)
    if figure.top1_agreement is None:
        return f"{snr}, cosine {figure.cosine:.4f}"
    return f"{markup.percent(figure.top1_agreement)} same class, {snr}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the report says first."""

    kind: Literal["passed", "overruled", "float-only"]
    headline: str
    sentence: str


def verdict(record: Record) -> Verdict:
    """One sentence for whoever reads no further."""
    trial = best(record)
    if trial is None:
        sentence = f"{_float_only(record)}{_also_below(None, record)}"
        return Verdict(kind="float-only", headline="Float only", sentence=sentence)
    facts = _facts(trial, record)
    name = f"{trial.precision} {_FORMATS[trial.format]} model"
    if trial.measurement.reasons:
        return Verdict(
            kind="overruled",
            headline="Kept on request",
            sentence=f"The {name} misses {markup.plural(len(trial.measurement.reasons), 'limit')} and was kept on request"
            f"{f' ({record.allowed})' if record.allowed else ''}: {'; '.join(trial.measurement.reasons)}.",
        )
    figure = worst(trial.measurement, record)
    near = ""
    if figure is not None:
        near = f", and every branch passed: nearest to its limit is {figure.branch} with {figure_in_words(figure)}"
    few = let_through(trial.measurement, record) if figure is not None else ""
    sentence = f"The {name} {facts}{near}{few}.{_twin(trial, record)}{_also_below(trial, record)}"
    return Verdict(kind="passed", headline="Passed", sentence=sentence)


def let_through(measurement: Measurement, record: Record) -> str:
    """Words for what passed although it lies below a limit; empty where nothing did."""
    below = [
        one for one in measurement.fidelity if one.passed and one.top1_agreement is not None and margin(one, record) < 0
    ]
    if not below:
        return ""
    return (
        f"; the limit is {markup.percent(limit_agreement(record))}, but of {markup.plural(measurement.held_out_samples, 'held-out input')} "
        "one more or less decides: give more to evaluate on"
    )


def _also_below(shown: Trial | None, record: Record) -> str:
    """What else is in the bundle and misses a limit: nobody should find that out from the table only."""
    below = [t.measurement.variant for t in record.trials if t is not shown and t.chosen and t.measurement.reasons]
    return f" Beware: the bundle also holds {' and '.join(below)}, below the limits." if below else ""


def _twin(trial: Trial, record: Record) -> str:
    """The other file with the same integers."""
    for other in record.trials:
        same = other.chosen and other.precision == trial.precision and other.recipe == trial.recipe
        if same and other.format != trial.format and not other.measurement.reasons:
            it = other.measurement
            text = f" Its {_FORMATS[other.format]} counterpart has {markup.times(it.size_bytes / max(it.source_size_bytes, 1))} the size"
            return text + (f" and takes {markup.times(it.latency.ratio)} the time." if it.latency else ".")
    return ""


_FORMATS: Mapping[str, str] = {"onnx": "ONNX", "tflite": "TFLite"}


def _facts(trial: Trial, record: Record) -> str:
    measurement = trial.measurement
    ratio = measurement.size_bytes / max(measurement.source_size_bytes, 1)
    text = f"has {markup.times(ratio)} the size of its source"
    if measurement.latency is not None:
        text += f" and takes {markup.times(measurement.latency.ratio)} the time of float on {record.host or 'the machine that measured'}"
    return text


def _float_only(record: Record) -> str:
    tried = [trial for trial in record.trials if quantized(trial)]
    if not tried:
        why = (
            f": {record.failures[0]}"
            if record.failures
            else ": none was asked for, or there were no calibration samples"
        )
        return f"No quantized model is in the bundle{why.rstrip('.')}."
    closest = max(tried, key=lambda t: min((margin(f, record) for f in t.measurement.fidelity), default=-999.0))
    reasons = "; ".join(closest.measurement.reasons) or "it was not chosen"
    return (
        f"No quantized model is in the bundle: of {markup.plural(len(tried), 'trial')}, the closest ({closest.recipe or closest.precision}, "
        f"{_FORMATS[closest.format]}) was refused: {reasons}."
    )
