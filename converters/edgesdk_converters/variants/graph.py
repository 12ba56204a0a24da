"""A model as one float ONNX graph: quantized once, written as ONNX and as TFLite with the same integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, cast

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract, Format, InputSpec, Precision
from edgesdk.errors import ConversionError, NotExpressibleError
from edgesdk_converters.auto import proposals, read_plan
from edgesdk_converters.auto.api import Proposal
from edgesdk_converters.contract import OutputFacts
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.graph import find_branches
from edgesdk_converters.graph.fold import fold_input, source_input
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import equal_limit, random_feed
from edgesdk_converters.guard.fidelity import snr_db
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.half import halve
from edgesdk_converters.quantize.nan import explain
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.tflite.lower import lower
from edgesdk_converters.variants.api import Attempt, Form, Runner, Wish
from edgesdk_converters.variants.open import open_tflite

Array = NDArray[Any]

_NO_FOUR_BITS = (
    "tflite-w4: a TFLite file would store these weights in 8 bits, and compute in float all the same. "
    "Take recipe w8 for TFLite, or say --format onnx."
)
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
        self._file, self._content, self._flatbuffer = source.file, source.content, flatbuffer
        self._keep_float, self._reduce_range = frozenset(spec.float_nodes), reduce_range
        self._progress = progress
        self.shapes: Mapping[str, tuple[int, ...]]
        self.shapes, notes = resolve_shapes(source, spec)
        reference = self._reference()
        self._inputs, self._outputs = tuple(reference.inputs), tuple(reference.outputs)
        progress.say("shapes pinned, operator set raised, simplified")
        hints = {name: hint.source for name, hint in spec.inputs.items()}
        feed = random_feed([(self.shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
        self.outputs = tuple(
            OutputFacts(name=name, shape=tuple(value.shape), dtype=np.dtype(value.dtype).name)
            for name, value in zip(self._outputs, reference.run(feed), strict=True)
        )
        self._model, more = prepare(
            onnx.load_from_string(source.content), self.shapes, reference, feed, file=source.file
        )
        self.branches: Mapping[str, tuple[Branch, ...]] = find_branches(self._model)
        self.formats, unwritable = self._writable(tuple(formats), feed, equal_limit(self._model, reference, feed))
        self._folded: list[tuple[InputSpec, InputSpec]] = []
        self.notes = (*source.assumptions, *notes, *more, *unwritable)
        names = ("onnx", "onnxruntime", "onnxslim", "numpy", *(("ai-edge-litert",) if "tflite" in self.formats else ()))
        self.tools: Mapping[str, str] = {**source.tools, **{name: version(name) for name in names}}

    def _writable(
        self, asked: tuple[Format, ...], feed: Sequence[Array], limit: float
    ) -> tuple[tuple[Format, ...], list[str]]:
        """The formats that the graph can be written as, and what is in the way of the others.

        Raises:
            NotExpressibleError: TFLite was all that was asked for, and it cannot be.
        """
        if "tflite" not in asked:
            return asked, []
        try:
            content = lower(self._model, name=self._file)
        except NotExpressibleError as error:
            if asked == ("tflite",):
                raise
            return tuple(one for one in asked if one != "tflite"), [f"not written as TFLite: {error}"]
        expected = OnnxRunner(self._model, order=(self._inputs, self._outputs)).run(feed)
        session = open_tflite(content, self._file, self._inputs, self._outputs)  # results live as long as it does
        distance = min(snr_db(a, b) for a, b in zip(expected, session.run(feed), strict=True))
        if distance < limit:
            raise ConversionError(
                f"{self._file}: its TFLite form computes something else ({distance:.1f} dB, expected {limit:.0f} or more). "
                "That is a fault of edgesdk, not of the model: please report it. --format onnx goes without."
            )
        return asked, []

    def settle(self, contract: Contract) -> Contract:
        """Pictures go in as the bytes that they are: what was done to them beforehand becomes part of the graph."""
        self._folded = []
        for spec in contract.inputs:
            self._model, folded = fold_input(self._model, spec)
            self._folded.append((spec, folded))
        return msgspec.structs.replace(contract, inputs=tuple(folded for _, folded in self._folded))

    def _reference(self) -> OnnxRunner:
        return OnnxRunner(self._content, name=self._file)

    def source(self) -> Runner:
        """The source as it was found, dynamic shapes and old operator set included."""
        found: Runner = self._reference()
        if self._flatbuffer is not None:
            found = open_tflite(self._flatbuffer, self._file, self._inputs, self._outputs)
        return _Unfolded(found, self._folded) if any(a is not b for a, b in self._folded) else found

    def floats(self) -> list[Form]:
        """fp32, and fp32 with float16 weights, in each format."""
        forms, _ = self._forms(self._model, "fp32")
        small, _ = self._forms(self._model, "fp16", recipe="weights float16")
        # A source that carries float16 weights already would only grow.
        grows = len(self._flatbuffer or self._content) < _HALF_SHARE * len(forms[0].content)
        return small if grows else [*forms, *small]

    def attempts(self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]) -> Iterator[Attempt]:
        """The recipe's plan, the plan that was saved, or one proposal after the other."""
        quantizer = Quantizer(self._model, feeds, reduce_range=self._reduce_range, progress=self._progress)
        self._check_names(quantizer)
        for proposal in self._proposals(quantizer, wish, contract, feeds):
            precision = precision_of(proposal.plan, quantizer)
            forms, failures = self._forms(
                proposal.model, precision, recipe=proposal.recipe, nodes=proposal.plan.float_nodes
            )
            yield Attempt(
                forms=tuple(forms),
                recipe=proposal.recipe,
                plan=proposal.plan,
                costs=proposal.costs,
                failures=tuple(failures),
                quantizer=quantizer,
                base=self._model,
            )

    def _proposals(
        self, quantizer: Quantizer, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]
    ) -> Iterator[Proposal]:
        if wish.plan is not None:
            plan = read_plan(wish.plan, self._model)
            words = f"{plan.recipe}, replayed from {wish.plan.name}"
            yield Proposal(plan=plan, model=quantizer.apply(plan), recipe=words)
            return
        yield from proposals(
            quantizer,
            self._model,
            contract.outputs,
            feeds,
            recipe=wish.recipe,
            keep_float=self._keep_float,
            budget=wish.budget,
            progress=self._progress,
            contract=contract,
            alike=len(self.formats) > 1,
        )

    def open(self, form: Form) -> Runner:
        """Load a form."""
        name = f"{self._file} ({form.id})"
        if form.format == "tflite":
            return open_tflite(form.content, name, form.inputs, form.outputs)
        return OnnxRunner(form.content, name=name, order=(form.inputs, form.outputs))

    def explain(self, feed: Sequence[Array]) -> str:
        """The first node that makes NaN."""
        return explain(self._model, feed)

    def _forms(
        self, model: onnx.ModelProto, precision: Precision, *, recipe: str = "", nodes: tuple[str, ...] = ()
    ) -> tuple[list[Form], list[str]]:
        """The graph in every format, and the formats that cannot express it."""
        made, failures = [], []
        for kind in self.formats:
            if kind == "tflite" and precision == "w4":
                failures.append(_NO_FOUR_BITS)
                continue
            try:
                content = self._write(model, kind, half=precision == "fp16")
            except NotExpressibleError as error:
                failures.append(f"{kind}-{precision}: {error}")
                continue
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
        return made, failures

    def _write(self, model: onnx.ModelProto, kind: Format, *, half: bool) -> bytes:
        if kind == "tflite":
            return lower(model, name=self._file, half=half)
        content: bytes = (halve(model) if half else model).SerializeToString(deterministic=True)
        return content

    def _check_names(self, quantizer: Quantizer) -> None:
        names = [node.name for node in quantizer.nodes]
        unknown = sorted(self._keep_float - set(names))
        if unknown:
            raise ConversionError(
                f"{self._file}: the spec's float_nodes name {', '.join(map(repr, unknown))}, which cannot be quantized anyway or do "
                f"not exist. Quantizable nodes: {', '.join(names[:40])}."
            )


class _Unfolded:
    """The source, taking the pixels that the folded graph takes."""

    def __init__(self, runner: Runner, inputs: Sequence[tuple[InputSpec, InputSpec]]) -> None:
        self._runner, self._inputs = runner, inputs

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """One inference."""
        return self._runner.run(
            [source_input(spec, folded, value) for (spec, folded), value in zip(self._inputs, feed, strict=True)]
        )


def precision_of(plan: Plan, quantizer: Quantizer) -> Precision:
    """What a plan's file is called: by the scheme of most of its weights."""
    weights: Counter[str] = Counter()
    for node in quantizer.nodes:
        if node.op_type != "Gather":  # looks rows up; what computes gives the name
            weights[plan.schemes[node.name]] += node.weight_elements
    weights.pop("float", None)
    most = max(weights, key=lambda scheme: weights[scheme], default="w8a8")
    return "int8" if most == "w8a8" else cast("Precision", most)
