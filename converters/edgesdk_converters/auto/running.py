"""Which matrix products suffer most when the ranges of their inputs are found at run time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgesdk_converters.auto.api import Quantizes
from edgesdk_converters.auto.sensitivity import Errors, alone
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.quantize.units import Quantizable

SMOOTH = 0.8
"""SmoothQuant's alpha: of 0.6 to 1.0 what ranked MiniLM's calibration sentences best, statistics from one half, judged on the other."""
_SHARE = 0.9
"""Of the weights that are computed with."""


def mostly_products(nodes: Sequence[Quantizable]) -> bool:
    """Whether nearly all weights, tables of embeddings aside, are those of matrix products."""
    weights = {node.name: node.weight_elements for node in nodes if node.op_type != "Gather"}
    able = sum(weights[node.name] for node in nodes if "dynamic" in node.schemes)
    return able > 0 and able >= _SHARE * sum(weights.values())


def rank_running(
    tuner: Tuner, quantizer: Quantizes, plan: Plan, fixed: Collection[str], progress: Progress
) -> tuple[list[str], dict[str, Errors]]:
    """Nodes that are ``dynamic`` in ``plan``, the most error by itself per weight first; and the errors.

    Args:
        tuner: Knows the float model's answers.
        quantizer: Makes the models.
        plan: Its options are kept.
        fixed: Nodes to leave out.
        progress: Where to say what is being done.
    """
    names = [name for name, scheme in plan.schemes.items() if scheme == "dynamic" and name not in fixed]
    weights = {node.name: node.weight_elements for node in quantizer.nodes}
    errors = alone(tuner, quantizer, plan, names, progress)
    # Three digits: the last bits of a float sum must not decide which plan is made.
    worth = {name: float(f"{max(errors[name].values(), default=0.0) / max(weights[name], 1):.3g}") for name in names}
    order = {name: index for index, name in enumerate(names)}
    return sorted(names, key=lambda name: (-worth[name], order[name])), errors
