"""ONNX in, ONNX out: fp32, fp16 weights, int8 QDQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Format, OutputSpec, Precision
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.frontends.onnx import opset_of
from edgesdk_converters.graph import find_branches, pin_shapes, raise_opset, simplify
from edgesdk_converters.graph.opset import QDQ_OPSET
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import first_equal, random_feed
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize import Quantizer, halve
from edgesdk_converters.quantize.search import search
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.variants.api import Form

Array = NDArray[Any]


class OnnxFamily:
    """An ONNX source: shapes pinned, operator set raised, simplified, compared with what it was."""

    format: Format = "onnx"

    def __init__(self, source: SourceModel, spec: ModelSpec, progress: Progress, *, reduce_range: bool = False) -> None:
        self._file, self._content = source.file, source.content
        self._keep_float, self._reduce_range = frozenset(spec.float_nodes), reduce_range
        self.shapes: Mapping[str, tuple[int, ...]]
        self.shapes, notes = resolve_shapes(source, spec)
        reference = self.source()
        self._inputs, self._outputs = tuple(reference.inputs), tuple(reference.outputs)
        progress.say("shapes pinned, operator set raised, simplified")
        hints = {name: hint.source for name, hint in spec.inputs.items()}
        feed = random_feed([(self.shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
        self.outputs = tuple(
            OutputFacts(name=name, shape=tuple(value.shape), dtype=np.dtype(value.dtype).name)
            for name, value in zip(self._outputs, reference.run(feed), strict=True)
        )
        prepared, more = self._prepare(source, reference, feed)
        self._model, further = simplify(prepared, reference, [feed])
        self.notes = (*notes, *more, *further)
        self.branches: Mapping[str, tuple[Branch, ...]] = find_branches(self._model)
        self.tools: Mapping[str, str] = {
            **source.tools,
            **{name: version(name) for name in ("onnx", "onnxruntime", "onnxslim", "numpy")},
        }

    def _prepare(
        self, source: SourceModel, reference: OnnxRunner, feed: Sequence[Array]
    ) -> tuple[onnx.ModelProto, list[str]]:
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
        prepared, more = first_equal(attempts, reference, feed)
        return prepared, [*notes, *more]

    def source(self) -> OnnxRunner:
        """The source as it was found, dynamic shapes and old operator set included."""
        return OnnxRunner(self._content, name=self._file)

    def floats(self) -> list[Form]:
        """fp32, and fp32 with float16 weights."""
        return [self._form(self._model, "fp32"), self._form(halve(self._model), "fp16", recipe="weights float16")]

    def int8(
        self, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec], progress: Progress
    ) -> Iterator[Form]:
        """Static QDQ, with as much help as it takes."""
        quantizer = Quantizer(self._model, feeds, reduce_range=self._reduce_range)
        self._check_names(quantizer)
        for proposal in search(quantizer, self._model, outputs, feeds, keep_float=self._keep_float, progress=progress):
            yield self._form(
                proposal.model, "int8", recipe=f"static QDQ, per-channel: {proposal.recipe}", nodes=proposal.float_nodes
            )

    def open(self, form: Form) -> OnnxRunner:
        """Load a form."""
        return OnnxRunner(form.content, name=f"{self._file} ({form.precision})", order=(form.inputs, form.outputs))

    def _form(
        self, model: onnx.ModelProto, precision: Precision, *, recipe: str = "", nodes: tuple[str, ...] = ()
    ) -> Form:
        return Form(
            content=model.SerializeToString(deterministic=True),
            precision=precision,
            inputs=self._inputs,
            outputs=self._outputs,
            recipe=recipe,
            float_nodes=nodes,
        )

    def _check_names(self, quantizer: Quantizer) -> None:
        unknown = sorted(self._keep_float - set(quantizer.candidates))
        if unknown:
            from edgesdk.errors import ConversionError

            raise ConversionError(
                f"{self._file}: the spec's float_nodes name {', '.join(map(repr, unknown))}, which cannot be quantized anyway or do "
                f"not exist. Quantizable nodes: {', '.join(quantizer.candidates[:40])}."
            )
