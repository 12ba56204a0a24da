"""What the search asks of a quantizer, and what it proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from edgesdk_converters.quantize.recipe import Plan, Recipe, Scheme
from edgesdk_converters.quantize.units import Quantizable
from edgesdk_converters.report.record import NodeCost

Array = NDArray[Any]
Feeds = Sequence[Sequence[Array]]


class Quantizes(Protocol):
    """A quantizer of one float model."""

    @property
    def nodes(self) -> tuple[Quantizable, ...]:
        """What can be something else than float, in graph order."""

    def plan(self, recipe: Recipe, *, schemes: Mapping[str, Scheme] | None = None) -> Plan:
        """Resolve a recipe; ``schemes`` has the last word."""

    def settled(self, plan: Plan) -> Plan:
        """The plan that says of every node what it really becomes."""

    def apply(self, plan: Plan, *, half: bool = True) -> onnx.ModelProto:
        """The quantized graph.

        A plan that leaves everything in float gives the float graph that the others are made from, channels equalized if it says
        so; ``half`` stores what stays float as float16.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One quantized model for the guard."""

    plan: Plan
    model: onnx.ModelProto
    recipe: str
    """How it was made, in words."""
    costs: tuple[NodeCost, ...] = ()
    """What each node costs alone, most expensive first; empty where nobody had to ask."""

    @property
    def float_nodes(self) -> tuple[str, ...]:
        """Nodes that stay float, in graph order."""
        return self.plan.float_nodes
