"""Bytes at the input: a picture that is moved about before DequantizeLinear says what its integers mean."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk_converters.tflite.lower.ir import Graph, Info, Node, Operator, Quantization, Tensor

_MOVING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


def chains(graph: Graph) -> list[tuple[Node, list[Node], str]]:
    """DequantizeLinear nodes that take a uint8 input of the graph by way of nodes that only move values.

    Returns:
        The node, those before it (nearest first), and the input.
    """
    producers, consumers = graph.producers(), graph.consumers()
    found = []
    for node in graph.nodes:
        if node.op_type != "DequantizeLinear":
            continue
        way: list[Node] = []
        name = node.inputs[0]
        while len(consumers.get(name, [])) == 1 and (maker := producers.get(name)) is not None:
            if maker.op_type not in _MOVING:
                break
            way.append(maker)
            name = maker.inputs[0]
        if way and name in graph.inputs and graph.infos[name].dtype == "uint8":
            found.append((node, way, name))
    return found


def take_int8(graph: Graph, way: Sequence[Node], name: str, outside: Quantization, inside: Quantization) -> Node:
    """Make everything between a uint8 input and its DequantizeLinear int8; the node that requantizes the input.

    Args:
        graph: Changed in place.
        way: Nodes that only move values, the last one first; what the first makes is left to the caller.
        name: The input.
        outside: Its parameters.
        inside: The same for int8.
    """
    info = graph.infos[name]
    info.quantization = outside
    inner = f"{name}_int8"
    graph.infos[inner] = Info(inner, info.shape, "int8", None, inside)
    for node in way[1:]:
        made = graph.infos[node.outputs[0]]
        made.dtype, made.quantization = "int8", inside
    way[-1].inputs[0] = inner
    return Node("Requantize", f"{inner}_Requantize", [name], [inner], domain="edgesdk.quantized")


def dequantize_directly(operators: Sequence[Operator]) -> list[Operator]:
    """DEQUANTIZE takes uint8 as well as int8: where it follows the QUANTIZE between the two, it needs none."""
    bytes_of: dict[int, Tensor] = {}
    for operator in operators:
        source, made = operator.inputs[0], operator.outputs[0]
        if source is None:
            continue
        if operator.code == "QUANTIZE" and (source.dtype, made.dtype) == ("uint8", "int8"):
            bytes_of[id(made)] = source
        elif operator.code == "DEQUANTIZE" and id(source) in bytes_of:
            operator.inputs[0] = bytes_of[id(source)]
    return list(operators)
