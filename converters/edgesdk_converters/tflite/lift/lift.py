"""Walks over a TFLite graph and has every operator lifted."""

from __future__ import annotations

import math
from typing import Any

import onnx
from onnx import helper

from edgesdk.errors import ConversionError
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lift import arithmetic, convolution, moving  # noqa: F401 - they register themselves
from edgesdk_converters.tflite.lift.builder import HANDLERS, Builder, CannotLiftError, Op, model_of, value_info

_LISTED = 12
_LEAST_DB = 40.0
"""What is lifted wrongly is far below; two runtimes' rounding is above."""


def lift(content: bytes, *, name: str = "model.tflite") -> onnx.ModelProto:
    """The same computation as ONNX, opset 17.

    Inputs and outputs keep names, shapes and dtypes; what lies between has its channels first where an ONNX operator
    wants them so.

    Args:
        content: A float TFLite file, normalised (:func:`edgesdk_converters.tflite.normalize`).
        name: For messages.

    Raises:
        ModelFormatError: It is no TFLite file, or damaged.
        ConversionError: It has operators with no counterpart (all of them are listed), or the graph does not compute what the file does.
    """
    model = fb.read(content, name=name)
    if len(model.subgraphs) > 1:
        raise ConversionError(
            f"{name}: has {len(model.subgraphs)} subgraphs (control flow or variables), which ONNX is not made of here. "
            "It can be run as it is; export a model without them to have it quantized."
        )
    graph = model.subgraphs[0]
    builder = Builder(model)
    inputs, outputs = fb.ids(graph.inputs), fb.ids(graph.outputs)
    if len({*inputs, *outputs}) < len(inputs) + len(outputs):
        raise ConversionError(
            f"{name}: one tensor is an input or output twice, which ONNX has no word for. It can be run as it is; export the model with "
            "a copy (Identity) in between to have it quantized."
        )
    taken = {index: builder.claim(builder.name(index)) for index in inputs}
    for index in inputs:
        builder.set_plain(index, taken[index])
    reserved = {index: builder.claim(builder.name(index)) for index in outputs}
    problems = _lift_operators(builder, model)
    ends = {}
    for index, wanted in reserved.items():
        try:
            ends[wanted] = builder.plain(index)
        except ValueError as error:
            problems.append(f"output {wanted!r}: {error}")
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ConversionError(
            "\n  ".join((f"{name}: {len(problems)} operators cannot be written as ONNX:", *problems[:_LISTED], *more))
            + "\nIt can be run as it is, but not quantized."
        )
    for wanted, made_by in ends.items():
        builder.nodes.append(helper.make_node("Identity", [made_by], [wanted], f"{wanted}_Identity"))
    made = model_of(
        helper.make_graph(
            builder.nodes,
            "lifted",
            [value_info(taken[i], builder.dtype(i), builder.shape(i)) for i in inputs],
            [value_info(reserved[i], builder.dtype(i), builder.shape(i)) for i in outputs],
            list(builder.initializers.values()),
        )
    )
    _prove(made, content, name)
    return made


def _lift_operators(builder: Builder, model: Any) -> list[str]:
    """One after the other; what is in the way of any."""
    problems = []
    for number, operator in enumerate(model.subgraphs[0].operators):
        op = Op(
            fb.code_name(fb.code_of(model, operator)),
            tuple(fb.ids(operator.inputs)),
            tuple(fb.ids(operator.outputs)),
            operator.builtinOptions if operator.builtinOptions is not None else operator.builtinOptions2,
        )
        try:
            if op.kind not in HANDLERS:
                raise CannotLiftError("has no counterpart here")
            HANDLERS[op.kind](builder, op)
        except (ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
            # CannotLiftError, or what a file that contradicts itself makes numpy raise.
            said = " ".join(str(error).split())[:200] or type(error).__name__
            problems.append(f"{op.kind} (operator {number}): {said}")
            for index in op.outputs:  # so that its readers are not reported, too
                if index >= 0:
                    builder.set_plain(index, builder.name(index))
    return problems


def _prove(made: onnx.ModelProto, content: bytes, name: str) -> None:
    """Run the lifted graph and the file on noise: everything later is compared with the graph.

    Raises:
        ConversionError: They differ.
    """
    from edgesdk_converters.graph.simplify import closeness, random_feed
    from edgesdk_converters.graph.view import dtype_of, shape_of
    from edgesdk_converters.runner import OnnxRunner
    from edgesdk_converters.variants.open import open_tflite

    runner = OnnxRunner(made, name=name)
    sizes = [tuple(size if isinstance(size, int) else 1 for size in shape_of(value)) for value in made.graph.input]
    feed = random_feed([(size, dtype_of(value), None) for size, value in zip(sizes, made.graph.input, strict=True)])
    session = open_tflite(content, name, (), ())  # results live as long as it does
    for wanted, a, b in zip(runner.outputs, session.run(feed), runner.run(feed), strict=True):
        distance = closeness(a, b) if a.shape == b.shape and a.dtype == b.dtype else -math.inf
        if distance < _LEAST_DB:
            raise ConversionError(
                f"{name}: written as ONNX, output {wanted!r} differs from the file's own ({distance:.1f} dB, expected {_LEAST_DB:.0f} or "
                "more). That is a fault of edgesdk, not of the model: please report it. It can be run as it is, but not quantized."
            )
