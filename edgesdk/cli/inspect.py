"""`edgesdk inspect`: what a bundle says about itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesdk.cli.main import Command

if TYPE_CHECKING:
    from edgesdk.bundle import Bundle
    from edgesdk.bundle.manifest import InputSpec, Manifest, Measurement


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an .edge file, or an unpacked folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print manifest and measurements; model files are not read, `edgesdk verify` does that."""
    from edgesdk.bundle import Bundle

    with Bundle.open(options.file) as bundle:
        if options.json:
            print(json.dumps(as_json(bundle), indent=1))
        else:
            for line in as_text(bundle):
                # What a stranger wrote into the manifest must not steer our terminal.
                print("".join(letter if letter.isprintable() else "\ufffd" for letter in line))
    return 0


def as_json(bundle: Bundle) -> dict[str, Any]:
    """Manifest and measurements as in the bundle's own files, with its identity."""
    import msgspec

    measured = bundle.measurements
    return {
        "path": str(bundle.path),
        "identity": bundle.identity,
        "manifest": {"schema": bundle.manifest.schema, **msgspec.to_builtins(bundle.manifest)},
        "measurements": None if measured is None else {"schema": measured.schema, **msgspec.to_builtins(measured)},
    }


def as_text(bundle: Bundle) -> Iterator[str]:
    """Lines for people."""
    manifest = bundle.manifest
    contract = manifest.contract
    yield f"{manifest.name}, version {manifest.version}: {contract.task}"
    yield f"  identity    {bundle.identity}"
    yield f"  schema      {manifest.schema}"
    yield f"  licence     {manifest.licence.name}" + (
        f" ({manifest.licence.source})" if manifest.licence.source else ""
    )
    yield f"  source      {manifest.provenance.source_file}, sha256 {manifest.provenance.source_sha256}"
    yield from _provenance(manifest)
    if contract.labels:
        more = f" ... ({len(contract.labels)})" if len(contract.labels) > 6 else ""
        yield f"  labels      {', '.join(contract.labels[:6])}{more}"
    yield ""
    yield "inputs"
    yield from table([(spec.name, spec.dtype, _shape(spec.shape), _meaning(spec)) for spec in contract.inputs])
    yield "outputs"
    yield from table(
        [
            (spec.name, spec.dtype, _shape(spec.shape), ", ".join(branch.name for branch in spec.branches))
            for spec in contract.outputs
        ]
    )
    yield from _variants(bundle)
    if manifest.assumptions:
        yield "taken as given (state it in a model spec where it is wrong)"
        yield from (f"  - {assumption}" for assumption in manifest.assumptions)
    if manifest.allowed:
        yield f"allowed although the guard refused it: {manifest.allowed}"


def _provenance(manifest: Manifest) -> Iterator[str]:
    provenance = manifest.provenance
    if provenance.device:
        yield f"  made for    {provenance.device}"
    if provenance.recipe:
        yield f"  recipe      {provenance.recipe}"
    if provenance.calibration_samples is not None:
        yield f"  calibrated  on {provenance.calibration_samples} samples, sha256 {provenance.calibration_sha256}"
    if provenance.tools:
        yield f"  tools       {', '.join(f'{name} {version}' for name, version in provenance.tools.items())}"


def _variants(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    measured = {item.variant: item for item in (bundle.measurements.variants if bundle.measurements else ())}
    kept = dict(measured)
    yield "variants (the preferred one first)"
    head = ("id", "format", "precision", "size", "worst branch", "cpu per inference", "target")
    rows = [
        (
            variant.id,
            variant.format,
            variant.precision,
            size_text(manifest.files[variant.file].size_bytes),
            *_measured(measured.pop(variant.id, None)),
            variant.target or "any",
        )
        for variant in manifest.variants
    ]
    yield from table([head, *rows])
    for variant in manifest.variants:
        item = kept.get(variant.id)
        if item is not None and item.reasons and manifest.allowed:
            yield f"  kept although the guard refused it: {variant.id}: {'; '.join(item.reasons)}"
    for name, item in measured.items():
        yield f"  refused: {name}: {'; '.join(item.reasons) or 'no reason given'}"


def _measured(item: Measurement | None) -> tuple[str, str]:
    """Fidelity and latency, in words."""
    if item is None:
        return "-", "-"
    fidelity = "-"
    if item.fidelity:
        worst = min(item.fidelity, key=lambda branch: branch.snr_db)
        fidelity = f"{worst.branch} {worst.snr_db:.1f} dB"
        if worst.top1_agreement is not None:
            fidelity += f", top-1 {worst.top1_agreement:.3f}"
    latency = "-"
    if item.latency is not None:
        latency = f"{item.latency.cpu_ms:.3g} ms, {item.latency.ratio:.2f} of the source's, on {item.latency.host}"
    return fidelity, latency


def _meaning(spec: InputSpec) -> str:
    import msgspec

    facts = msgspec.to_builtins(spec.source)
    kind = facts.pop("kind")
    return " ".join([str(kind), *(f"{name}={_short(value)}" for name, value in facts.items())])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    return str(value)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def size_text(size_bytes: int) -> str:
    """A size for people: ``1.2 MB`` (10**6 bytes)."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes} B"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines of left-aligned columns, indented by two."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


COMMAND = Command(help="what a bundle says about itself", configure=configure, run=run)
