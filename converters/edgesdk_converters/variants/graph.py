"""A model as one float ONNX graph: quantized once, written as ONNX and as TFLite with the same integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract, Format, OutputSpec, Precision
from edgesdk.errors import ConversionError
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.frontends.onnx import opset_of
from edgesdk_converters.graph import find_branches, pin_shapes, raise_opset, simplify
from edgesdk_converters.graph.opset import QDQ_OPSET
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import EQUAL_DB, first_equal, random_feed
from edgesdk_converters.guard.fidelity import snr_db
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize import Quantizer, halve
from edgesdk_converters.quantize.search import search
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.variants.api import Attempt, Form, Runner
from edgesdk_converters.variants.open import open_tflite

Array = NDArray[Any]

_HALF_SHARE = 0.75
"""A source smaller than this share of its float32 form carries float16 weights already."""


class GraphFamily:
    """A source that is ONNX, or was made so: shapes pinned, operator set raised, simplified, compared with what it was."""

    quantized = False

    def __init__(
        self,
        source: SourceModel,
        spec: ModelSpec,
        progress: Progress,
        *,
        formats: Sequence[Format],
        reduce_range: bool = False,
        flatbuffer: bytes | None = None,
    ) -> None:
        """Prepare the graph.

        Args:
            source: ONNX.
            spec: What the user stated.
            progress: Where to say what is being done.
            formats: To be written.
            reduce_range: 7-bit weights, for x86-64 CPUs without VNNI.
            flatbuffer: The TFLite file that the graph was made from; it is what everything is compared with then.
        """
        self._flatbuffer = flatbuffer
        self._file, self._content = source.file, source.content
        self._keep_float, self._reduce_range = frozenset(spec.float_nodes), reduce_range
        self.shapes: Mapping[str, tuple[int, ...]]
        self.shapes, notes = resolve_shapes(source, spec)
        reference = self._reference()
        self._inputs, self._outputs = tuple(reference.inputs), tuple(reference.outputs)
        progress.say("shapes pinned, operator set raised, simplified")
        hints = {name: hint.source for name, hint in spec.inputs.items()}
        self._feed = random_feed([(self.shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
        self.outputs = tuple(
            OutputFacts(name=name, shape=tuple(value.shape), dtype=np.dtype(value.dtype).name)
            for name, value in zip(self._outputs, reference.run(self._feed), strict=True)
        )
        prepared, more = self._prepare(source, reference)
        self._model, further = simplify(prepared, reference, [self._feed])
        self.branches: Mapping[str, tuple[Branch, ...]] = find_branches(self._model)
        self.formats, unwritable = self._writable(tuple(formats))
        self.notes = (*notes, *more, *further, *unwritable)
        self.tools: Mapping[str, str] = {
            **source.tools,
            **{name: version(name) for name in ("onnx", "onnxruntime", "onnxslim", "numpy")},
            **({"ai-edge-litert": version("ai-edge-litert")} if "tflite" in self.formats else {}),
        }

    def _prepare(self, source: SourceModel, reference: OnnxRunner) -> tuple[onnx.ModelProto, list[str]]:
        """Pin and raise; where the model does not survive one of the two (a branch for another rate), without it."""
        model = onnx.load_from_string(source.content)
        pinned = pin_shapes(model, self.shapes)
        raised, notes = raise_opset(pinned, file=source.file)
        attempts: list[tuple[str, Callable[[], onnx.ModelProto]]] = [
            ("", lambda: raised),
            ("shapes stay dynamic in the file", lambda: raise_opset(model, file=source.file)[0]),
        ]
        if opset_of(model, source.file) >= QDQ_OPSET:
            attempts += [
                ("operator set stays as it was", lambda: pinned),
                ("shapes and operator set stay as they were", lambda: model),
            ]
        prepared, more = first_equal(attempts, reference, self._feed)
        return prepared, [*notes, *more]

    def _writable(self, asked: tuple[Format, ...]) -> tuple[tuple[Format, ...], list[str]]:
        """The formats that the graph can be written as, and what is in the way of the others.

        Raises:
            NotExpressibleError: TFLite was all that was asked for, and it cannot be.
        """
        if "tflite" not in asked:
            return asked, []
        from edgesdk.errors import NotExpressibleError
        from edgesdk_converters.tflite.lower import lower

        try:
            content = lower(self._model, name=self._file)
        except NotExpressibleError as error:
            if asked == ("tflite",):
                raise
            return tuple(one for one in asked if one != "tflite"), [f"not written as TFLite: {error}"]
        expected = OnnxRunner(self._model, order=(self._inputs, self._outputs)).run(self._feed)
        got = open_tflite(content, self._file, self._inputs, self._outputs).run(self._feed)
        distance = min(snr_db(a, b) for a, b in zip(expected, got, strict=True))
        if distance < EQUAL_DB:
            raise ConversionError(
                f"{self._file}: its TFLite form computes something else ({distance:.1f} dB, expected {EQUAL_DB:.0f} or more). "
                "That is a fault of edgesdk, not of the model: please report it; --format onnx goes without."
            )
        return asked, []

    def settle(self, contract: Contract) -> Contract:
        """As it is: pre-processing stays outside."""
        return contract

    def _reference(self) -> OnnxRunner:
        return OnnxRunner(self._content, name=self._file)

    def source(self) -> Runner:
        """The source as it was found, dynamic shapes and old operator set included."""
        if self._flatbuffer is not None:
            return open_tflite(self._flatbuffer, self._file, self._inputs, self._outputs)
        return self._reference()

    def floats(self) -> list[Form]:
        """fp32, and fp32 with float16 weights, in each format."""
        forms = self._forms(self._model, "fp32")
        small = self._forms(self._model, "fp16", recipe="weights float16")
        # A source that carries float16 weights already would only grow.
        grows = len(self._flatbuffer or self._content) < _HALF_SHARE * len(forms[0].content)
        return small if grows else [*forms, *small]

    def attempts(
        self, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec], progress: Progress
    ) -> Iterator[Attempt]:
        """Static QDQ, with as much help as it takes."""
        quantizer = Quantizer(self._model, feeds, reduce_range=self._reduce_range)
        self._check_names(quantizer)
        for proposal in search(quantizer, self._model, outputs, feeds, keep_float=self._keep_float, progress=progress):
            words = f"static QDQ, per-channel: {proposal.recipe}"
            forms = self._forms(proposal.model, "int8", recipe=words, nodes=proposal.float_nodes)
            yield Attempt(forms=tuple(forms), recipe=words)

    def open(self, form: Form) -> Runner:
        """Load a form."""
        name = f"{self._file} ({form.id})"
        if form.format == "tflite":
            return open_tflite(form.content, name, form.inputs, form.outputs)
        return OnnxRunner(form.content, name=name, order=(form.inputs, form.outputs))

    def _forms(
        self, model: onnx.ModelProto, precision: Precision, *, recipe: str = "", nodes: tuple[str, ...] = ()
    ) -> list[Form]:
        """The graph in every format."""
        made = []
        for kind in self.formats:
            if kind == "onnx":
                graph = halve(model) if precision == "fp16" else model
                content = graph.SerializeToString(deterministic=True)
            else:
                from edgesdk_converters.tflite.lower import lower

                content = lower(model, name=self._file, half=precision == "fp16")
            made.append(
                Form(
                    content=content,
                    format=kind,
                    precision=precision,
                    inputs=self._inputs,
                    outputs=self._outputs,
                    recipe=recipe,
                    float_nodes=nodes,
                )
            )
        return made

    def _check_names(self, quantizer: Quantizer) -> None:
        unknown = sorted(self._keep_float - set(quantizer.candidates))
        if unknown:
            raise ConversionError(
                f"{self._file}: the spec's float_nodes name {', '.join(map(repr, unknown))}, which cannot be quantized anyway or do "
                f"not exist. Quantizable nodes: {', '.join(quantizer.candidates[:40])}."
            )
