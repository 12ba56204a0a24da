"""Walks over a TFLite graph and has every operator lifted."""

from __future__ import annotations

import onnx
from onnx import helper

from edgesdk.errors import ConversionError
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lift import arithmetic, convolution, moving  # noqa: F401 - they register themselves
from edgesdk_converters.tflite.lift.builder import HANDLERS, Builder, CannotLiftError, Op, model_of, value_info

_LISTED = 12


def lift(content: bytes, *, name: str = "model.tflite") -> onnx.ModelProto:
    """The same computation as ONNX, opset 17.

    Inputs and outputs keep names, shapes and dtypes; what lies between has its channels first where an ONNX operator
    wants them so.

    Args:
        content: A float TFLite file, normalised (:func:`edgesdk_converters.tflite.normalize`).
        name: For messages.

    Raises:
        ModelFormatError: It is no TFLite file, or damaged.
        ConversionError: It has operators with no counterpart; all of them are listed.
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
    for index in inputs:
        builder.set_plain(index, builder.claim(builder.name(index)))
    reserved = {index: builder.claim(builder.name(index)) for index in outputs if index not in inputs}
    problems = []
    for number, operator in enumerate(graph.operators):
        op = Op(
            fb.code_name(fb.code_of(model, operator)),
            tuple(fb.ids(operator.inputs)),
            tuple(fb.ids(operator.outputs)),
            operator.builtinOptions if operator.builtinOptions is not None else operator.builtinOptions2,
        )
        try:
            if op.kind not in HANDLERS:
                raise CannotLiftError("has no counterpart here")  # noqa: TRY301 - collected with those of the handlers
            HANDLERS[op.kind](builder, op)
        except CannotLiftError as error:
            problems.append(f"{op.kind} (operator {number}): {error}")
            for index in op.outputs:  # so that its readers are not reported, too
                builder.set_plain(index, builder.name(index))
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ConversionError(
            "\n  ".join((f"{name}: {len(problems)} operators cannot be written as ONNX:", *problems[:_LISTED], *more))
            + "\nIt can be run as it is, but not quantized."
        )
    for index, wanted in reserved.items():
        builder.nodes.append(helper.make_node("Identity", [builder.plain(index)], [wanted], f"{wanted}_Identity"))
    made = helper.make_graph(
        builder.nodes,
        "lifted",
        [value_info(builder.name(i), builder.dtype(i), builder.shape(i)) for i in inputs],
        [value_info(reserved[i], builder.dtype(i), builder.shape(i)) for i in outputs if i in reserved],
        list(builder.initializers.values()),
    )
    return model_of(made)
