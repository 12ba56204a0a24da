"""The summary of a conversion, in plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgesdk.bundle.manifest import BranchFidelity, Measurement

if TYPE_CHECKING:
    from edgesdk_converters.pipeline import Conversion

_HEAD = ("variant", "size", "of source", "time", "of float", "fidelity per branch", "")


def summary(conversion: Conversion) -> Iterator[str]:
    """Lines for people: the table, refusals with reasons, what can be done."""
    manifest = conversion.manifest
    yield f"{conversion.bundle}: {manifest.name}, task {manifest.contract.task}, for {conversion.device}"
    rows = [_HEAD, *(_row(measurement) for measurement in conversion.measurements.variants)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = (
            cell.rjust(width) if 0 < at < 5 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells).rstrip()
    host = next((m.latency.host for m in conversion.measurements.variants if m.latency), None)
    if host:
        yield f"  time is CPU time per inference on one thread of this machine ({host}), not of {conversion.device}"
    limits = conversion.budget
    yield f"  limits: SNR {limits.min_snr_db:g} dB in every branch, top-1 agreement {limits.min_agreement:g} where it is a class vector"
    for measurement in conversion.refused:
        yield f"refused: {measurement.variant}"
        yield from (f"  - {reason}" for reason in measurement.reasons)
    yield from _let_through(conversion)
    yield from (f"not made: {failure}" for failure in conversion.failures)
    if conversion.findings is not None:
        yield f"calibration: {conversion.findings.verdict}"
        yield from (
            f"  - {one.subject}: {one.text}" for one in conversion.findings.findings if one.severity == "warning"
        )
    if conversion.assumptions:
        yield "taken as given (state it in a model spec where it is wrong):"
        yield from (f"  - {note}" for note in conversion.assumptions)
    if not conversion.ok:
        yield "Only float variants are in the bundle. What you can do:"
        yield from (f"  - {line}" for line in advice(conversion))
    elif conversion.allowed:
        yield f"kept on request: {conversion.allowed}"


def _let_through(conversion: Conversion) -> Iterator[str]:
    """What passed although it lies below a limit: one decision of a few."""
    limit = conversion.budget.min_agreement
    below = [
        (one.variant, figure.top1_agreement, one.held_out_samples)
        for one in conversion.measurements.variants
        for figure in one.fidelity
        if one.kept and figure.passed and figure.top1_agreement is not None and figure.top1_agreement < limit
    ]
    if below:
        variant, agreement, count = min(below, key=lambda one: one[1])
        yield (
            f"note: {variant} agrees in {agreement:.1%} of {count} held-out inputs, below the limit of {limit:.0%}: of so few, one decision is "
            "no reason to refuse. Give more to judge on: --evaluation DIR"
        )


def advice(conversion: Conversion) -> list[str]:
    """What the engineer can do about a refusal."""
    reasons = [reason for measurement in conversion.refused for reason in measurement.reasons]
    lines = []
    if any(reason.startswith("branch") for reason in reasons):
        samples = conversion.manifest.provenance.calibration_samples or 0
        if samples < 50:
            lines.append(
                f"calibrate with more inputs like those in the field: {samples} were used, 100 are a good number"
            )
        lines.append("name the nodes that must stay float in the spec: float_nodes: [NODE, ...]")
        lines.append(
            "check that the spec's pre-processing (colour, mean, std, fit) is the one the model was trained with"
        )
    if any(reason.startswith("slower") for reason in reasons):
        lines.append("--optimize size, if the file's size matters more than the time")
        lines.append("run the float variant: on this kind of CPU it is the faster one")
    if not conversion.measurements.variants or not reasons:
        lines.append(
            "int8 needs Conv, Gemm or MatMul with constant float32 weights: see `not made` above for what is in the way"
        )
    lines.append("--allow REASON, if you accept it; the reason goes into the manifest")
    return lines


def _row(measurement: Measurement) -> tuple[str, ...]:
    latency = measurement.latency
    return (
        measurement.variant,
        f"{measurement.size_bytes / 1000:,.0f} kB",
        f"{measurement.size_bytes / max(measurement.source_size_bytes, 1):.2f}x",
        f"{latency.cpu_ms:.3g} ms" if latency else "-",
        f"{latency.ratio:.2f}x" if latency else "-",
        ", ".join(_figure(figure) for figure in measurement.fidelity),
        "kept" if measurement.kept else "REFUSED",
    )


def _figure(figure: BranchFidelity) -> str:
    mark = "" if figure.passed else " (!)"
    if figure.top1_agreement is not None:
        return f"{figure.branch} {figure.top1_agreement:.1%} same class{mark}"
    return f"{figure.branch} {'equal' if figure.snr_db >= 120 else f'{figure.snr_db:.1f} dB'}{mark}"
