"""Puts other operators in the place of those that no family lowers: by a spelling of ours, or ONNX's own function body."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx
from onnx import helper, inliner, numpy_helper

from edgesdk.errors import NodeProblem
from edgesdk_converters.tflite.lower import importer
from edgesdk_converters.tflite.lower.folding import fold, proto
from edgesdk_converters.tflite.lower.ir import Graph, Info, Node
from edgesdk_converters.tflite.lower.problems import MALFORMED, Refusal, malformed
from edgesdk_converters.tflite.lower.registry import rule_of
from edgesdk_converters.tflite.lower.sketch import OPSET, Sketch, spelling_of

Key = tuple[str, str]
"""Name and operator of a node."""
_DEPTH = 3
_UNINFERRED = frozenset({"GroupNormalization"})
"""Functions of ONNX whose shapes its inference does not know."""
_ROUNDS = 6
"""Of folding and inferring a piece, each of which gives the other something to work with."""
_SMALL = 1024
_NEVER = frozenset(
    {
        "RandomUniformLike",
        "RandomNormalLike",
        "If",
        "Loop",
        "Scan",
        "SequenceMap",
        "Bernoulli",
        "Range",
        "MeanVarianceNormalization",
    }
)


def expandable(node: Node) -> bool:
    """Whether there is something to put in the node's place."""
    if node.op_type in _NEVER:
        return False
    return spelling_of(node.op_type, node.domain) is not None or (_has_function(node.op_type, node.domain))


def expand(graph: Graph, refused: frozenset[Key] = frozenset()) -> list[NodeProblem]:
    """Expand, in place, the nodes without a family or with an output of unknown shape, and those that families refused.

    Returns:
        Nodes whose spelling refused them; they stay in the graph.
    """
    problems: list[NodeProblem] = []
    made: list[Node] = []
    for node in graph.nodes:
        made += _expanded(graph, node, refused, problems, ())
    graph.nodes = made
    return problems


def _expanded(
    graph: Graph, node: Node, refused: frozenset[Key], problems: list[NodeProblem], within: tuple[str, ...]
) -> Sequence[Node]:
    # Within an expansion a shape may still come with the next round; a node of the model has had its chance.
    known = bool(within) or node.op_type not in _UNINFERRED or all(n in graph.infos for n in node.outputs if n)
    wanted = rule_of(node.op_type, node.domain) is None or not known or (node.name, node.op_type) in refused
    ready = all(not name or name in graph.infos for name in node.inputs)
    # An operator within its own expansion is one that its family has refused for another reason: no spelling helps it.
    new = node.op_type not in within and len(within) < _DEPTH
    if not (wanted and ready and new and expandable(node)):
        return [node]
    spelling = spelling_of(node.op_type, node.domain)
    try:
        if spelling is not None:
            sketch = Sketch(graph, node)
            spelling(sketch)
            graph.infos.update(sketch.infos)
            nodes, opset = sketch.nodes, OPSET
        else:
            nodes, opset = _function(graph, node), graph.opset
    except (Refusal, *MALFORMED) as error:
        refusal = error if isinstance(error, Refusal) else malformed(error)
        problems.append(NodeProblem(node.name, node.op_type, refusal.reason, refusal.fix))
        return [node]
    return _settled(graph, node, nodes, opset, refused, problems, (*within, node.op_type))


def _settled(
    graph: Graph,
    whole: Node,
    nodes: list[Node],
    opset: int,
    refused: frozenset[Key],
    problems: list[NodeProblem],
    within: tuple[str, ...],
) -> list[Node]:
    """Fold, infer and expand the new nodes until nothing changes; what they make gets shapes in the graph."""
    infos = {name: graph.infos[name] for name in whole.inputs if name}
    infos |= {
        name: graph.infos[name]
        for node in nodes
        for name in (*node.inputs, *node.outputs)
        if name in graph.infos and name not in whole.outputs
    }
    part = Graph(graph.name, nodes, infos, [], [name for name in whole.outputs if name], opset, graph.taken)
    part.inputs = [name for name in infos if infos[name].data is None]
    for _ in range(_ROUNDS):
        before = (len(part.nodes), len(part.infos))
        shapes = _inferred(part)
        fold(part, shapes)
        for name, (dtype, shape) in shapes.items():
            if name not in part.infos and shape is not None:
                part.infos[name] = Info(name, shape, dtype)
        made: list[Node] = []
        for node in part.nodes:
            made += _expanded(part, node, refused, problems, within)
        part.nodes = made
        if (len(part.nodes), len(part.infos)) == before:
            break
    graph.infos |= part.infos
    return part.nodes


def _inferred(part: Graph) -> importer.Shapes:
    """Types and shapes of a piece of a graph."""
    # What ONNX has no schema for is not there for it: its outputs come from outside, with the shapes that are known.
    nodes = [node for node in part.nodes if node.domain != "edgesdk"]
    made = {name for node in nodes for name in node.outputs}
    constants, inputs, between = [], [], []
    for name, info in part.infos.items():
        if info.data is not None and info.data.size <= _SMALL and info.dtype not in ("int4", "uint4"):
            constants.append(numpy_helper.from_array(info.data, name))
        elif name in made:
            between.append(_value(info))
        else:
            inputs.append(_value(info))
    outputs = [onnx.ValueInfoProto(name=name) for name in part.outputs]
    body = helper.make_graph([proto(node) for node in nodes], "part", inputs, outputs, constants, None, between)
    domains = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", part.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    return importer.infer(helper.make_model(body, opset_imports=imports, ir_version=10))


def _value(info: Info) -> Any:
    return helper.make_tensor_value_info(info.name, importer.elem_type(info.dtype), info.shape)


@cache
def _has_function(op_type: str, domain: str) -> bool:
    return any(
        schema.has_function or schema.has_context_dependent_function
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op_type and schema.domain == domain
    )


def _function(graph: Graph, node: Node) -> list[Node]:
    """The body that the ONNX standard gives for the operator, its tensors renamed so that they collide with nothing."""
    known = [graph.infos[name] for name in dict.fromkeys(node.inputs) if name]
    constants = [
        numpy_helper.from_array(info.data, info.name)
        for info in known
        if info.data is not None and info.dtype not in ("int4", "uint4")
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
    body = helper.make_graph([proto(node)], "one", [_value(info) for info in known], outputs, constants)
    imports = [helper.make_opsetid("", graph.opset)]
    if node.domain:
        imports.append(helper.make_opsetid(node.domain, 1))
    model = helper.make_model(body, opset_imports=imports, ir_version=10)
    try:
        inlined = inliner.inline_selected_functions(
            model, [(node.domain, node.op_type)], exclude=False, inline_schema_functions=True
        )
    except Exception as error:
        reason = "ONNX's own function for it cannot be written out for these inputs"
        raise Refusal(reason, "Give it the inputs that it leaves out, or export what it stands for") from error
    nodes = [importer.node_of(item) for item in inlined.graph.node]
    if any(item.op_type == node.op_type and item.domain == node.domain for item in nodes):
        raise Refusal("there is no TFLite operator for it", "Replace it, or cut the model before it")
    outside = {"", *node.inputs, *node.outputs}
    names = {name for item in nodes for name in (*item.inputs, *item.outputs)} - outside
    sketch = Sketch(graph, node)
    new = {name: sketch.fresh() for name in sorted(names)}
    for item in nodes:
        item.inputs = [new.get(name, name) for name in item.inputs]
        item.outputs = [new.get(name, name) for name in item.outputs]
        item.name = f"{node.name}/{item.op_type}"
    return nodes
