"""What passes require and ensure, as named predicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx

from edgesdk_converters.graph.passes import Condition
from edgesdk_converters.graph.view import GraphView, attribute, captured, inputs_of, shape_of

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
    pair = next(batch_norm_pairs(view), None)
    if pair is None:
        return None
    conv, norm = pair
    return f"node {norm.name or norm.output[0]!r} follows {conv.name or conv.output[0]!r}"


def batch_norm_pairs(view: GraphView) -> Iterator[tuple[Any, Any]]:
    """Conv and the BatchNormalization whose work its weights could do: all constant, nobody else takes the result, not training."""
    for node in view.graph.node:
        if node.op_type != "BatchNormalization" or node.domain not in MAIN or attribute(node, "training_mode", 0):
            continue
        conv = view.producer.get(node.input[0])
        if conv is None or conv.op_type != "Conv" or conv.domain not in MAIN or len([n for n in node.output if n]) > 1:
            continue
        constant = all(name in view.constants for name in (*node.input[1:], *conv.input[1:]) if name)
        if constant and view.only_consumer(conv.output[0]) is not None:
            yield conv, node


def _external(model: onnx.ModelProto) -> str | None:
    outside = (t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    return next((f"{name!r} is kept elsewhere" for name in outside), None)


def weights_of(graph: Any) -> Iterator[tuple[str, str, Any]]:
    """Constant tensors in the order of the nodes that take them, sub-graphs included: node in words, name, tensor."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        words = f"node {node.name or f'{node.op_type}_{index}'!r} ({node.op_type})"
        for name in (*node.input, *captured(node)):
            if name in constants:
                yield words, name, constants.pop(name)
        for item in node.attribute:
            if item.type == onnx.AttributeProto.TENSOR:
                yield words, item.t.name or item.name, item.t
            elif item.type == onnx.AttributeProto.GRAPH:
                yield from weights_of(item.g)
    for name, tensor in constants.items():
        yield "no node", name, tensor


STATIC_SHAPES = Condition("static input shapes", _dynamic)
UNIQUE_NAMES = Condition("unique node names", _same_names)
SORTED = Condition("nodes in order", _order)
NO_WEIGHT_INPUTS = Condition("no weights among the inputs", _weights_as_inputs)
NO_BATCH_NORM = Condition("no BatchNormalization after Conv", _batch_norm)
ONE_FILE = Condition("all weights in the file", _external)
