"""Operators that take integers with their scales beside them (QLinearConv and its kind) as the pairs around a plain operator.

Static quantization in the QOperator format of ONNX Runtime writes them; as pairs they go the road of every quantized graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute

_PLAIN: dict[str, tuple[str, int]] = {
    "QLinearMatMul": ("MatMul", 2), "QLinearAdd": ("Add", 2), "QLinearMul": ("Mul", 2), "QLinearSigmoid": ("Sigmoid", 1),
    "QLinearLeakyRelu": ("LeakyRelu", 1), "QLinearAveragePool": ("AveragePool", 1), "QLinearSoftmax": ("Softmax", 1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", 1), "QLinearReduceMean": ("ReduceMean", 1),
}  # fmt: skip
"""Operator, and how many triples of tensor, scale and zero point it takes before those of its result."""
_KNOWN = frozenset({*_PLAIN, "QLinearConv", "QGemm", "QLinearConcat"})
_OWN = frozenset({"channels_last", "opset"})
"""Attributes that the plain operators do not have."""
_SOFTMAX_AXIS = 13
"""Opset from which Softmax looks along one axis."""


def pair_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with DequantizeLinear, operator, QuantizeLinear in their place; the model itself where there are none."""
    if not any(node.op_type in _KNOWN for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    writer = _Writer(copy)
    nodes = [made for node in copy.graph.node for made in writer.written(node)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


class _Writer:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._view = GraphView(model)
        self._made: list[Any] = []

    def written(self, node: Any) -> list[Any]:
        """The nodes for one; itself where it is none of them, or says what pairs cannot."""
        flat = node.op_type == "QLinearSoftmax" and attribute(node, "opset", 1) < _SOFTMAX_AXIS
        if node.op_type not in _KNOWN or attribute(node, "channels_last", 0) or flat:
            return [node]
        self._made = []
        inputs = list(node.input)
        if node.op_type == "QLinearConcat":
            op, result = "Concat", inputs[:2]
            operands = [self._pair(node, inputs[at : at + 3]) for at in range(2, len(inputs), 3)]
        elif node.op_type in _PLAIN:
            op, count = _PLAIN[node.op_type]
            axis = -1 if op == "MatMul" else 1
            operands = [self._pair(node, inputs[3 * at : 3 * at + 3], axis if at else 1) for at in range(count)]
            result = inputs[3 * count : 3 * count + 2]
        else:
            op = "Conv" if node.op_type == "QLinearConv" else "Gemm"
            channels = 0 if op == "Conv" or attribute(node, "transB", 0) else 1
            operands = [self._pair(node, inputs[:3]), self._pair(node, inputs[3:6], channels)]
            bias, result = (inputs[8:9], inputs[6:8]) if op == "Conv" else (inputs[6:7], inputs[7:9])
            if bias and bias[0]:
                scale = self._product(node, inputs[1], inputs[4])
                if scale is None:
                    return [node]
                operands.append(self._pair(node, [bias[0], scale], 0))
        kept = [item for item in node.attribute if item.name not in _OWN]
        float_result = len(result) < 2 or not result[0]
        made = node.output[0] if float_result else f"{node.output[0]}_float"
        plain = helper.make_node(op, operands, [made], node.name or node.output[0])
        plain.attribute.extend(kept)
        self._made.append(plain)
        if not float_result:
            parameters = [self._scalar(name) for name in result]
            name = f"{node.output[0]}_QuantizeLinear"
            self._made.append(helper.make_node("QuantizeLinear", [made, *parameters], [node.output[0]], name))
        return self._made

    def _pair(self, node: Any, triple: Sequence[str], axis: int = 1) -> str:
        name = f"{node.output[0]}_{len(self._made)}_float"
        parameters = [self._scalar(item) for item in triple[1:] if item]
        made = helper.make_node("DequantizeLinear", [triple[0], *parameters], [name], f"{name}_node", axis=axis)
        self._made.append(made)
        return name

    def _scalar(self, name: str) -> str:
        """A parameter of one element without axes: with one it would say that the tensor has one channel."""
        value = self._view.constant(name)
        if value is None or value.ndim == 0 or value.size != 1:
            return name
        return self._add(f"{name}_scalar", value.reshape(()))

    def _product(self, node: Any, data: str, weights: str) -> str | None:
        first, second = self._view.constant(data), self._view.constant(weights)
        if first is None or second is None:
            return None
        product = np.asarray(first.reshape(-1)[0] * second.reshape(-1), np.float32)
        return self._add(f"{node.output[0]}_bias_scale", product if product.size > 1 else product.reshape(()))

    def _add(self, name: str, value: Any) -> str:
        if not any(tensor.name == name for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        return name
