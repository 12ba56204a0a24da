"""The committed table of operators holds: what it calls `pass` passes, and nothing gives a wrong number."""

from __future__ import annotations

import collections
import os
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.operators.cases import Outcome, names, run_all
from tests.operators.table import KNOWN, verdict

TABLE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"
SAMPLE = ("Acos", "Add", "BitShift", "Conv", "CumSum", "GatherElements", "Hardmax", "MaxPool", "ScatterND", "TopK")
"""Run by every `make test`; EDGESDK_SOAK=1 runs them all."""


@cache
def rows() -> dict[str, list[str]]:
    """Operator -> verdict, cases passed, cases that count, reason; as committed."""
    lines = [line.strip("| ").split("|") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return {
        cells[0].strip(): [cell.strip() for cell in cells[1:]]
        for cells in lines
        if len(cells) >= 4 and re.fullmatch(r"\s*\d+\s*", cells[2]) and not cells[0].strip().isdigit()
    }


def chosen() -> list[str]:
    """Operators to run: those of the sample that the table knows, or all of it."""
    known = rows()
    return list(known) if os.environ.get("EDGESDK_SOAK") else [op for op in SAMPLE if op in known]


@cache
def outcomes() -> dict[str, list[Outcome]]:
    """Of the chosen operators, each case in a process that may die of it."""
    found: dict[str, list[Outcome]] = collections.defaultdict(list)
    wanted = {op.rsplit(".", 1)[-1] for op in chosen()}
    for outcome in run_all([name for op in sorted(wanted) for name in names(op=op)]):
        found[outcome.op].append(outcome)
    return found


@pytest.mark.parametrize("op", chosen())
def test_operator__gives_the_verdict_of_the_committed_table(op: str) -> None:
    impossible = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    word, passed, of, why = verdict(op, outcomes()[op], impossible)
    assert word != "WRONG", why
    assert [word, str(passed), str(of)] == rows()[op][:3], f"run `python tests/operators/table.py --output {TABLE}`"


def test_table__has_no_wrong_row_and_counts_its_rows() -> None:
    verdicts = collections.Counter(row[0] for row in rows().values())
    assert verdicts["WRONG"] == 0
    words = ("pass", "partly", "not expressible", "not yet")
    counts = [str(len(rows())), *(str(verdicts[word]) for word in words)]
    assert f"| {' | '.join(counts)} |" in TABLE.read_text(encoding="utf-8")


def test_impossible__names_operators_of_the_table_with_a_sentence() -> None:
    impossible = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    assert set(impossible) <= set(rows())
    assert all(reason.endswith(".") for reason in impossible.values())
