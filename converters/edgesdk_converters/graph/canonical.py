"""Writes a float graph the way it is lowered: formulas as one operator, scales and offsets in the convolutions' weights.

Both files profit: every operator that is gone is one that need not be quantized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.graph.conditions import (
    NO_WEIGHT_INPUTS,
    ONE_FILE,
    STATIC_SHAPES,
    UNIQUE_NAMES,
    opset_at_least,
)
from edgesdk_converters.graph.passes import Pass, Step
from edgesdk_converters.graph.simplify import EQUAL_DB, difference, name_nodes
from edgesdk_converters.runner import OnnxRunner

if TYPE_CHECKING:
    from edgesdk_converters.tflite.lower.ir import Graph

Array = NDArray[Any]
HARD_SWISH_OPSET = 14


def canonical_pass(reference: OnnxRunner, feed: Sequence[Array]) -> Pass:
    """See `canonical`; where the result is not equal enough on ``feed`` the graph stays, with a note."""

    def run(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        if any(condition.violation(model) for condition in (STATIC_SHAPES, opset_at_least(HARD_SWISH_OPSET))):
            return model, ()
        folded = canonical(model)
        if folded is model:
            return model, ()
        distance = difference(folded, reference, [feed])
        if distance < EQUAL_DB:
            return model, [f"scales and offsets stay operators: folded, the result differs ({distance:.1f} dB)"]
        return folded, ()

    return Step(name="fold scales and offsets", run=run, requires=(ONE_FILE,), ensures=(NO_WEIGHT_INPUTS, UNIQUE_NAMES))


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with HardSwish as one node and constant scales and offsets inside the convolutions next to them.

    Tensors that are left keep their names. A model that the lowering cannot read (control flow, dynamic shapes) comes back as
    it is.
    """
    from edgesdk_converters.tflite.lower import fusion, importer

    if _quantized(model):
        return model
    graph, problems = importer.read(model, name="model")
    if problems or not graph.nodes:
        return model
    _take_back_spellings(graph, model)
    fusion.simplify(graph)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    inner = made.graph
    kept = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    del inner.node[:], inner.initializer[:], inner.value_info[:], inner.input[:]
    inner.input.extend(value for value in model.graph.input if value.name in graph.inputs)
    for node in graph.nodes:
        attributes: dict[str, Any] = {
            key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for key, value in node.attributes.items()
        }
        inner.node.append(
            helper.make_node(node.op_type, node.inputs, node.outputs, node.name, domain=node.domain, **attributes)
        )
    originals = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, info in graph.infos.items():
        if info.data is not None and name in kept:
            inner.initializer.append(originals.get(name) or numpy_helper.from_array(info.data, name))
    computed = {name for node in graph.nodes for name in node.outputs} - set(graph.outputs)
    inner.value_info.extend(value for name, value in known.items() if name in computed)
    name_nodes(made)  # a rewritten node may have left its name to several
    return made


def _take_back_spellings(graph: Graph, model: onnx.ModelProto) -> None:
    """ONNX has the operators that the lowering spells out for TFLite: they stay one node each."""
    from edgesdk_converters.tflite.lower import importer

    read = {tuple(node.outputs): node for node in graph.nodes}
    nodes = []
    for node in model.graph.node:
        if all(graph.constant(name) is not None for name in node.output if name):
            continue
        known = read.get(tuple(node.output))
        nodes.append(known if known is not None and known.op_type == node.op_type else importer.node_of(node))
    graph.nodes = nodes


def _quantized(model: onnx.ModelProto) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
