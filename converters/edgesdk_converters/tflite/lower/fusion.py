"""Rewrites of the ONNX graph before it is lowered: BatchNormalization and activations go into what feeds them."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.affine import fold_affine
from edgesdk_converters.tflite.lower.ir import Activation, Array, Graph, Info, Node
from edgesdk_converters.tflite.lower.patterns import rewrite
from edgesdk_converters.tflite.lower.registry import rule_of


def fuse(graph: Graph) -> None:
    """All rewrites, in place; none where shapes are missing, for such a graph is refused anyway."""
    if not complete(graph):
        return
    drop_identities(graph)
    fold_batch_norm(graph)
    rewrite(graph)
    fold_affine(graph)
    fold_pads(graph)
    fuse_bias(graph)
    fuse_activations(graph)
    drop_dead(graph)


def simplify(graph: Graph) -> None:
    """Those of the rewrites whose result is plain ONNX, in place."""
    if not complete(graph):
        return
    drop_identities(graph)
    fold_batch_norm(graph)
    rewrite(graph, to_onnx=True)
    fold_affine(graph)
    fuse_bias(graph, op_types=("Conv", "ConvTranspose"))
    drop_dead(graph)


def complete(graph: Graph) -> bool:
    """Whether every tensor's shape is known."""
    return all(not name or name in graph.infos for node in graph.nodes for name in (*node.inputs, *node.outputs[:1]))


def drop_identities(graph: Graph) -> None:
    """Identity and Dropout (inference) vanish; a graph output keeps its node where it cannot be renamed."""
    replace: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = [replace.get(name, name) for name in node.inputs]
        nothing = not node.domain and (node.op_type == "Identity" or _off(graph, node))
        masked = any(name in graph.infos for name in node.outputs[1:])
        if nothing and not masked and node.outputs[0] not in graph.outputs:
            replace[node.outputs[0]] = node.inputs[0]
            continue
        kept.append(node)
    graph.nodes = kept


def _off(graph: Graph, node: Node) -> bool:
    """Whether this is a Dropout that does nothing."""
    training = graph.constant(node.input(2)) if node.input(2) else np.zeros(())
    return node.op_type == "Dropout" and training is not None and not np.any(training)


def fold_batch_norm(graph: Graph) -> None:
    """BatchNormalization after a convolution whose weights are constant changes these weights instead."""
    producers, consumers = graph.producers(), graph.consumers()
    gone: list[Node] = []
    for node in graph.nodes:
        if node.op_type != "BatchNormalization" or node.domain or node.attribute("training_mode", 0):
            continue
        conv = producers.get(node.inputs[0])
        parameters = [graph.constant(name) for name in node.inputs[1:5]]
        if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or len(consumers[node.inputs[0]]) != 1:
            continue
        weight = graph.constant(conv.inputs[1])
        bias = graph.constant(conv.input(2)) if conv.input(2) else np.zeros(1, np.float32)
        if weight is None or bias is None or any(p is None for p in parameters):
            continue
        if conv.op_type == "ConvTranspose" and conv.attribute("group", 1) != 1:
            continue
        scale, offset, mean, variance = (np.asarray(p, np.float64) for p in parameters)
        gain = scale / np.sqrt(variance + node.attribute("epsilon", 1e-5))
        axis = 0 if conv.op_type == "Conv" else 1
        along = [1] * weight.ndim
        along[axis] = -1
        conv.inputs = [
            conv.inputs[0],
            _add(graph, f"{conv.name}/folded_weight", weight * gain.reshape(along)),
            _add(graph, f"{conv.name}/folded_bias", (bias - mean) * gain + offset),
        ]
        conv.outputs = [node.outputs[0]]
        producers[node.outputs[0]] = conv
        gone.append(node)
    graph.remove(gone)


def fuse_bias(graph: Graph, op_types: tuple[str, ...] = ("MatMul", "Conv", "ConvTranspose")) -> None:
    """A constant vector added to a MatMul with constant weights is its bias; to a convolution without one likewise."""
    producers, consumers = graph.producers(), graph.consumers()
    gone: list[Node] = []
    for node in graph.nodes:
        if node.op_type != "Add" or node.domain:
            continue
        for data, other in (node.inputs, node.inputs[::-1]):
            maker, bias = producers.get(data), graph.constant(other)
            if maker is None or bias is None or maker.domain or maker.input(2) or len(consumers[data]) != 1:
                continue
            if maker.op_type not in op_types or graph.infos[node.outputs[0]].shape != graph.infos[data].shape:
                continue
            weight = graph.constant(maker.inputs[1])
            rank = graph.infos[data].rank
            axis = rank - 1 if maker.op_type == "MatMul" else 1
            full = (1,) * (rank - bias.ndim) + bias.shape
            count = graph.infos[data].shape[axis]
            if weight is None or bias.size != count or full[axis] != count or bias.dtype != np.float32:
                continue
            if maker.op_type == "MatMul" and (weight.ndim != 2 or len(graph.infos[maker.inputs[0]].shape) < 2):
                continue
            maker.inputs = [*maker.inputs[:2], _add(graph, f"{maker.name}/bias", bias.reshape(-1))]
            maker.outputs = [node.outputs[0]]
            producers[node.outputs[0]] = maker
            gone.append(node)
            break
    graph.remove(gone)


def fold_pads(graph: Graph) -> None:
    """A zero Pad over the spatial axes in front of a convolution becomes its padding."""
    producers, consumers = graph.producers(), graph.consumers()
    gone: list[Node] = []
    for node in graph.nodes:
        pad = producers.get(node.inputs[0]) if node.op_type == "Conv" and not node.domain else None
        if pad is None or pad.op_type != "Pad" or len(consumers[pad.outputs[0]]) != 1:
            continue
        amounts, rank = pad_amounts(graph, pad), graph.infos[node.inputs[0]].rank
        if amounts is None or pad.attribute("mode", "constant") != "constant" or node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):  # fmt: skip
            continue
        value = graph.constant(pad.input(2)) if pad.input(2) else np.zeros(1)
        if value is None or np.any(value != 0) or any(amounts[:2]) or any(amounts[rank : rank + 2]) or min(amounts) < 0:
            continue
        own = node.attribute("pads") or [0] * (2 * (rank - 2))
        node.attributes["pads"] = [a + b for a, b in zip(own, [*amounts[2:rank], *amounts[rank + 2 :]], strict=True)]
        node.attributes["auto_pad"] = "NOTSET"
        node.inputs[0] = pad.inputs[0]
        gone.append(pad)
    graph.remove(gone)


def pad_amounts(graph: Graph, node: Node) -> list[int] | None:
    """What an ONNX Pad adds, before then after, for every axis; None where it is computed."""
    amounts, rank = graph.constant(node.input(1)), graph.infos[node.inputs[0]].rank
    if amounts is None:
        return None
    axes = list(range(rank))
    if node.input(3):
        chosen = graph.constant(node.input(3))
        if chosen is None:
            return None
        axes = [int(axis) % rank for axis in chosen.reshape(-1)]
    full = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        full[axis] = int(amounts[place])
        full[axis + rank] = int(amounts[place + len(axes)])
    return full


def activation_of(graph: Graph, node: Node) -> Activation | None:
    """The fused activation that a node is, if it is one: Relu, Clip(0, 6), Clip(-1, 1)."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return "RELU"
    if node.op_type == "Clip":
        low = graph.constant(node.input(1)) if node.input(1) else np.float32(-np.inf)
        high = graph.constant(node.input(2)) if node.input(2) else np.float32(np.inf)
        if low is None or high is None:
            return None
        bounds = (float(np.asarray(low).reshape(-1)[0]), float(np.asarray(high).reshape(-1)[0]))
        known: dict[tuple[float, float], Activation] = {
            (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, float("inf")): "RELU"
        }  # fmt: skip
        return known.get(bounds, "RELU" if bounds[0] == 0.0 and bounds[1] > 3e38 else None)
    return None


def fuse_activations(graph: Graph) -> None:
    """An activation that alone takes the output of an operator with a fused activation goes into it."""
    producers, consumers = graph.producers(), graph.consumers()
    gone: list[Node] = []
    for node in graph.nodes:
        activation = activation_of(graph, node)
        maker = producers.get(node.inputs[0]) if activation else None
        if activation is None or maker is None or maker.activation != "NONE" or len(maker.outputs) != 1:
            continue
        rule = rule_of(maker.op_type, maker.domain)
        info = graph.infos.get(node.outputs[0])
        if rule is None or not rule.fuses or info is None or info.dtype != "float32":
            continue
        if len(consumers[node.inputs[0]]) != 1:
            continue
        maker.activation = activation
        maker.outputs = [node.outputs[0]]
        producers[node.outputs[0]] = maker
        gone.append(node)
    graph.remove(gone)


def drop_dead(graph: Graph) -> None:
    """Nodes that nobody waits for."""
    wanted = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(name in wanted for name in node.outputs if name):
            kept.append(node)
            wanted.update(name for name in node.inputs if name)
    graph.nodes = kept[::-1]


def _add(graph: Graph, name: str, value: Array) -> str:
    while name in graph.infos:
        name += "_"
    data = np.asarray(value, np.float32)
    graph.infos[name] = Info(name, tuple(data.shape), "float32", data)
    return name
