"""Multiplications and additions by constants around convolutions go into their weights.

PP-OCR and other re-parametrised networks put a learned scale and offset behind every convolution and activation.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array, Graph, Node
from edgesdk_converters.tflite.lower.patterns import Rewriter

_OPERATORS = ("Mul", "Add", "Sub", "Div")
_SMALLEST = 1e-3
"""An offset is not divided by less: float32 would lose it."""


def fold_affine(graph: Graph) -> None:
    """Fold until nothing is left to fold, in place."""
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        return
    at = Rewriter(graph)
    for node in list(graph.nodes):
        if node.op_type in _OPERATORS and not node.domain:
            _ = _drop_neutral(at, node) or _into_maker(at, node) or _into_product(at, node)
    for node in list(graph.nodes):
        if node.op_type == "Conv" and not node.domain:
            while _from_input(at, node):
                pass


def _drop_neutral(at: Rewriter, node: Node) -> bool:
    found = at.with_number(node)
    if found is None or found[1] != (1.0 if node.op_type in ("Mul", "Div") else 0.0):
        return False
    source, made = found[0], node.outputs[0]
    if made in at.graph.outputs or at.graph.infos[source].shape != at.graph.infos[made].shape:
        return False
    _bypass(at, node, source)
    return True


def _bypass(at: Rewriter, node: Node, source: str) -> None:
    """Take a node out: who took its output takes ``source``."""
    made = node.outputs[0]
    for taker in at.takers.get(made, []):
        taker.inputs = [source if name == made else name for name in taker.inputs]
    at.replace([node], [])


def _parameter(at: Rewriter, node: Node) -> tuple[str, Array, str] | None:
    """(data, constant, Mul or Add) of a node that scales or shifts, where the shape stays."""
    for data, other in (node.inputs, node.inputs[::-1]):
        constant = at.graph.constant(other)
        if constant is None or at.graph.constant(data) is not None or constant.dtype != np.float32:
            continue
        if at.graph.infos[data].shape != at.graph.infos[node.outputs[0]].shape:
            continue
        if node.op_type in ("Mul", "Add"):
            return data, constant.astype(np.float64), node.op_type
        if data == node.inputs[0] and not (node.op_type == "Div" and np.any(constant == 0)):
            value = constant.astype(np.float64)
            return data, (1 / value if node.op_type == "Div" else -value), "Mul" if node.op_type == "Div" else "Add"
    return None


def _per_channel(constant: Array, shape: tuple[int, ...]) -> Array | None:
    """A constant as one number for each channel (axis 1) of ``shape``; None where it is more than that."""
    if constant.size == 1:
        return np.full(shape[1], constant.reshape(-1)[0])
    full = (1,) * (len(shape) - constant.ndim) + constant.shape
    fits = len(full) == len(shape) and full[1] == shape[1] == constant.size
    return constant.reshape(-1) if fits else None


def _into_maker(at: Rewriter, node: Node) -> bool:
    """Convolution, then scale or offset."""
    parameter = _parameter(at, node)
    if parameter is None:
        return False
    conv = at.maker(parameter[0], "Conv", "ConvTranspose")
    if conv is None or conv.activation != "NONE":
        return False
    weight = at.graph.constant(conv.inputs[1])
    bias = at.graph.constant(conv.input(2)) if conv.input(2) else np.zeros(1)
    values = _per_channel(parameter[1], at.graph.infos[parameter[0]].shape)
    if weight is None or bias is None or values is None or weight.dtype != np.float32:
        return False
    if conv.op_type == "ConvTranspose" and conv.attribute("group", 1) != 1:
        return False
    offset = np.broadcast_to(np.asarray(bias, np.float64), values.shape)
    if parameter[2] == "Mul":
        along = [1] * weight.ndim
        along[0 if conv.op_type == "Conv" else 1] = -1
        weight = weight.astype(np.float64) * values.reshape(along)
        offset = offset * values
    else:
        offset = offset + values
    _set(at, conv, weight, offset)
    conv.outputs = [node.outputs[0]]
    at.replace([node], [])
    return True


def _into_product(at: Rewriter, node: Node) -> bool:
    """A number behind a matrix product (the root of the head size in attention) goes into weights further up."""
    found = at.with_number(node)
    if found is None or node.op_type not in ("Mul", "Div") or node.outputs[0] in at.graph.outputs:
        return False
    if at.graph.infos[found[0]].shape != at.graph.infos[node.outputs[0]].shape or found[1] == 0:
        return False
    factor = found[1] if node.op_type == "Mul" else 1 / found[1]
    name, offset = found[0], None
    while True:
        maker = at.maker(name, "Transpose", "Reshape", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Add")
        if maker is None or maker.activation != "NONE":
            return False
        if maker.op_type == "Add":
            constants = [index for index in (0, 1) if at.graph.constant(maker.inputs[index]) is not None]
            if offset is not None or len(constants) != 1:
                return False
            offset = (maker, constants[0])
            name = maker.inputs[1 - constants[0]]
        elif maker.op_type in ("MatMul", "Gemm") and at.graph.constant(maker.inputs[1]) is not None:
            break
        elif maker.op_type == "Gemm" or (maker.op_type == "MatMul" and offset is not None):
            return False
        else:
            name = maker.inputs[0]
    if maker.op_type == "Gemm" and maker.input(2) and at.graph.constant(maker.inputs[2]) is None:
        return False
    scaled = [(maker, place) for place in (1, 2) if maker.input(place)] + ([offset] if offset else [])
    for owner, place in scaled:
        value = at.graph.constant(owner.inputs[place])
        if value is None or value.dtype != np.float32:
            return False
    for owner, place in scaled:
        value = at.graph.constant(owner.inputs[place])
        assert value is not None
        owner.inputs[place] = at.add(value.astype(np.float64) * factor, f"{owner.inputs[place]}/scaled")
    _bypass(at, node, found[0])
    return True


def _set(at: Rewriter, conv: Node, weight: Array, bias: Array) -> None:
    weights = at.add(weight, f"{conv.name}/weight") if weight.dtype != np.float32 else conv.inputs[1]
    conv.inputs = [conv.inputs[0], weights, at.add(bias, f"{conv.name}/bias")]


def _from_input(at: Rewriter, conv: Node) -> bool:
    """Scale or offset, then convolution: the scale always, the offset where no padding would have to be shifted too."""
    node = at.maker(conv.inputs[0], *_OPERATORS)
    parameter = _parameter(at, node) if node else None
    if node is None or parameter is None:
        return _through_product(at, conv)
    data, constant, kind = parameter
    values = _per_channel(constant, at.graph.infos[data].shape)
    weight = at.graph.constant(conv.inputs[1])
    bias = at.graph.constant(conv.input(2)) if conv.input(2) else np.zeros(1)
    if values is None or weight is None or bias is None or weight.dtype != np.float32:
        return False
    padded = any(conv.attribute("pads") or []) or conv.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    group = int(conv.attribute("group", 1))
    # Channel i of the weights belongs to input channel (group of the output) * inputs per group + i.
    inputs = values.reshape(group, -1).repeat(weight.shape[0] // group, axis=0)
    spread = inputs.reshape(*inputs.shape, *([1] * (weight.ndim - 2)))
    whole = np.broadcast_to(np.asarray(bias, np.float64), weight.shape[:1])
    if kind == "Mul":
        _set(at, conv, weight.astype(np.float64) * spread, whole)
    elif not padded:
        axes = tuple(range(1, weight.ndim))
        _set(at, conv, weight, whole + (weight.astype(np.float64) * spread).sum(axis=axes))
    else:
        return _swap(at, node, data, values)
    conv.inputs[0] = data
    at.replace([node], [])
    return True


def _swap(at: Rewriter, node: Node, data: str, offset: Array) -> bool:
    """Turn x * s + b into (x + b / s) * s in front of a padded convolution, which then takes s."""
    product = at.maker(data, "Mul", "Div")
    parameter = _parameter(at, product) if product else None
    if product is None or parameter is None or parameter[2] != "Mul" or node.op_type not in ("Add", "Sub"):
        return False
    scale = _per_channel(parameter[1], at.graph.infos[data].shape)
    if scale is None or np.abs(scale).min() < _SMALLEST:
        return False
    rank = len(at.graph.infos[data].shape)
    shift = offset / scale
    shape = (1, -1, *([1] * (rank - 2))) if np.ptp(shift) else ()
    constant = at.add((shift if np.ptp(shift) else shift[:1]).reshape(shape), f"{node.name}/shift")
    factor = at.add(parameter[1], f"{product.name}/scale")
    inner, outer = product.outputs[0], node.outputs[0]
    first = Node("Add", node.name, [parameter[0], constant], [inner])
    second = Node("Mul", product.name, [inner, factor], [outer])
    at.replace([product, node], [first, second])
    return True


def _through_product(at: Rewriter, conv: Node) -> bool:
    """A product (a * c) * b, then a convolution: c goes into the weights (the sixth of a HardSigmoid in a squeeze-and-excite block)."""
    product = at.maker(conv.inputs[0], "Mul")
    weight = at.graph.constant(conv.inputs[1])
    if product is None or weight is None or weight.dtype != np.float32:
        return False
    for place, name in enumerate(product.inputs):
        scaled = at.maker(name, "Mul", "Div")
        found = at.with_number(scaled)
        if scaled is None or found is None:
            continue
        if at.graph.infos[found[0]].shape != at.graph.infos[name].shape:
            continue
        factor = found[1] if scaled.op_type == "Mul" else 1 / found[1]
        bias = at.graph.constant(conv.input(2)) if conv.input(2) else np.zeros(weight.shape[0])
        if bias is None:
            return False
        product.inputs[place] = found[0]
        _set(at, conv, weight.astype(np.float64) * factor, np.asarray(bias, np.float64))
        at.replace([scaled], [])
        return True
    return False
