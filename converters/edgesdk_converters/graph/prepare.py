"""The passes that every model goes through before it is quantized or lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.errors import PassError
from edgesdk_converters.graph.canonical import canonical_pass
from edgesdk_converters.graph.conditions import (
    NO_BATCH_NORM,
    NO_WEIGHT_INPUTS,
    ONE_FILE,
    SORTED,
    STATIC_SHAPES,
    UNIQUE_NAMES,
    batch_norm_pairs,
    opset_at_least,
    opset_of,
)
from edgesdk_converters.graph.opset import QDQ_OPSET, raise_opset
from edgesdk_converters.graph.passes import Equal, Pass, Step, run_passes
from edgesdk_converters.graph.shapes import pin_shapes
from edgesdk_converters.graph.simplify import EQUAL_DB, equal_limit, first_equal, free_inputs, name_nodes, simplify
from edgesdk_converters.graph.view import GraphView, attribute, captured
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]


def prepare(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    reference: OnnxRunner,
    feed: Sequence[Array],
    *,
    file: str,
) -> tuple[onnx.ModelProto, list[str]]:
    """Shapes pinned, operator set raised, simplified; proved on ``feed`` to compute what the source does.

    Where a model does not survive pinning or raising (a branch for another rate), it goes on without.

    Args:
        model: As the frontend read it; not changed.
        shapes: Static shape of every input, from :func:`~edgesdk_converters.graph.shapes.resolve_shapes`.
        reference: The source.
        feed: An input to compare on.
        file: For messages.

    Returns:
        The float graph that plans belong to, with unique node names; and notes about what was not possible.

    Raises:
        ConversionError: No form of it loads and computes the same (`PassError` names the pass).
    """
    model = run_passes(model, [inputs_pass()])
    begin: list[Pass] = [pin_pass(shapes)]
    attempts: list[tuple[str, Callable[[], onnx.ModelProto]]] = []
    notes: list[str] = []

    def attempt(given_up: str, passes: Sequence[Pass]) -> None:
        attempts.append((given_up, lambda: run_passes(model, passes, notes=notes)))

    attempt("", [*begin, opset_pass(file)])
    attempt("shapes stay dynamic in the file", [opset_pass(file)])
    if opset_of(model) >= QDQ_OPSET:
        attempt("operator set stays as it was", begin)
        attempt("shapes and operator set stay as they were", [])
    prepared, more = first_equal(attempts, reference, feed)
    limit = equal_limit(prepared, reference, feed)
    equal = Equal(reference, feed, limit)
    slim = run_passes(prepared, [simplify_pass(reference, feed, least_db=limit)], equal=equal, notes=more)
    for one in (batch_norm_pass(), canonical_pass(reference, feed)):
        try:
            slim = run_passes(slim, [one], equal=equal, notes=more)
        except PassError as error:  # the model works without it
            more.append(f"left out {one.name!r}: {str(error).splitlines()[0]}")
    final = run_passes(slim, [names_pass()], notes=more)
    return final, [*dict.fromkeys(notes), *more]


def pin_pass(shapes: Mapping[str, Sequence[int]]) -> Pass:
    """Pin the inputs' shapes."""
    return Step(name="pin shapes", run=lambda model: (pin_shapes(model, shapes), ()), ensures=(STATIC_SHAPES,))


def opset_pass(file: str) -> Pass:
    """Raise the operator set."""
    return Step(
        name="raise opset",
        run=lambda model: raise_opset(model, file=file),
        requires=(opset_at_least(1), SORTED),
        ensures=(opset_at_least(QDQ_OPSET),),
    )


def simplify_pass(reference: OnnxRunner, feed: Sequence[Array], *, least_db: float = EQUAL_DB) -> Pass:
    """Fold constants and shape arithmetic."""
    return Step(
        name="simplify",
        run=lambda model: simplify(model, reference, [feed], least_db=least_db),
        requires=(ONE_FILE,),
        ensures=(UNIQUE_NAMES, NO_WEIGHT_INPUTS),
    )


def inputs_pass() -> Pass:
    """Take weights out of the inputs, where files of before 2019 list them."""

    def run(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        free_inputs(copy)
        return copy, ()

    return Step(name="free inputs", run=run, ensures=(NO_WEIGHT_INPUTS,))


def names_pass() -> Pass:
    """Give every node a unique name, and weights no place among the inputs."""

    def run(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        name_nodes(model)
        free_inputs(model)
        return model, ()

    return Step(name="name nodes", run=run, ensures=(UNIQUE_NAMES, NO_WEIGHT_INPUTS), in_place=True)


def batch_norm_pass() -> Pass:
    """Fold BatchNormalization into the Conv before it, where onnxslim left one."""
    return Step(name="fold BatchNormalization", run=_fold_batch_norm, requires=(ONE_FILE,), ensures=(NO_BATCH_NORM,))


def _fold_batch_norm(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
    if NO_BATCH_NORM.violation(model) is None:
        return model, ()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    while (pair := next(batch_norm_pairs(view := GraphView(copy)), None)) is not None:
        _fold_one(view, *pair)
    used = {name for node in copy.graph.node for name in (*node.input, *captured(node))}
    used |= {value.name for value in copy.graph.output}
    kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in copy.graph.initializer if t.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy, ()


def _fold_one(view: GraphView, conv: Any, norm: Any) -> None:
    scale, shift, mean, variance = (np.asarray(view.constant(name), np.float64) for name in norm.input[1:5])
    factor = scale / np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))
    weight = np.asarray(view.constant(conv.input[1]))
    start = view.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
    bias = np.zeros(len(factor)) if start is None else np.asarray(start, np.float64)
    folded = (weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1)), (bias - mean) * factor + shift)
    taken = {*view.constants, *view.producer, *view.inputs}
    names = []
    for label, value in zip(("weight", "bias"), folded, strict=True):
        name = f"{norm.output[0]}_{label}"
        while name in taken:
            name += "_"
        view.graph.initializer.append(numpy_helper.from_array(value.astype(weight.dtype), name))
        names.append(name)
    conv.input[1:] = names
    conv.output[0] = norm.output[0]
    view.graph.node.remove(norm)
