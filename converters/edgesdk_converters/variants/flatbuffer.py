"""TFLite in, TFLite out, for what cannot be made a graph: normalised fp32 (or its fp16 weights kept), int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.api import Session
from edgesdk.bundle.manifest import Branch, BranchFidelity, Contract, Format, OutputSpec, Precision
from edgesdk.errors import ConversionError
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import EQUAL_DB, random_feed
from edgesdk_converters.guard.fidelity import FidelityMeter, snr_db, worst_margin
from edgesdk_converters.progress import Progress
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.variants.api import Attempt, Form, Wish
from edgesdk_converters.variants.open import open_tflite

Array = NDArray[Any]

_HALF_SHARE = 0.75
"""A source smaller than this share of its float32 form carries float16 weights already."""

_GROUPS = 9
"""Parts that the operators with weights are cut into, in their order, to find where rounding hurts."""
_TUNE_FEEDS = 24
"""Calibration inferences that say which outputs need help."""


class FlatbufferFamily:
    """A TFLite source, normalised and compared with what it was."""

    formats: tuple[Format, ...] = ("tflite",)

    def __init__(self, source: SourceModel, spec: ModelSpec, progress: Progress, *, note: str = "") -> None:
        from edgesdk_converters.tflite import describe, normalize

        self._file, self._content = source.file, source.content
        self._keep_float, self._progress = frozenset(spec.float_nodes), progress
        self.shapes: Mapping[str, tuple[int, ...]]
        self.shapes, notes = resolve_shapes(source, spec)
        self._inputs = tuple(tensor.name for tensor in source.inputs)
        self._outputs = tuple(tensor.name for tensor in source.outputs)
        self.quantized = describe(source.content, name=source.file).integer_share > 0.5
        reference = self.source()
        hints = {name: hint.source for name, hint in spec.inputs.items()}
        feed = random_feed([(self.shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
        expected = reference.run(feed)
        self.outputs = tuple(
            OutputFacts(name=name, shape=tuple(value.shape), dtype=np.dtype(value.dtype).name)
            for name, value in zip(self._outputs, expected, strict=True)
        )
        self._model = source.content
        if not self.quantized:
            progress.say("flatbuffer normalised")
            self._model = normalize(source.content, name=source.file)
            normalised = open_tflite(self._model, source.file, (), ())  # results live as long as it does
            distance = min(snr_db(a, b) for a, b in zip(expected, normalised.run(feed), strict=True))
            if distance < EQUAL_DB:
                raise ConversionError(
                    f"{source.file}: its normalised form computes something else ({distance:.1f} dB, expected {EQUAL_DB:.0f} or "
                    "more). Export the model again with a current TensorFlow."
                )
        self.notes = (*notes, *([note] if note else []))
        self.branches: Mapping[str, tuple[Branch, ...]] = {}
        self.tools: Mapping[str, str] = {
            name: version(name) for name in ("ai-edge-litert", "litert-quantizer", "numpy")
        }

    def settle(self, contract: Contract) -> Contract:
        """As it is: pre-processing stays outside."""
        return contract

    def source(self) -> Session:
        """The source as it was found."""
        return open_tflite(self._content, self._file, self._inputs, self._outputs)

    def floats(self) -> list[Form]:
        """What the source is (float32 or float16 weights), and the smaller float form."""
        if self.quantized:
            return [self._form(self._content, "int8", recipe="as it was")]
        from edgesdk_converters.tflite import float16

        half = self._form(float16(self._model), "fp16", recipe="weights float16")
        if len(self._content) < _HALF_SHARE * len(self._model):
            return [half]
        return [self._form(self._model, "fp32"), half]

    def attempts(self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]) -> Iterator[Attempt]:
        """Static int8, one form each.

        Raises:
            ConversionError: Another recipe, or a plan, was asked for.
        """
        if wish.recipe.scheme not in ("auto", "w8a8") or wish.plan is not None:
            raise ConversionError(
                f"{self._file}: stays TFLite, which is quantized here by recipe auto only. Say --recipe auto."
            )
        if not len(feeds):
            raise ConversionError("no calibration samples. Give a folder with --calibration.")
        for form in self._int8(feeds, contract.outputs, self._progress):
            yield Attempt(forms=(form,), recipe=form.recipe)

    def _int8(
        self, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec], progress: Progress
    ) -> Iterator[Form]:
        """Static int8; then with the heads of the outputs that were too far off in float; then with more parts in float.

        Which ones help is found on calibration samples; the held-out ones only say yes or no.
        """
        from edgesdk_converters.tflite import int8

        progress.say("int8: everything int8")
        quantized = int8(self._model, feeds, float_outputs=self._keep_float)
        yield self._form(
            quantized, "int8", recipe="static int8, per-channel: everything int8", nodes=tuple(sorted(self._keep_float))
        )
        wrong = self._wrong(quantized, feeds, outputs)
        heads = [self._head(wrong, depth) for depth in (1, 2)]
        for depth, exclude in enumerate(heads, 1):
            if exclude != self._keep_float and exclude not in heads[: depth - 1]:
                last = "last convolution" if depth == 1 else f"last {depth} convolutions"
                yield self._excluding(feeds, exclude, f"{last} of {', '.join(self._outputs[i] for i in wrong)} float")
        yield from self._groups(feeds, outputs, heads[-1], progress)

    def _groups(
        self,
        feeds: Sequence[Sequence[Array]],
        outputs: Sequence[OutputSpec],
        exclude: frozenset[str],
        progress: Progress,
    ) -> Iterator[Form]:
        """Runs of neighbouring operators in float, those first whose rounding costs the most on calibration samples."""
        from edgesdk_converters.tflite import describe, int8

        names = [operator.output for operator in describe(self._model).compute if operator.output not in exclude]
        size = max(1, -(-len(names) // _GROUPS))
        groups = [frozenset(names[start : start + size]) for start in range(0, len(names), size)]
        gain: list[tuple[float, int]] = []
        with progress.bar("int8: what each part costs", len(groups)) as bar:
            for index, group in enumerate(groups):
                quantized = int8(self._model, feeds, float_outputs=exclude | group)
                gain.append((worst_margin(self._figures(quantized, feeds, outputs)), -index))
                bar.advance()
        for count, (_, index) in enumerate(sorted(gain, reverse=True)[: len(groups) // 2], 1):
            exclude |= groups[-index]
            yield self._excluding(feeds, exclude, f"heads and {count} of {len(groups)} parts float")

    def _excluding(self, feeds: Sequence[Sequence[Array]], exclude: frozenset[str], recipe: str) -> Form:
        """Int8 but for some operators, whose weights are stored as float16, as in the ONNX variants."""
        from edgesdk_converters.tflite import float16, int8

        content = float16(int8(self._model, feeds, float_outputs=exclude))
        return self._form(content, "int8", recipe=f"static int8, per-channel: {recipe}", nodes=tuple(sorted(exclude)))

    def _head(self, outputs: Sequence[int], depth: int) -> frozenset[str]:
        from edgesdk_converters.tflite import head

        return self._keep_float.union(*(head(self._model, index, convolutions=depth) for index in outputs))

    def _wrong(self, quantized: bytes, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec]) -> list[int]:
        """Indices of the outputs with a branch below its limit."""
        below = {figure.output for figure in self._figures(quantized, feeds, outputs) if not figure.passed}
        return [index for index, name in enumerate(self._outputs) if name in below]

    def _figures(
        self, quantized: bytes, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec]
    ) -> tuple[BranchFidelity, ...]:
        meter = FidelityMeter(outputs)
        source, mine = self.source(), self.open(self._form(quantized, "int8"))
        for feed in feeds[:: max(1, -(-len(feeds) // _TUNE_FEEDS))]:
            meter.add(source.run(feed), mine.run(feed))
        return meter.result()

    def open(self, form: Form) -> Session:
        """Load a form."""
        return open_tflite(form.content, self._file, form.inputs, form.outputs)

    def _form(self, content: bytes, precision: Precision, *, recipe: str = "", nodes: tuple[str, ...] = ()) -> Form:
        from edgesdk_converters.tflite import describe

        found = describe(content, name=self._file)
        return Form(
            content=content,
            format="tflite",
            precision=precision,
            inputs=tuple(info.name for info in found.inputs),
            outputs=tuple(info.name for info in found.outputs),
            recipe=recipe,
            float_nodes=nodes,
        )
