"""Ranks nodes by what quantizing each alone costs in each branch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import OutputSpec
from edgesdk_converters.auto.api import Feeds, Quantizes
from edgesdk_converters.auto.switchboard import Switchboard
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize.recipe import Plan, Scheme
from edgesdk_converters.report.record import NodeCost
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]
Errors = dict[str, float]

SOLO_FEEDS = 6
"""Inferences per node, where the outputs are small."""
_ENOUGH_VALUES = 2_000_000
"""Output values over all nodes and inferences; with large outputs two inferences say as much as many with small ones."""
ONE_BY_ONE = 24
"""Up to so many nodes each is asked for; of more, groups are halved where they cost anything."""
_NEGLIGIBLE = 0.15
"""A group whose members cost less, each, than this share of the mean of all nodes is not looked into."""


def sensitivity(
    quantizer: Quantizes,
    model: onnx.ModelProto,
    outputs: Sequence[OutputSpec],
    feeds: Feeds,
    *,
    plan: Plan,
    progress: Progress | None = None,
) -> tuple[NodeCost, ...]:
    """What each quantizable node costs, the most expensive first.

    Args:
        quantizer: Of ``model``.
        model: Float, prepared.
        outputs: Its branches.
        feeds: Calibration inferences.
        plan: Its options decide how ranges are chosen; its schemes are what the rows say of each node. What it knows of costs already is
            not asked again.
        progress: Where to say what is being done.
    """
    if plan.costs:
        return as_rows(quantizer, plan.costs, plan)
    tuner, progress = Tuner(model, outputs, feeds, budget=Budget()), progress or Quiet()
    # Learning how to round takes long and looks at all layers; what one costs by itself is asked without.
    plain = msgspec.structs.replace(plan, rounding="nearest")
    # What the plan keeps in float is asked as int8; other schemes than that have no switch.
    others = [name for name, scheme in plan.schemes.items() if scheme not in ("float", "w8a8")]
    board = switchboard(quantizer, plain, set(plan.schemes) - set(others))
    found = solo(tuner, board, board.names, progress) | alone(tuner, quantizer, plain, others, progress)
    return as_rows(quantizer, found, plan)


def switchboard(quantizer: Quantizes, plan: Plan, names: Collection[str] | None = None) -> Switchboard:
    """Switches between float and w8a8 for every node that can have it, quantized by the options of ``plan``."""
    able = [node.name for node in quantizer.nodes if "w8a8" in node.schemes and (names is None or node.name in names)]
    quantized = quantizer.apply(_all(plan, quantizer, "w8a8"), half=False)
    base = quantizer.apply(_all(plan, quantizer, "float"), half=False)
    return Switchboard(base, quantized, able)


def alone(
    tuner: Tuner, quantizer: Quantizes, plan: Plan, names: Sequence[str], progress: Progress
) -> dict[str, Errors]:
    """Error in each branch when only this node is what the plan says, by node; a graph is built and loaded for each."""
    found: dict[str, Errors] = {}
    if not names:
        return found
    with progress.bar("what each node costs", len(names)) as bar:
        for name in names:
            schemes: dict[str, Scheme] = {
                other: plan.schemes[name] if other == name else "float" for other in plan.schemes
            }
            model = quantizer.apply(plan.with_schemes(schemes), half=False)
            found[name] = tuner.compare(OnnxRunner(model, threads=WORKERS).run, most=SOLO_FEEDS).errors
            bar.advance()
    return found


def solo(tuner: Tuner, board: Switchboard, names: Sequence[str], progress: Progress) -> dict[str, Errors]:
    """Error in each branch when only this node is quantized, by node."""
    values = sum(math.prod(spec.shape) for spec in tuner.outputs) * max(len(names), 1)
    feeds = max(2, min(SOLO_FEEDS, _ENOUGH_VALUES // max(values, 1)))

    def ask(on: Collection[str]) -> Errors:
        return tuner.compare(lambda feed: board.run(feed, on), most=feeds).errors

    with progress.bar("what each node costs", len(names)) as bar:
        if len(names) <= ONE_BY_ONE:
            found = {}
            for name in names:
                found[name] = ask({name})
                bar.advance()
            return found
        whole = ask(names)
        floor = {branch: _NEGLIGIBLE * error / len(names) for branch, error in whole.items()}
        return _halved(list(names), ask, floor, bar.advance)


def _halved(
    names: list[str], ask: Callable[[Collection[str]], Errors], floor: Errors, done: Callable[[int], None]
) -> dict[str, Errors]:
    """Errors are powers of nearly independent noise, so that of a group is about the sum of its members'."""
    errors = ask(names)
    if len(names) == 1 or all(error <= floor[branch] * len(names) for branch, error in errors.items()):
        done(len(names))
        return {name: {branch: error / len(names) for branch, error in errors.items()} for name in names}
    middle = len(names) // 2
    return {**_halved(names[:middle], ask, floor, done), **_halved(names[middle:], ask, floor, done)}


def as_rows(quantizer: Quantizes, costs: Mapping[str, Errors], plan: Plan) -> tuple[NodeCost, ...]:
    """For the report."""
    rows = [
        NodeCost(
            node=node.name,
            op_type=node.op_type,
            weight_bytes=4 * node.weight_elements,
            error=costs[node.name],
            scheme=plan.schemes.get(node.name, "float"),
        )
        for node in quantizer.nodes
        if node.name in costs
    ]
    order = {row.node: index for index, row in enumerate(rows)}
    return tuple(sorted(rows, key=lambda row: (-max(row.error.values(), default=0.0), order[row.node])))


def _all(plan: Plan, quantizer: Quantizes, scheme: Scheme) -> Plan:
    schemes: dict[str, Scheme] = {node.name: scheme if scheme in node.schemes else "float" for node in quantizer.nodes}
    return plan.with_schemes(schemes)
