"""A TFLite source that stays what it is: quantized already, or with operators that ONNX does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.api import Session
from edgesdk.bundle.manifest import Branch, Contract, Format, Precision
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.variants.api import Attempt, Form, Wish
from edgesdk_converters.variants.open import open_tflite

Array = NDArray[Any]


class FlatbufferFamily:
    """Goes into the bundle byte by byte as it was found."""

    formats: tuple[Format, ...] = ("tflite",)
    quantized = True
    """Nothing here quantizes it (further)."""

    def __init__(self, source: SourceModel, spec: ModelSpec, *, precision: Precision, note: str) -> None:
        """Look at the file.

        Args:
            source: TFLite.
            spec: What the user stated.
            precision: What it is in.
            note: Why it stays what it is.
        """
        self._file, self._content, self._precision = source.file, source.content, precision
        self.shapes: Mapping[str, tuple[int, ...]]
        self.shapes, notes = resolve_shapes(source, spec)
        self._inputs = tuple(tensor.name for tensor in source.inputs)
        self._outputs = tuple(tensor.name for tensor in source.outputs)
        hints = {name: hint.source for name, hint in spec.inputs.items()}
        feed = random_feed([(self.shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
        session = self.source()  # results live as long as it does
        self.outputs = tuple(
            OutputFacts(name=name, shape=tuple(value.shape), dtype=np.dtype(value.dtype).name)
            for name, value in zip(self._outputs, session.run(feed), strict=True)
        )
        self.notes = (*source.assumptions, *notes, note)
        self.branches: Mapping[str, tuple[Branch, ...]] = {}
        self.tools: Mapping[str, str] = {name: version(name) for name in ("ai-edge-litert", "numpy")}

    def settle(self, contract: Contract) -> Contract:
        """As it is: pre-processing stays outside."""
        return contract

    def source(self) -> Session:
        """The file."""
        return open_tflite(self._content, self._file, self._inputs, self._outputs)

    def floats(self) -> list[Form]:
        """The file, which is the reference for everything."""
        form = Form(
            content=self._content,
            format="tflite",
            precision=self._precision,
            inputs=self._inputs,
            outputs=self._outputs,
            recipe="as it was",
        )
        return [form]

    def attempts(self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]) -> Iterator[Attempt]:
        """None."""
        del wish, contract, feeds
        return iter(())

    def open(self, form: Form) -> Session:
        """Load a form."""
        return open_tflite(form.content, self._file, form.inputs, form.outputs)

    def explain(self, feed: Sequence[Array]) -> str:
        """Nothing: LiteRT does not show what lies between."""
        del feed
        return ""
