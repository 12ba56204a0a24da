"""What a file keeps of the float model, measured the way the guard does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.guard import FidelityMeter
from edgesdk_converters.guard.fidelity import branches_of, cut
from edgesdk_converters.guard.formats import Decide, decision_of, same
from edgesdk_converters.guard.metrics import metric_for
from edgesdk_converters.guard.metrics.boxes import Boxes, f1, match
from tests.benchmarks.convert.rows import Row

Array = NDArray[Any]
Outputs = list[list[Array]]

STEPS = 2
"""Quantization steps that count as the same value."""


class Runs(Protocol):
    """A loaded model."""

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """One inference."""


@dataclass
class Figures:
    """What was measured of one file on one row."""

    road: str
    failed: str = ""
    """Why there is no file; the figures are empty then."""
    kept: str = ""
    """For `auto`: what the guard let through, in words."""
    format: str = ""
    size_ratio: float | None = None
    """Over the float file of the same format."""
    cpu_ratio: float | None = None
    """CPU time over that of the float file in the same runtime; below 1 is faster."""
    snr_db: dict[str, float] = field(default_factory=dict)
    """By branch, against float ONNX."""
    agreement: dict[str, float] = field(default_factory=dict)
    """Top-1, by branch that is a class vector."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The task's own figures."""
    operators: int | None = None
    seconds: float | None = None
    float_nodes: int | None = None


def outputs_of(runner: Runs, feeds: Sequence[list[Array]]) -> Outputs:
    """Everything that a model answers."""
    return [[np.array(value) for value in runner.run(feed)] for feed in feeds]


def judge(row: Row, figures: Figures, got: Outputs) -> None:
    """Fill in fidelity and the task's figures."""
    meter, metric = FidelityMeter(row.contract.outputs), metric_for(row.contract)
    labels = _labels(row)
    for index, (expected, mine) in enumerate(zip(row.expected, got, strict=True)):
        meter.add(expected, mine)
        if metric is not None:
            metric.add(expected, mine, labels[index] if labels else None)
    for figure in meter.result():
        name = figure.branch if figure.branch == figure.output else f"{figure.output}:{figure.branch}"
        figures.snr_db[name] = figure.snr_db
        if figure.top1_agreement is not None:
            figures.agreement[name] = figure.top1_agreement
    if metric is not None:
        figures.metrics.update(metric.result())
    if row.name == "detector":
        figures.metrics["f1_truth"] = round(_truth_f1(row, got), 4)
    if row.name == "kws-ds-cnn":
        figures.metrics["kl"] = round(_divergence(row.expected, got), 4)
    if row.name == "minilm":
        figures.metrics["recall_at_1"] = round(float(np.mean([a == b for a, b in _answers(row, got)])), 4)
    if row.name == "ppocr-cls":
        said = np.array([int(mine[0].argmax()) * 180 for mine in got])
        figures.metrics["accuracy"] = round(float((said == np.array(row.truth)).mean()), 4)


def same_decisions(row: Row, a: Outputs, b: Outputs) -> float:
    """Share of inputs on which both give the same class, the same text, the same boxes (IoU 0.5), the same document."""
    if row.name == "minilm":
        pairs = zip(_answers(row, a), _answers(row, b), strict=True)
        return float(np.mean([mine[0] == theirs[0] for mine, theirs in pairs]))
    decide = _decide(row)
    return float(np.mean([same(decide(x), decide(y)) for x, y in zip(a, b, strict=True)]))


def within_steps(row: Row, a: Outputs, b: Outputs) -> dict[str, float]:
    """By branch: share of values that lie within ``STEPS`` steps of an 8-bit scale over what the float model gives there."""
    found: dict[str, float] = {}
    for index, output in enumerate(row.contract.outputs):
        for branch in branches_of(output):
            mine, theirs, real = (
                np.stack([cut(outputs[index], branch) for outputs in some]).astype(np.float64)
                for some in (a, b, row.expected)
            )
            step = max((max(real.max(), 0.0) - min(real.min(), 0.0)) / 255, 1e-12)
            found[branch.name] = round(float((np.abs(mine - theirs) <= STEPS * step).mean()), 4)
    return found


def relative_error(row: Row, got: Outputs) -> float:
    """Largest ``max|a - b| / max|a|`` over the branches, over all samples together."""
    worst = 0.0
    for index, output in enumerate(row.contract.outputs):
        for branch in branches_of(output):
            a, b = (
                np.stack([cut(outputs[index], branch) for outputs in some]).astype(np.float64)
                for some in (row.expected[: len(got)], got)
            )
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)))
    return worst


def _decide(row: Row) -> Decide:
    """What an application would act on."""
    if "decide" not in row._made:
        row._made["decide"] = decision_of(row.contract)
    found: Decide | None = row._made["decide"]
    assert found is not None, f"{row.name} decides nothing"
    return found


def _labels(row: Row) -> list[str] | None:
    if row.name in ("kws-ds-cnn", "ppocr-rec"):
        return [str(label) for label in row.truth]
    return None


def _truth_f1(row: Row, got: Outputs) -> float:
    matched = there = found = 0
    for objects, outputs in zip(row.truth, got, strict=True):
        real = np.asarray(objects, np.float64).reshape(-1, 5)
        truth = Boxes(xyxy=real[:, 1:], scores=np.ones(len(real)), class_ids=real[:, 0].astype(np.int64))
        mine = _decide(row)(outputs)
        matched, there, found = matched + match(truth, mine), there + len(truth), found + len(mine)
    return f1(matched, there, found)


def _divergence(expected: Outputs, got: Outputs) -> float:
    """Mean Kullback-Leibler divergence of the class probabilities from float's."""
    p, q = (
        np.clip(np.stack([one[0].reshape(-1) for one in some]).astype(np.float64), 1e-9, None)
        for some in (expected, got)
    )
    return float((p * np.log(p / q)).sum(axis=1).mean())


def _answers(row: Row, got: Outputs) -> list[tuple[int, int]]:
    """For each question: the document that is nearest, and the one that answers it. ``quick`` keeps every fifth embedding."""
    truth = row.truth
    step = 5 if row.quick else 1
    every = list(range(truth["documents"] + len(truth["answers"])))[::step]
    vectors = {index: one[0].reshape(-1) for index, one in zip(every, got, strict=True)}
    documents = {index: vector for index, vector in vectors.items() if index < truth["documents"]}
    pairs = []
    for index, vector in vectors.items():
        if index >= truth["documents"]:
            nearest = max(documents, key=lambda one: float(documents[one] @ vector))
            pairs.append((nearest, truth["answers"][index - truth["documents"]]))
    return pairs


def plain(figures: Figures) -> dict[str, Any]:
    """For JSON; what is empty is left out."""
    found: dict[str, Any] = msgspec.to_builtins(figures)
    return {key: value for key, value in found.items() if value not in (None, "", {})}
