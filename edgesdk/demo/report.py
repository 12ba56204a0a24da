"""The demo's summary: of each model what went in, what came out and what it cost; as JSON and as tables."""

from __future__ import annotations

from typing import Any

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import Measurement, Variant
from edgesdk.demo.plan import DemoModel, Prepared
from edgesdk.demo.runner import Outcome, StreamView
from edgesdk.demo.screen import table
from edgesdk.tasks.words import in_words


def as_json(prepared: Prepared, outcome: Outcome, device: str) -> dict[str, Any]:
    """The object that ``edgesdk demo --json`` prints."""
    return {
        "device": device,
        "models": [model_json(model) for model in prepared.models.values()],
        "published": outcome.published,
        "received": outcome.received,
        "seconds": round(outcome.seconds, 2),
        "streams": {view.stream: view.received for view in outcome.streams},
        "notes": list(prepared.notes),
    }


def model_json(model: DemoModel) -> dict[str, Any]:
    """One model: its preferred variant against its source, and what the guard refused."""
    with Bundle.open(model.bundle) as bundle:
        manifest, measurements = bundle.manifest, bundle.measurements
    chosen = manifest.variants[0]
    measured = {m.variant: m for m in measurements.variants} if measurements else {}
    best = measured.get(chosen.id)
    return {
        "name": model.name,
        "wheel": model.wheel,
        "task": manifest.contract.task,
        "formats": sorted({variant.format for variant in manifest.variants}),
        "variants": {v.id: measured[v.id].size_bytes if v.id in measured else None for v in manifest.variants},
        "format": chosen.format,
        "precision": chosen.precision,
        "size_bytes": {"before": best.source_size_bytes, "after": best.size_bytes} if best else None,
        "fp32_size_bytes": _fp32_size(manifest.variants, measured),
        "fidelity": {
            f.branch: {"snr_db": round(f.snr_db, 1), "cosine": round(f.cosine, 5), "top1_agreement": f.top1_agreement}
            for f in (best.fidelity if best else ())
        },
        "cpu_ms": {
            "before": round(best.latency.source_cpu_ms, 3),
            "after": round(best.latency.cpu_ms, 3),
            "ratio": round(best.latency.ratio, 3),
            "host": best.latency.host,
        }
        if best and best.latency
        else None,
        "refused": [
            {"variant": m.variant, "reasons": list(m.reasons)}
            for m in (measurements.variants if measurements else ())
            if not m.kept
        ],
        "advice": list(model.advice),
        "allowed": manifest.allowed,
    }


def stream_table(views: tuple[StreamView, ...]) -> list[str]:
    """The live table: what the subscriber has received."""
    rows = []
    for one in views:
        last = one.last
        rows.append(
            (
                one.stream,
                one.about,
                str(one.received),
                f"{last['latency']['total_ms']:.1f}" if last and last.get("latency") else "",
                _cut(in_words(last["result"])) if last else "...",
            )
        )
    return table(("stream", "sees", "received", "ms", "last result at the subscriber"), rows)


def _cut(words: str, most: int = 64) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def summary(report: dict[str, Any]) -> list[str]:
    """The closing tables."""
    rows = []
    for model in report["models"]:
        size, cpu = model["size_bytes"], model["cpu_ms"]
        fidelity = ", ".join(_fidelity(values) for values in model["fidelity"].values())
        rows.append(
            (
                model["name"],
                "+".join(model["formats"]),
                f"{model['precision']} {model['format']}",
                f"{size['before'] / 1e6:.2f} -> {size['after'] / 1e6:.2f}" if size else "",
                f"{cpu['before']:.2f} -> {cpu['after']:.2f}" if cpu else "",
                f"{cpu['ratio']:.2f}x" if cpu else "",
                fidelity,
            )
        )
    lines = table(("model", "formats", "smallest", "MB", "CPU ms", "time", "fidelity per branch"), rows)
    refused = [(model, one) for model in report["models"] for one in model["refused"]]
    if refused:
        lines += ["", f"The guard refused {len(refused)} variants rather than ship a model that is silently worse:"]
        for model, one in refused:
            lines.append(f"  {model['name']} {one['variant']}:")
            lines += [f"    {reason}" for reason in one["reasons"]]
        advice = dict.fromkeys(words for model, _ in refused for words in model["advice"])
        lines += ["  What an engineer can do:", *(f"    - {words}" for words in advice)] if advice else []
    lines += ["", f"published {report['published']}, received {report['received']} in {report['seconds']:.0f} s"]
    return lines


def _fidelity(values: dict[str, Any]) -> str:
    if values["top1_agreement"] is not None:
        return f"{100 * values['top1_agreement']:.1f} % top-1"
    return f"{values['snr_db']:.0f} dB"


def _fp32_size(variants: tuple[Variant, ...], measured: dict[str, Measurement]) -> int | None:
    sizes = [measured[v.id].size_bytes for v in variants if v.precision == "fp32" and v.id in measured]
    return sizes[0] if sizes else None
