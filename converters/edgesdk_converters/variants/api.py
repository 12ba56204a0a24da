"""What the pipeline asks of a model format: its float forms, proposals for int8, and how to run any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Format, OutputSpec, Precision
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.progress import Progress

Array = NDArray[Any]


class Runner(Protocol):
    """A loaded model on one thread of this machine."""

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """One inference; arrays in the order of the source's inputs and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One model file that may go into the bundle."""

    content: bytes
    precision: Precision
    inputs: tuple[str, ...]
    """Its own tensor names in the order of the source's inputs."""
    outputs: tuple[str, ...]
    recipe: str = ""
    """How it was made, in words."""
    float_nodes: tuple[str, ...] = ()


class Family(Protocol):
    """A source model in its format."""

    format: Format
    shapes: Mapping[str, tuple[int, ...]]
    """Static shape of every input."""
    outputs: tuple[OutputFacts, ...]
    branches: Mapping[str, tuple[Branch, ...]]
    notes: tuple[str, ...]
    """What had to be assumed or could not be done."""
    tools: Mapping[str, str]
    """Distribution -> version."""

    def source(self) -> Runner:
        """The source model as it was found."""

    def floats(self) -> list[Form]:
        """The float forms, the reference for speed first."""

    def int8(
        self, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec], progress: Progress
    ) -> Iterator[Form]:
        """Proposals for int8, best guess first.

        Raises:
            ConversionError: This model cannot be quantized; the text says why.
        """

    def open(self, form: Form) -> Runner:
        """Load a form."""
