"""Finds what can be quantized: nodes with the bias and the activation behind them, as the integer kernels take them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.quantize.coverage import Row, coverage
from edgesdk_converters.quantize.recipe import Rule, Scheme

INTEGER: frozenset[Scheme] = frozenset({"w8a8", "w8a16", "w4a8"})
"""Schemes whose activations are integers of ranges known beforehand."""
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_SMALLEST_CLIP = 1e-6
TABLE_ELEMENTS = 1 << 16
"""A smaller table of embeddings is not worth the two operators that an integer one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizable:
    """A node that can be something else than float."""

    name: str
    op_type: str
    weight_elements: int
    """0 where it has no constant weights."""
    is_compute: bool
    """Does the work: convolutions and matrix products. False for what lies between them."""
    schemes: tuple[Scheme, ...]
    """What it can have, ``float`` among them."""


@dataclass(slots=True, kw_only=True)
class Unit:
    """A quantizable node and the nodes behind it that belong to its kernel."""

    node: Any
    row: Row
    info: Quantizable
    data: tuple[int, ...]
    """Operands that are activations or 8-bit constants."""
    bias_add: Any = None
    """Add of a constant per channel behind a MatMul: its bias."""
    activation: Any = None
    """Relu or Clip behind it."""
    outputs: tuple[str, ...] = field(default=())
    """Results that become integer: behind bias and activation."""

    @property
    def nodes(self) -> tuple[Any, ...]:
        """All nodes of it."""
        return tuple(node for node in (self.node, self.bias_add, self.activation) if node is not None)


def find_units(model: onnx.ModelProto) -> list[Unit]:
    """All units in graph order. A node belongs to one at most."""
    view = GraphView(model)
    types = _types(model)
    found: list[Unit] = []
    inside: set[str] = set()
    for node in view.graph.node:
        if node.output and node.output[0] in inside:
            continue
        unit = _unit(view, types, node)
        if unit is not None:
            found.append(unit)
            inside |= {part.output[0] for part in unit.nodes}
    return found


def effective(
    model: onnx.ModelProto, schemes: Mapping[str, Scheme], units: Iterable[Unit] | None = None
) -> dict[str, Scheme]:
    """What the nodes really become: glue that integers do not surround stays float.

    A glue node all of whose operands, or all of whose readers, are float gains nothing and loses a rounding; so do, one after
    the other, its neighbours. Thus what decodes boxes and scores behind the last convolution stays float, and so does a
    normalisation in front of the first.
    """
    units = list(units) if units is not None else find_units(model)
    view = GraphView(model)
    chosen: dict[str, Scheme] = {unit.info.name: schemes.get(unit.info.name, "float") for unit in units}
    maker = {name: unit for unit in units for name in unit.outputs}
    readers: dict[str, list[Unit | None]] = {}
    owner = {id_: unit for unit in units for id_ in (node.output[0] for node in unit.nodes if node.output)}
    for name, nodes in view.consumers.items():
        readers[name] = [owner.get(node.output[0]) if node.output else None for node in nodes]

    dequantized = {node.output[0] for node in view.graph.node if node.op_type == "DequantizeLinear"}

    def integer(unit: Unit | None) -> bool:
        return unit is not None and chosen[unit.info.name] in INTEGER

    changed = True
    while changed:
        changed = False
        for unit in units:
            if unit.info.is_compute or not integer(unit):
                continue
            sources = [n for i in unit.data if (n := unit.node.input[i]) and n not in view.constants]
            taken = [reader for name in unit.outputs for reader in readers.get(name, [])]
            if not any(integer(maker.get(name)) or name in dequantized for name in sources) or not any(
                map(integer, taken)
            ):
                chosen[unit.info.name] = "float"
                changed = True
    return chosen


def met(rule: Rule, nodes: Iterable[Quantizable]) -> list[Quantizable]:
    """The nodes that a rule is for, in order."""
    if rule.op is not None:
        return [node for node in nodes if node.op_type == rule.op]
    every, pattern = list(nodes), rule.nodes or ""
    exact = [node for node in every if node.name == pattern]
    return exact or [node for node in every if fnmatch.fnmatchcase(node.name, pattern)]


def weight_axis(node: Any) -> int:
    """Axis of the output channels in a node's weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1


def bounds(view: GraphView, node: Any) -> tuple[float, float]:
    """Lower and upper clamp of a Relu or Clip with constant bounds."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    low = view.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    high = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))


def _unit(view: GraphView, types: Mapping[str, int], node: Any) -> Unit | None:
    row = coverage().operators.get(node.op_type)
    if row is None or node.domain not in ("", "ai.onnx") or not node.name:
        return None
    count = len(node.input)
    if is_table(view, node):
        return _table(view, node, row)
    data = tuple(range(count)) if row.data == "all" else tuple(i for i in row.data if i < count)
    if not data or all(node.input[i] in view.constants for i in data):
        return None
    if any(types.get(node.input[i], onnx.TensorProto.FLOAT) != onnx.TensorProto.FLOAT for i in data):
        return None
    check = _CONDITIONS.get(node.op_type)
    if check is not None and not check(view, node):
        return None
    elements = 0
    if row.weight is not None and row.weight not in data:
        if count <= row.weight:
            return None
        weight = view.constants.get(node.input[row.weight])
        if weight is None or weight.data_type != onnx.TensorProto.FLOAT:
            return None
        if (
            row.bias is not None
            and count > row.bias
            and node.input[row.bias]
            and node.input[row.bias] not in view.constants
        ):
            return None
        elements = int(np.prod(weight.dims))
    schemes = row.schemes if elements or row.kind == "glue" else tuple(s for s in row.schemes if s in ("w8a8", "w8a16"))
    info = Quantizable(
        name=node.name,
        op_type=node.op_type,
        weight_elements=elements,
        is_compute=row.kind == "compute",
        schemes=(*schemes, "float"),
    )
    unit = Unit(node=node, row=row, info=info, data=data)
    last = node
    if node.op_type == "MatMul" and elements:
        follower = view.only_consumer(last.output[0])
        if follower is not None and follower.op_type == "Add" and _bias_of(view, node, follower) is not None:
            unit.bias_add = last = follower
    if row.fuses:
        follower = view.only_consumer(last.output[0])
        if follower is not None and follower.op_type in _ACTIVATIONS and _clamps(view, follower):
            unit.activation = last = follower
    unit.outputs = tuple(last.output) if last is node else (last.output[0],)
    return unit


def is_table(view: GraphView, node: Any) -> bool:
    """Whether a node looks rows up in a large constant float32 matrix, as embeddings of words are."""
    if node.op_type != "Gather" or attribute(node, "axis", 0) != 0 or node.input[1] in view.constants:
        return False
    table = view.constants.get(node.input[0])
    if table is None or table.data_type != onnx.TensorProto.FLOAT or len(table.dims) != 2:
        return False
    return int(np.prod(table.dims)) >= TABLE_ELEMENTS


def _table(view: GraphView, node: Any, row: Row) -> Unit:
    """Its rows can be integers, each with a scale; there is nothing to compute."""
    info = Quantizable(
        name=node.name,
        op_type=node.op_type,
        weight_elements=int(np.prod(view.constants[node.input[0]].dims)),
        is_compute=True,
        schemes=("w8", "float"),
    )
    return Unit(node=node, row=row, info=info, data=(), outputs=tuple(node.output))


def _bias_of(view: GraphView, node: Any, add: Any) -> int | None:
    """Which operand of an Add is a constant per output channel of the MatMul before it."""
    weight = view.constants[node.input[1]]
    for at in (0, 1):
        value = view.constants.get(add.input[at])
        other = add.input[1 - at]
        if value is not None and other == node.output[0] and value.data_type == onnx.TensorProto.FLOAT:
            dims = list(value.dims)
            if dims == [weight.dims[-1]]:
                return at
    return None


def _clamps(view: GraphView, node: Any) -> bool:
    """Whether a Relu or Clip has constant bounds that leave the real number 0 inside."""
    if any(extra and extra not in view.constants for extra in node.input[1:]):
        return False
    low, high = bounds(view, node)
    return low <= 0 < high and high > _SMALLEST_CLIP


def _conv(view: GraphView, node: Any) -> bool:
    return len(view.constants[node.input[1]].dims) in (3, 4) if node.input[1] in view.constants else False


def _gemm(_: GraphView, node: Any) -> bool:
    return (
        attribute(node, "alpha", 1.0) == 1.0
        and attribute(node, "beta", 1.0) == 1.0
        and not attribute(node, "transA", 0)
    )


def _matmul(view: GraphView, node: Any) -> bool:
    """With constant weights only.

    The products of attention stay float, and with them its Softmax: they are a small part of the work, and in PP-OCR's recognizer
    they are where LiteRT's integers stop being ONNX Runtime's to the last bit.
    """
    weight = view.constants.get(node.input[1])
    return node.input[0] not in view.constants and weight is not None and len(weight.dims) == 2


def _pad(view: GraphView, node: Any) -> bool:
    """Zeros or reflections: any other constant would have to be quantized too."""
    mode = attribute(node, "mode", b"constant")
    if mode == b"reflect":
        return True
    value = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return mode == b"constant" and value is not None and not np.any(value)


def _softmax(view: GraphView, node: Any) -> bool:
    """Over the last axis, as TFLite has it."""
    del view
    return int(attribute(node, "axis", -1)) == -1 or int(attribute(node, "axis", -1)) > 0


def _pool(_: GraphView, node: Any) -> bool:
    return (
        len(attribute(node, "kernel_shape", [])) == 2 and not attribute(node, "ceil_mode", 0) and len(node.output) == 1
    )


def _average(view: GraphView, node: Any) -> bool:
    """TFLite divides by what lies inside the picture."""
    return _pool(view, node) and not (attribute(node, "count_include_pad", 0) and any(attribute(node, "pads", [0])))


def _single_constants(view: GraphView, node: Any) -> bool:
    return _clamps(view, node)


def _resize(_: GraphView, node: Any) -> bool:
    return attribute(node, "mode", b"nearest") in (b"nearest", b"linear")


def _prelu(view: GraphView, node: Any) -> bool:
    return node.input[1] in view.constants


def _both_computed(view: GraphView, node: Any) -> bool:
    """Scaling and shifting by constants stays float: each step in integers would round once more, and cost what it saves."""
    return all(name not in view.constants for name in node.input)


_CONDITIONS: dict[str, Callable[[GraphView, Any], bool]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _both_computed,
    "Sub": _both_computed,
    "Mul": _both_computed,
    "Pad": _pad,
    "Softmax": _softmax,
    "MaxPool": _pool,
    "AveragePool": _average,
    "Clip": _single_constants,
    "Resize": _resize,
    "PRelu": _prelu,
}


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that shape inference knows; int64 arithmetic on shapes is never quantized."""
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    found = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    found.update({tensor.name: int(tensor.data_type) for tensor in inferred.graph.initializer})
    return found
