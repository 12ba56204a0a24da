"""Which matrix products suffer most when the ranges of their inputs are found at run time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from edgesdk_converters.auto.api import Quantizes
from edgesdk_converters.auto.sensitivity import SOLO_FEEDS
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.recipe import Plan, Scheme
from edgesdk_converters.quantize.units import Quantizable
from edgesdk_converters.runner import WORKERS, OnnxRunner

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
) -> list[str]:
    """Nodes that are ``dynamic`` in ``plan``, the most error by itself per weight first.

    Args:
        tuner: Knows the float model's answers.
        quantizer: Makes the models.
        plan: Its options are kept.
        fixed: Nodes to leave out.
        progress: Where to say what is being done.
    """
    names = [name for name, scheme in plan.schemes.items() if scheme == "dynamic" and name not in fixed]
    weights = {node.name: node.weight_elements for node in quantizer.nodes}
    worth: dict[str, float] = {}
    with progress.bar("what each node costs", len(names)) as bar:
        for name in names:
            schemes: dict[str, Scheme] = {other: "dynamic" if other == name else "float" for other in plan.schemes}
            model = quantizer.apply(msgspec.structs.replace(plan, schemes=schemes), half=False)
            errors = tuner.compare(OnnxRunner(model, threads=WORKERS).run, most=SOLO_FEEDS).errors
            # Three digits: the last bits of a float sum must not decide which plan is made.
            worth[name] = float(f"{max(errors.values(), default=0.0) / max(weights[name], 1):.3g}")
            bar.advance()
    order = {name: index for index, name in enumerate(names)}
    return sorted(names, key=lambda name: (-worth[name], order[name]))
