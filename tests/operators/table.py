"""Writes docs/operators.md: `python tests/operators/table.py [--op NAME] [--output FILE] [--verbose]`."""

from __future__ import annotations

import argparse
import collections
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.operators.cases import Outcome, names, run_all

KNOWN = Path(__file__).with_name("impossible.yaml")
HEAD = """# Operators

What becomes of each operator of the ONNX standard when it is lowered to TFLite. Written by `python tests/operators/table.py`,
which lowers the ONNX project's own operator tests (onnx {onnx}), runs them in LiteRT ({litert}) and compares.

- **pass**: every case that TFLite has types for gives the numbers that ONNX demands; cases with tensors of no elements are not
  counted, and parameters (axes, sizes, kernels) are constants where the operator needs it.
- **partly**: some of them do; the others are refused before a file is written, for the reason given.
- **not expressible**: TFLite has no operator, or no type, to say it with.
- **not yet**: it could be said, and is refused until somebody writes it.

| operators | pass | partly | not expressible | not yet |
|---|---|---|---|---|
| {total} | {passed} | {partly} | {impossible} | {later} |

| operator | verdict | cases passed | of | why not all |
|---|---|---|---|---|
"""


def verdict(op: str, outcomes: list[Outcome], impossible: dict[str, str]) -> tuple[str, int, int, str]:
    """Of one operator: the word, cases passed, cases that count, the reason for the rest."""
    counted = [one for one in outcomes if one.status != "dtype"]
    passed = sum(one.status == "pass" for one in counted)
    wrong = [one for one in counted if one.status in ("wrong", "fails", "crash")]
    if wrong:
        return "WRONG", passed, len(counted), f"{wrong[0].case}: {wrong[0].detail}"
    rest = next((one.detail for one in counted if one.status != "pass"), "")
    if op in impossible:
        return ("partly" if passed else "not expressible"), passed, len(counted), impossible[op]
    if not counted:
        return "not expressible", 0, 0, outcomes[0].detail
    if passed == len(counted):
        return "pass", passed, len(counted), ""
    return ("partly" if passed else "not yet"), passed, len(counted), rest


def main() -> int:
    """Run the cases, write the table; 1 where a number is wrong or something crashes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--op", help="only this operator")
    parser.add_argument("--output", type=Path, help="file to write; else stdout")
    parser.add_argument("--verbose", action="store_true", help="print each case that does not pass")
    options = parser.parse_args()
    by_op: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in run_all(names(op=options.op)):
        by_op[outcome.op].append(outcome)
        if options.verbose and outcome.status not in ("pass", "dtype"):
            print(f"{outcome.op:24} {outcome.status:8} {outcome.case}: {outcome.detail}", file=sys.stderr)
    impossible = yaml.safe_load(KNOWN.read_text(encoding="utf-8")) if KNOWN.is_file() else {}
    rows = {op: verdict(op, outcomes, impossible) for op, outcomes in sorted(by_op.items())}
    counts = collections.Counter(row[0] for row in rows.values())
    from importlib.metadata import version

    text = HEAD.format(
        onnx=version("onnx"),
        litert=f"ai-edge-litert {version('ai-edge-litert')}",
        total=len(rows),
        passed=counts["pass"],
        partly=counts["partly"],
        impossible=counts["not expressible"],
        later=counts["not yet"],
    )
    for op, (word, passed, of, why) in rows.items():
        text += f"| {op} | {word} | {passed} | {of} | {' '.join(why.replace('|', '/').split())[:160]} |\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    print(dict(counts), file=sys.stderr)
    return int(counts["WRONG"] > 0)


if __name__ == "__main__":
    sys.exit(main())
