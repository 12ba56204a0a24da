"""Looks for an int8 model that stays close to its float source: the simple thing first, help only where it is needed.

1. everything int8; 2. the last convolution of each head stays float; 3. channels equalized, with ranges by extremes or
4. by least error; 5. nodes stay float one after the other, those first that cost the most error per byte.

The search looks at calibration samples only. What it proposes is judged on the held-out ones, which say yes or no.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import BranchFidelity, OutputSpec
from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.guard.fidelity import FidelityMeter, worst_margin
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.ranges import Method
from edgesdk_converters.quantize.static import Quantizer
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]

MIN_FEEDS, MAX_FEEDS = 12, 64
"""Calibration inferences that a proposal is checked on before it goes to the guard; more for class vectors."""
VOTES = 960
"""Class decisions that make an agreement near 0.98 mean something: one is 0.001."""
SOLO_FEEDS = 3
"""Inferences per node when each is quantized alone to see what it costs."""
PROPOSALS = 8
_NEAR = -2.0
"""A proposal this far below the limit on calibration samples is still shown to the guard: both sets are samples."""
FIRST = "everything int8"
_BYTE_OFFSET = 20_000
"""Added to a node's weight bytes when ranking, so that tiny nodes of no consequence do not come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One int8 model for the guard."""

    model: onnx.ModelProto
    recipe: str
    """How it was made, in words."""
    float_nodes: tuple[str, ...]


def search(
    quantizer: Quantizer,
    float_model: onnx.ModelProto,
    outputs: Sequence[OutputSpec],
    feeds: Sequence[Sequence[Array]],
    *,
    keep_float: frozenset[str],
    progress: Progress,
) -> Iterator[Proposal]:
    """Propose int8 models, best guess first; the caller stops when the guard is content.

    Args:
        quantizer: Of ``float_model``.
        float_model: What the proposals are compared with.
        outputs: Their branches.
        feeds: Calibration inferences.
        keep_float: Nodes that the spec keeps in float.
        progress: Where to say what is being done.
    """
    tuner = _Tuner(float_model, outputs, _spread(feeds, _enough(outputs)))
    heads = frozenset(last_of_heads(float_model, quantizer.candidates)) - keep_float
    best: tuple[float, Method] = (float("-inf"), "minmax")
    simple: list[tuple[str, frozenset[str], Method, bool]] = [
        (FIRST, keep_float, "mse", False),
        ("heads float", keep_float | heads, "mse", False),
        ("channels equalized", keep_float, "minmax", True),
        ("channels equalized, least-error ranges", keep_float, "mse", True),
    ]

    for recipe, exclude, method, balance in simple:
        if len(exclude) == len(quantizer.candidates) or (recipe == "heads float" and not heads):
            continue
        progress.say(f"int8: {recipe}")
        model = quantizer.quantize(exclude=exclude, method=method, balance=balance)
        margin = tuner.margin(model)
        proposal = Proposal(model=model, recipe=recipe, float_nodes=_ordered(quantizer, exclude))
        if balance and margin > best[0]:
            best = (margin, method)
        # The first one always goes to the guard: its figures are what the engineer would have got without help.
        if margin >= _NEAR or recipe == FIRST:
            yield proposal
    yield from _exclusions(quantizer, tuner, outputs, float_model, feeds, keep_float, best[1], progress)


def _exclusions(
    quantizer: Quantizer,
    tuner: _Tuner,
    outputs: Sequence[OutputSpec],
    float_model: onnx.ModelProto,
    feeds: Sequence[Sequence[Array]],
    keep_float: frozenset[str],
    method: Method,
    progress: Progress,
) -> Iterator[Proposal]:
    names = [name for name in quantizer.candidates if name not in keep_float]
    solo = _Tuner(float_model, outputs, _spread(feeds, SOLO_FEEDS))
    sizes = quantizer.weight_bytes()
    cost: dict[str, float] = {}
    with progress.bar("int8: what each node costs", len(names)) as bar:
        for name in names:
            alone = frozenset(quantizer.candidates) - {name}
            cost[name] = solo.error(quantizer.quantize(exclude=alone, method=method, balance=True, half=False))
            bar.advance()
    order = sorted(names, key=lambda name: (-cost[name] / (sizes[name] + _BYTE_OFFSET), name))
    reached, proposed = _NEAR, 0
    missed: list[tuple[float, int]] = []
    for count in _growing(len(order) // 2):
        exclude = keep_float | frozenset(order[:count])
        margin = tuner.margin(quantizer.quantize(exclude=exclude, method=method, balance=True, half=False))
        if margin < reached:
            missed.append((margin, count))
            continue
        # Each further proposal must promise more than the one that the held-out samples refused.
        reached = margin + 0.25
        proposed += 1
        yield _excluding(quantizer, exclude, method, count)
        if proposed == PROPOSALS:
            return
    # None came near on the calibration samples: those that came closest are shown all the same.
    for _, count in sorted(missed, reverse=True)[: 0 if proposed else 2]:
        yield _excluding(quantizer, keep_float | frozenset(order[:count]), method, count)


def _excluding(quantizer: Quantizer, exclude: frozenset[str], method: Method, count: int) -> Proposal:
    return Proposal(
        model=quantizer.quantize(exclude=exclude, method=method, balance=True),
        recipe=f"channels equalized, {'least-error ranges, ' if method == 'mse' else ''}{count} nodes float",
        float_nodes=_ordered(quantizer, exclude),
    )


def last_of_heads(model: onnx.ModelProto, candidates: Sequence[str]) -> list[str]:
    """The quantizable nodes that an output reaches without passing another one: the last convolution of each head."""
    view = GraphView(model)
    known, found, seen = set(candidates), set[str](), set[str]()
    queue = list(view.outputs)
    while queue:
        name = queue.pop()
        node = view.producer.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.name in known:
            found.add(node.name)
        else:
            queue += list(node.input)
    return [name for name in candidates if name in found]


class _Tuner:
    """Compares int8 models with the float model on a few calibration inferences."""

    def __init__(
        self, float_model: onnx.ModelProto, outputs: Sequence[OutputSpec], feeds: Sequence[Sequence[Array]]
    ) -> None:
        runner = OnnxRunner(float_model, threads=WORKERS)
        self._feeds, self._outputs = feeds, outputs
        self._expected = [runner.run(feed) for feed in feeds]

    def figures(self, model: onnx.ModelProto) -> tuple[BranchFidelity, ...]:
        runner = OnnxRunner(model, threads=WORKERS)
        meter = FidelityMeter(self._outputs)
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            meter.add(expected, runner.run(feed))
        return meter.result()

    def margin(self, model: onnx.ModelProto) -> float:
        """DB above the limit in the worst branch; negative is below."""
        return worst_margin(self.figures(model))

    def error(self, model: onnx.ModelProto) -> float:
        """Error power over signal power in the worst branch."""
        return max(10 ** (-figure.snr_db / 10) for figure in self.figures(model))


def _enough(outputs: Sequence[OutputSpec]) -> int:
    """Inferences to check on: as many as give every class vector enough votes."""
    needed = MIN_FEEDS
    for output in outputs:
        for branch in output.branches:
            if branch.class_axis is not None:
                votes = math.prod(output.shape) // output.shape[branch.class_axis]
                needed = max(needed, -(-VOTES // max(votes, 1)))
    return min(needed, MAX_FEEDS)


def _growing(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20 ...: each a quarter more."""
    count = 1
    while count <= most:
        yield count
        count = max(count + 1, round(count * 1.25))


def _spread(feeds: Sequence[Sequence[Array]], most: int) -> list[Sequence[Array]]:
    step = max(1, -(-len(feeds) // most))
    return list(feeds[::step])


def _ordered(quantizer: Quantizer, names: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in quantizer.candidates if name in names)
