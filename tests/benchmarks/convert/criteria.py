"""The issue's conditions, each decided by the figures of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
"""Row -> what was measured, and "memory"."""


@dataclass(frozen=True)
class Verdict:
    """One condition."""

    condition: str
    row: str
    passed: bool | None
    """None where it was not measured."""
    got: str


def verdicts(results: Results) -> Iterator[Verdict]:
    """All conditions, row by row."""
    rows = {name: result for name, result in results["rows"].items() if "roads" in result}
    for name, result in rows.items():
        yield from _lowering(name, result.get("lowering"))
    for name, result in rows.items():
        yield from _both(name, result)
    for name, result in rows.items():
        yield from _auto(name, result)
    yield from _special(rows)
    memory = results.get("memory")
    condition = "peak memory of calibration at 1,024 samples <= 1.1x that at 32"
    if not memory or "failed" in memory:
        yield Verdict(
            condition, "detector", None if not memory else False, (memory or {}).get("failed", "not measured")
        )
    else:
        yield Verdict(condition, "detector", memory["ratio"] <= 1.1, f"{memory['ratio']:.3f} ({memory['mib']} MiB)")


def _lowering(name: str, found: dict[str, Any] | None) -> Iterator[Verdict]:
    if not found or "relative_error" not in found:
        yield Verdict("lowers to float TFLite", name, False, "no file")
        return
    yield Verdict(
        "lowering: max|a-b| / max|a| <= 1e-4", name, found["relative_error"] <= 1e-4, f"{found['relative_error']:.1e}"
    )
    yield Verdict(
        "lowering: <= 2 s of CPU time",
        name,
        found["seconds"] <= 2,
        f"{found['seconds']:.2f} s (onnx2tf {found.get('onnx2tf_seconds', '-')} s)",
    )
    theirs = found.get("onnx2tf_operators")
    yield Verdict(
        "lowering: at most onnx2tf's operator count",
        name,
        None if theirs is None else found["operators"] <= theirs,
        f"{found['operators']} (onnx2tf {theirs or 'made no file'})",
    )
    over = found.get("over_onnx2tf")
    yield Verdict(
        "lowering: <= 1.05x onnx2tf's latency in LiteRT",
        name,
        None if over is None else over <= 1.05,
        "onnx2tf made no file" if over is None else f"{over:.2f}x",
    )


def _both(name: str, result: dict[str, Any]) -> Iterator[Verdict]:
    forced = result.get("ours w8a8: both formats")
    found = result.get("ours auto: both formats", forced)
    if found is not None and found is forced:
        name = f"{name} (w8a8: auto keeps float in a format)"
    if found is None:
        yield Verdict(
            "int8 ONNX and int8 TFLite decide alike on >= 99 %", name, None, "auto kept float in at least one format"
        )
        return
    yield Verdict(
        "int8 ONNX and int8 TFLite decide alike on >= 99 %",
        name,
        found["same_decision"] >= 0.99,
        f"{100 * found['same_decision']:.1f} %",
    )
    worst = min(found["within_2_steps"].values())
    yield Verdict(">= 95 % of output values within 2 quantization steps", name, worst >= 0.95, f"{100 * worst:.1f} %")


def _auto(name: str, result: dict[str, Any]) -> Iterator[Verdict]:
    for road in result["roads"]:
        if not road["road"].startswith("ours auto"):
            continue
        condition = f"auto, {road.get('format', '?')}: not slower than float, within its fidelity budget"
        if road.get("failed"):
            yield Verdict(condition, f"{name} (keeps float)", road.get("kept") == "float", road["failed"])
            continue
        told = road.get("agreement", {})
        low = {key: value for key, value in road.get("snr_db", {}).items() if key not in told and value < 20}
        low |= {key: value for key, value in told.items() if value < 0.98}
        ratio = road.get("cpu_ratio")
        passed = not low and ratio is not None and ratio <= 1.05
        yield Verdict(condition, name, passed, f"{ratio}x float's time" + (f", below budget: {low}" if low else ""))


def _special(rows: dict[str, Any]) -> Iterator[Verdict]:
    for road in _int8("detector", rows):
        scores = next(reversed(road["snr_db"].values()), None)  # the last rows behind the Concat
        f1, ratio = road["metrics"].get("f1", 0.0), road.get("cpu_ratio") or 9.0
        passed = scores is not None and scores >= 20 and f1 >= 0.98 and ratio <= 1 / 1.5
        yield Verdict(
            "class scores >= 20 dB, F1 >= 0.98 against float, >= 1.5x speed",
            f"detector {road['format']}",
            passed,
            f"{road['snr_db']}, F1 {f1:.3f}, {1 / ratio:.2f}x",
        )
    for road in _int8("efficientnet-lite0", rows):
        agreement = min(road["agreement"].values(), default=0.0)
        yield Verdict(
            "top-1 agreement >= 97 % on >= 500 sure crops",
            f"efficientnet-lite0 {road['format']}",
            agreement >= 0.97,
            f"{100 * agreement:.1f} % of {rows['efficientnet-lite0']['samples']}",
        )
    for road in _int8("ppocr-rec", rows):
        mine, theirs = (
            road["metrics"].get("character_accuracy", 0.0),
            road["metrics"].get("float_character_accuracy", 0.0),
        )
        yield Verdict(
            "character accuracy within 0.5 pp of float on >= 500 lines",
            f"ppocr-rec {road['format']}",
            theirs - mine <= 0.005,
            f"{100 * mine:.2f} %, float {100 * theirs:.2f} %, {rows['ppocr-rec']['samples']} lines",
        )
    for road in _int8("minilm", rows):
        ranking = road["metrics"].get("ranking_agreement", 0.0)
        yield Verdict(
            "retrieval ranking agreement >= 98 %",
            f"minilm {road['format']}",
            ranking >= 0.98,
            f"{100 * ranking:.2f} %, right document first {road['metrics']['recall_at_1']:.3f}",
        )
    for road in _int8("kws-ds-cnn", rows, "ours w8a8"):
        agreement, kl = min(road["agreement"].values(), default=0.0), road["metrics"]["kl"]
        yield Verdict(
            "w8a8: agreement >= 99 %, KL <= 0.02",
            f"kws-ds-cnn {road['format']}",
            agreement >= 0.99 and kl <= 0.02,
            f"{100 * agreement:.2f} %, KL {kl:.4f}",
        )
    for road in _int8("kws-ds-cnn", rows, "ours w4a8"):
        agreement, accuracy = min(road["agreement"].values(), default=0.0), road["metrics"].get("accuracy", 0.0)
        passed = accuracy >= 0.90 and agreement >= 0.97 and road["seconds"] <= 10
        yield Verdict(
            "w4a8: top-1 >= 90 %, agreement >= 97 %, <= 10 s of CPU time",
            f"kws-ds-cnn {road['format']}",
            passed,
            f"{100 * accuracy:.1f} %, {100 * agreement:.2f} %, {road['seconds']} s",
        )


def _int8(row: str, rows: dict[str, Any], road: str = "ours auto") -> Iterator[dict[str, Any]]:
    """The quantized files of one of our roads; a stand-in that fails where there is none."""
    found = [
        one for one in rows.get(row, {}).get("roads", ()) if one["road"].startswith(road) and not one.get("failed")
    ]
    for one in found:
        yield {"snr_db": {}, "agreement": {}, "metrics": {}, **one}
    if row in rows and not found:
        yield {
            "format": "(no int8 file)",
            "snr_db": {},
            "agreement": {},
            "metrics": {"kl": 9.0, "recall_at_1": 0.0},
            "seconds": 0.0,
        }
