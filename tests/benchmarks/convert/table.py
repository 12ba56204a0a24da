"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.convert.criteria import Results, verdicts

_MOST = 160
"""Characters of a reason; the log beside the results has all of it."""
_HEAD = ("model", "road", "format", "size", "time", "fidelity against float, by branch", "task", "operators", "CPU s")


def markdown(results: Results) -> Iterator[str]:
    """The table, the two formats of one conversion, the lowering, and the conditions."""
    yield f"# Conversion benchmark, {results['host']}, {results['date']}"
    yield ""
    yield (
        "Printed by `make bench-convert`, in one run on one machine. Size and time are ratios to the float file of the same format in the same "
        "runtime (CPU time, one thread, one core, in turn). Every road starts from the same float ONNX and the same calibration samples, and is "
        "judged against that float model on the same samples, which no road was given. CPU s is what the conversion took. What fails is shown as "
        "measured."
    )
    yield ""
    yield _row(_HEAD)
    yield _row(["---"] * len(_HEAD))
    for name, result in results["rows"].items():
        if "failed" in result:
            yield _row([name, "all", "", "", "", f"not measured: {result['failed']}", "", "", ""])
            continue
        for road in result["roads"]:
            yield _row([name, *_cells(road)])
    yield ""
    yield _row(("condition", "model", "", "got"))
    yield _row(["---"] * 4)
    counts = {True: 0, False: 0, None: 0}
    for one in verdicts(results):
        counts[one.passed] += 1
        word = {True: "PASS", False: "**FAIL**", None: "not measured"}[one.passed]
        yield _row((one.condition, one.row, word, one.got))
    yield ""
    yield f"{counts[True]} pass, {counts[False]} fail, {counts[None]} not measured."


def _cells(road: dict[str, Any]) -> list[str]:
    if road.get("failed"):
        return [
            road["road"],
            road.get("format", ""),
            "",
            "",
            _short(road["failed"] if road.get("kept") == "float" else f"failed: {road['failed']}"),
            "",
            "",
            _number(road.get("seconds")),
        ]
    told = road.get("agreement", {})
    fidelity = [f"{key} top-1 {100 * value:.1f} %" for key, value in told.items()]
    fidelity += [f"{key} {value:.1f} dB" for key, value in road.get("snr_db", {}).items() if key not in told]
    task = [f"{key} {value:.4f}" for key, value in road.get("metrics", {}).items()]
    kept = f" ({road['kept']})" if road.get("kept") else ""
    return [
        road["road"] + kept,
        road.get("format", ""),
        _number(road.get("size_ratio")),
        _number(road.get("cpu_ratio")),
        ", ".join(fidelity),
        ", ".join(task),
        str(road.get("operators", "")),
        _number(road.get("seconds")),
    ]


def _short(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"
