"""What passes require and ensure, as named predicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgesdk_converters.graph.passes import Condition
from edgesdk_converters.graph.view import GraphView, captured, shape_of

MAIN = ("", "ai.onnx")
"""Names of ONNX's own operator set."""
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operator set; 0 where the model imports none."""
    return next((int(opset.version) for opset in model.opset_import if opset.domain in MAIN), 0)


def opset_at_least(version: int) -> Condition:
    """The operator set is this one or newer."""

    def violation(model: onnx.ModelProto) -> str | None:
        got = opset_of(model)
        return None if got >= version else f"it is {got}"

    return Condition(f"opset >= {version}", violation)


def _dynamic(model: onnx.ModelProto) -> str | None:
    for value in inputs_of(model):
        if not all(isinstance(size, int) for size in shape_of(value)):
            return f"input {value.name!r} is {['?' if d is None else d for d in shape_of(value)]}"
    return None


def _same_names(model: onnx.ModelProto) -> str | None:
    counts = Counter(node.name for node in model.graph.node)
    return next((f"{count} nodes are called {name!r}" for name, count in counts.items() if count > 1 or not name), None)


def _order(model: onnx.ModelProto) -> str | None:
    made = {name for node in model.graph.node for name in node.output}
    seen: set[str] = set()
    for node in model.graph.node:
        late = [name for name in (*node.input, *captured(node)) if name in made and name not in seen]
        if late:
            return f"node {node.name or node.op_type!r} takes {late[0]!r}, which a later node makes"
        seen.update(node.output)
    return None


def _weights_as_inputs(model: onnx.ModelProto) -> str | None:
    constants = {tensor.name for tensor in model.graph.initializer}
    return next((f"{value.name!r} is both" for value in model.graph.input if value.name in constants), None)


def _batch_norm(model: onnx.ModelProto) -> str | None:
    view = GraphView(model)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and len([name for name in node.output if name]) == 1:
            maker = view.producer.get(node.input[0])
            constant = all(name in view.constants for name in node.input[1:5])
            if constant and maker is not None and maker.op_type == "Conv" and foldable(view, maker):
                return f"node {node.name or node.output[0]!r} follows {maker.name or maker.output[0]!r}"
    return None


def foldable(view: GraphView, conv: Any) -> bool:
    """Whether a Conv's weights and bias are constant, and nobody but one node takes its result."""
    constant = all(name in view.constants for name in conv.input[1:] if name)
    return constant and view.only_consumer(conv.output[0]) is not None


def _not_finite(model: onnx.ModelProto) -> str | None:
    for taker, name, tensor in weights_of(model.graph):
        array = np.asarray(numpy_helper.to_array(tensor))
        # Infinity is what masks are made of (attention, padding of MaxPool); NaN never is anything.
        if array.dtype.kind == "f" and array.size and np.isnan(array).any():
            count = int(np.isnan(array).sum())
            return f"{taker} takes {name!r}, in which {count} of {array.size} values are NaN"
    return None


def _external(model: onnx.ModelProto) -> str | None:
    outside = (t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    return next((f"{name!r} is kept elsewhere" for name in outside), None)


def inputs_of(model: onnx.ModelProto) -> list[Any]:
    """Graph inputs without the weights that old files list among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def weights_of(graph: Any) -> Iterator[tuple[str, str, Any]]:
    """Constant tensors in the order of the nodes that take them, sub-graphs included: node in words, name, tensor."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        words = f"node {node.name or f'{node.op_type}_{index}'!r} ({node.op_type})"
        for name in (*node.input, *captured(node)):
            if name in constants:
                yield words, name, constants.pop(name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield words, attribute.t.name or attribute.name, attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from weights_of(attribute.g)
    for name, tensor in constants.items():
        yield "no node", name, tensor


STATIC_SHAPES = Condition("static input shapes", _dynamic)
UNIQUE_NAMES = Condition("unique node names", _same_names)
SORTED = Condition("nodes in order", _order)
NO_WEIGHT_INPUTS = Condition("no weights among the inputs", _weights_as_inputs)
NO_BATCH_NORM = Condition("no BatchNormalization after Conv", _batch_norm)
NO_NAN = Condition("no NaN among the weights", _not_finite)
ONE_FILE = Condition("all weights in the file", _external)
