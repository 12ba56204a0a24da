"""Stores float32 weights as float16 with a Cast behind them.

Half the size at the float variant's speed: ONNX Runtime folds the Cast when it loads the model. Computing in float16 on a
CPU without such arithmetic would be slower than float32, so inputs, outputs and arithmetic stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_ELEMENTS = 256
"""Smaller constants stay: the Cast node would cost as much as it saves."""
_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_MAKES_REAL = frozenset({"Cast", "DynamicQuantizeLinear"})


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` with its large float32 constants in float16, those in sub-graphs (If, Loop) included.

    Constants with values outside float16's range, and the scales of quantized tensors, stay float32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _halve_graph(copy.graph)
    return copy


def _halve_graph(graph: Any) -> None:
    nodes = list(_all_nodes(graph))
    scales = {name for node in nodes if node.op_type in _QDQ for name in node.input[1:]}
    # Integers made real by Cast and Mul, as weight-only and dynamic quantization do it.
    real = {name for node in nodes if node.op_type in _MAKES_REAL for name in node.output}
    scales |= {
        name for node in nodes if node.op_type == "Mul" and not real.isdisjoint(node.input) for name in node.input
    }
    casts = []
    for tensor in graph.initializer:
        if tensor.name in scales or not _shrink(tensor):
            continue
        name = tensor.name
        tensor.name = f"{name}_half"
        casts.append(_cast(tensor.name, name))
    ordered = list(casts)
    for node in graph.node:
        ordered.append(node)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _halve_graph(attribute.g)
            elif (
                node.op_type == "Constant"
                and attribute.name == "value"
                and node.output[0] not in scales
                and _shrink(attribute.t)
            ):
                name = node.output[0]
                node.output[0] = f"{name}_half"
                ordered.append(_cast(node.output[0], name))
    del graph.node[:]
    graph.node.extend(ordered)


def _cast(source: str, target: str) -> Any:
    return helper.make_node("Cast", [source], [target], f"{target}_Cast", to=TensorProto.FLOAT)


def _shrink(tensor: Any) -> bool:
    if tensor.data_type != TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    if values.size < MIN_ELEMENTS or not bool((np.abs(values) <= np.finfo(np.float16).max).all()):
        return False
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    return True


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)
