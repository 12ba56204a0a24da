"""What it costs to leave a node in float: size and time, estimated from shapes, never measured.

A plan must be the same at every run, so no clock may have a say in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from edgesdk_converters.graph.view import GraphView, static_shapes
from edgesdk_converters.quantize.units import Quantizable

FLOAT_MAC = 1.0
INTEGER_MAC = 0.4
"""Time of an int8 multiplication in that of a float one: 2.2 to 4 times as fast are published for Arm cores (XNNPACK, MLAS)."""
CONVERSION = 4.0
"""Time to quantize or dequantize one element, in multiplications: it is bound by memory."""
EACH = 0.02
"""Cost of any node, so that tiny ones do not come for nothing: fewer float nodes are easier to explain."""


def float_costs(model: onnx.ModelProto, nodes: Sequence[Quantizable]) -> dict[str, float]:
    """Cost of each node in float, in shares: of the model's weights, and of its int8 time.

    Args:
        model: Float, static shapes.
        nodes: The quantizable ones.
    """
    view, shapes = GraphView(model), static_shapes(model)
    by_name = {node.name: node for node in model.graph.node}
    weights = sum(node.weight_elements for node in nodes) or 1
    macs = {node.name: _macs(by_name[node.name], node, shapes) for node in nodes if node.name in by_name}
    total = INTEGER_MAC * sum(macs.values()) + 1.0
    costs = {}
    for node in nodes:
        proto = by_name.get(node.name)
        moved = 0 if proto is None else _elements(proto, view, shapes)
        slower = (FLOAT_MAC - INTEGER_MAC) * macs.get(node.name, 0) + CONVERSION * moved
        costs[node.name] = EACH + node.weight_elements / weights + slower / total
    return costs


def _macs(proto: Any, node: Quantizable, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiplications: weights times the positions they are used at."""
    shape = shapes.get(proto.output[0])
    if shape is None or not node.weight_elements:
        return 0
    if proto.op_type in {"Conv", "ConvTranspose"}:
        source = shape if proto.op_type == "Conv" else shapes.get(proto.input[0], shape)
        return node.weight_elements * math.prod(source[2:]) * source[0]
    # Of a matrix product the last axis is the output channels, whichever way the weights lie (Gemm has transB).
    return node.weight_elements * max(1, math.prod(shape) // max(shape[-1], 1))


def _elements(proto: Any, view: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Elements that cross a border when the node is float among integer neighbours."""
    names = [*(name for name in proto.input if name and name not in view.constants), *proto.output]
    return sum(math.prod(shapes.get(name, ())) for name in names if name in shapes)
