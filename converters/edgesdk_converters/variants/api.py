"""What the pipeline asks of a source model: its float forms, attempts at quantizing it, and how to run any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract, Format, Precision
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Plan, Recipe
from edgesdk_converters.report.record import NodeCost

Array = NDArray[Any]


class Runner(Protocol):
    """A loaded model on one thread of this machine."""

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """One inference; arrays in the order of the source's inputs and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One model file that may go into the bundle."""

    content: bytes
    format: Format = "onnx"
    precision: Precision
    inputs: tuple[str, ...]
    """Its own tensor names in the order of the source's inputs."""
    outputs: tuple[str, ...]
    recipe: str = ""
    """How it was made, in words."""
    float_nodes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Of the variant, for example ``onnx-int8``."""
        return f"{self.format}-{self.precision}"

    @property
    def file(self) -> str:
        """Its path inside the bundle."""
        return f"model.{self.precision}.{self.format}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How to quantize."""

    recipe: Recipe
    budget: Budget = field(default_factory=Budget)
    plan: Path | None = None
    """A saved plan; it is done again, whatever the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The model quantized once, in every format that was asked for."""

    forms: tuple[Form, ...]
    recipe: str
    """How it was made, in words."""
    plan: Plan | None = None
    """What was done to every node; None where another quantizer decided."""
    costs: tuple[NodeCost, ...] = ()
    """What each node costs alone; empty where nobody had to ask."""
    failures: tuple[str, ...] = ()
    """Formats that could not be written, with the reason."""
    quantizer: Quantizer | None = None
    """Knows the ranges and histograms behind ``plan``."""
    base: onnx.ModelProto | None = None
    """The float graph that ``plan`` belongs to."""


class Family(Protocol):
    """A source model, prepared."""

    formats: tuple[Format, ...]
    """What it can be written as."""
    quantized: bool
    """Whether the source is quantized already; it is taken as it is."""
    shapes: Mapping[str, tuple[int, ...]]
    """Static shape of every input."""
    outputs: tuple[OutputFacts, ...]
    branches: Mapping[str, tuple[Branch, ...]]
    notes: tuple[str, ...]
    """What had to be assumed or could not be done."""
    tools: Mapping[str, str]
    """Distribution -> version."""

    def settle(self, contract: Contract) -> Contract:
        """Take pre-processing into the graph where that is possible; the contract of the files that are written."""

    def source(self) -> Runner:
        """The source model as it was found, taking what the settled contract says."""

    def floats(self) -> list[Form]:
        """The float forms, for each format the reference for speed first."""

    def attempts(self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]) -> Iterator[Attempt]:
        """Proposals for a quantized model, best guess first.

        Args:
            wish: The recipe, and the limits that the guard will look at.
            contract: As settled.
            feeds: Calibration inferences; empty where there are none.

        Raises:
            ConversionError: This model cannot be quantized; the text says why.
        """

    def open(self, form: Form) -> Runner:
        """Load a form."""

    def explain(self, feed: Sequence[Array]) -> str:
        """Where the NaN that the source answers an inference with begins, and what to do; empty where nobody can say."""
