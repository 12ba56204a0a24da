"""One float model in which each node can be quantized by a switch, without building and loading a model per question.

Every quantizable node becomes an ``If``: the float node, or the same node with the quantized weights and rounded operands;
its result is rounded by a second ``If``. ONNX Runtime runs only the side that is asked for: one question costs one inference instead
of building, optimising and loading a graph; the larger the weights, the more that saves.

The arithmetic is float on rounded values; integer kernels decide ties otherwise. That is good enough to rank nodes by; whether
a plan is good enough is asked of its real graph.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_FUSED = frozenset({"Add", "Relu", "Clip"})
"""Bias and activation behind a layer, which make its result."""


class Switchboard:
    """The model with its switches."""

    def __init__(self, base: onnx.ModelProto, quantized: onnx.ModelProto, names: Sequence[str]) -> None:
        """Build and load it.

        Args:
            base: Float model, unique node names.
            quantized: The same with everything quantized as QDQ; nodes keep their names.
            names: Nodes to put a switch on; those whose quantized form is not found get none.
        """
        builder = _Builder(base, quantized, names)
        model = builder.build()
        self.names: tuple[str, ...] = tuple(builder.switched)
        """Nodes with a switch, in graph order."""
        self._runner = OnnxRunner(model, name="switchboard", threads=WORKERS)
        self._on, self._off = np.asarray(True), np.asarray(False)

    def run(self, feed: Sequence[Array], on: Collection[str]) -> list[Array]:
        """Outputs of one inference with the nodes ``on`` quantized, all others in float."""
        return self._runner.run([*feed, *(self._on if name in on else self._off for name in self.names)])


@dataclass(frozen=True, slots=True)
class _Rounding:
    """A QuantizeLinear / DequantizeLinear pair: names of scale and zero point in the quantized graph, and the axis."""

    scale: str
    zero_point: str
    axis: int


class _Builder:
    def __init__(self, base: onnx.ModelProto, quantized: onnx.ModelProto, names: Sequence[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(base)
        self._view = GraphView(base)
        self._quantized = GraphView(quantized)
        self._by_name = {node.name: node for node in quantized.graph.node if node.op_type not in (_Q, _DQ)}
        wanted = set(names)
        self.switched = [node.name for node in base.graph.node if node.name in wanted and self._known(node)]
        self._constants: dict[str, Any] = {}
        self._count = 0

    def build(self) -> onnx.ModelProto:
        """The model."""
        graph = self._model.graph
        nodes: list[Any] = []
        switched = set(self.switched)
        for node in list(graph.node):
            roundings = self._result_roundings(node, switched)
            own = onnx.NodeProto()
            own.CopyFrom(node)
            for index in roundings:
                own.output[index] = f"{node.output[index]}/raw"
            nodes.append(self._choice(node, own) if node.name in switched else own)
            for index, (owner, rounding) in roundings.items():
                nodes.append(self._rounded(node.output[index], owner, rounding))
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        graph.initializer.extend(self._constants.values())
        graph.input.extend(
            helper.make_tensor_value_info(_switch(name), onnx.TensorProto.BOOL, []) for name in self.switched
        )
        return self._model

    def _known(self, node: Any) -> bool:
        other = self._by_name.get(node.name)
        return other is not None and other.op_type == node.op_type and len(other.input) == len(node.input)

    def _result_roundings(self, node: Any, switched: Collection[str]) -> dict[int, tuple[str, _Rounding]]:
        """Results that the quantized graph rounds: index -> (the node whose switch it is, how)."""
        other = self._by_name.get(node.name)
        if other is None or len(other.output) != len(node.output):
            return {}
        owner = self._owner(node, switched)
        if owner is None:
            return {}
        found = {}
        for index, name in enumerate(other.output):
            pairs = [reader for reader in self._quantized.consumers.get(name, []) if reader.op_type == _Q]
            if pairs:
                found[index] = (owner, _rounding(pairs[0]))
        return found

    def _owner(self, node: Any, switched: Collection[str]) -> str | None:
        """The switched node that a result belongs to: its maker, or the one before an activation or bias that was fused."""
        seen = 0
        while node is not None and seen < 3:
            if node.name in switched:
                return str(node.name)
            if node.op_type not in _FUSED:
                return None  # a layer without a switch of its own: its result stays as it is
            computed = [name for name in node.input if name and name not in self._view.constants]
            node = self._view.producer.get(computed[0]) if len(computed) == 1 else None
            seen += 1
        return None

    def _choice(self, node: Any, plain: Any) -> Any:
        """``If``: the node as it is, or with quantized operands."""
        other = self._by_name[node.name]
        inside: list[Any] = []
        quantized, untouched = onnx.NodeProto(), onnx.NodeProto()
        quantized.CopyFrom(plain)
        untouched.CopyFrom(plain)
        for index, name in enumerate(other.input):
            if name and node.input[index]:
                quantized.input[index] = self._operand(node.input[index], name, inside)
        for index, name in enumerate(plain.output):
            quantized.output[index] = f"{name}/quantized"
            untouched.output[index] = f"{name}/float"
        quantized.name, untouched.name = f"{node.name}/quantized", f"{node.name}/float"
        return helper.make_node(
            "If",
            [_switch(node.name)],
            list(plain.output),
            f"{node.name}/if",
            then_branch=_branch([*inside, quantized], quantized.output),
            else_branch=_branch([untouched], untouched.output),
        )

    def _operand(self, mine: str, theirs: str, inside: list[Any]) -> str:
        """What the quantized node reads in place of ``mine``; nodes that round it go ``inside``."""
        chain: list[_Rounding] = []
        name = theirs
        while (maker := self._quantized.producer.get(name)) is not None and maker.op_type == _DQ:
            source = maker.input[0]
            if source in self._quantized.constants:
                return self._dequantized(maker)
            before = self._quantized.producer.get(source)
            if before is None or before.op_type != _Q:
                break
            chain.insert(0, _rounding(before))
            name = before.input[0]
        value = self._quantized.constants.get(name)
        if value is not None and mine in self._view.constants and value.data_type == onnx.TensorProto.FLOAT:
            # A bias that was corrected, or weights that were changed, but stay float.
            mine = self._put(numpy_helper.to_array(value))
        for rounding in chain:
            mine = self._round(mine, rounding, inside)
        return mine

    def _rounded(self, name: str, owner: str, rounding: _Rounding) -> Any:
        """``If``: a result rounded, or as it is."""
        inside: list[Any] = []
        done = self._round(f"{name}/raw", rounding, inside)
        copy = helper.make_node("Identity", [f"{name}/raw"], [f"{name}/copied"])
        return helper.make_node(
            "If",
            [_switch(owner)],
            [name],
            f"{name}/round",
            then_branch=_branch(inside, [done]),
            else_branch=_branch([copy], copy.output),
        )

    def _round(self, name: str, rounding: _Rounding, inside: list[Any]) -> str:
        self._count += 1
        parameters = [self._take(rounding.scale)]
        if rounding.zero_point:
            parameters.append(self._take(rounding.zero_point))
        integer, real = f"{name}/q{self._count}", f"{name}/dq{self._count}"
        inside.append(helper.make_node(_Q, [name, *parameters], [integer], axis=rounding.axis))
        inside.append(helper.make_node(_DQ, [integer, *parameters], [real], axis=rounding.axis))
        return real

    def _dequantized(self, node: Any) -> str:
        """Constant integers as the float values that they stand for."""
        q, scale = self._quantized.constant(node.input[0]), self._quantized.constant(node.input[1])
        zero = self._quantized.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        assert q is not None
        assert scale is not None
        shape = [1] * q.ndim
        if scale.size > 1:
            shape[int(attribute(node, "axis", 1))] = -1
        shift = 0 if zero is None else zero.astype(np.float32).reshape(shape if zero.size > 1 else [1] * q.ndim)
        return self._put((q.astype(np.float32) - shift) * scale.reshape(shape if scale.size > 1 else [1] * q.ndim))

    def _take(self, name: str) -> str:
        """A constant of the quantized graph, under a name that is free here."""
        mine = f"switchboard/{name}"
        if mine not in self._constants:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(self._quantized.constants[name])
            tensor.name = mine
            self._constants[mine] = tensor
        return mine

    def _put(self, value: Array) -> str:
        self._count += 1
        name = f"switchboard/constant{self._count}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        return name


def _rounding(node: Any) -> _Rounding:
    zero = node.input[2] if len(node.input) > 2 else ""
    return _Rounding(node.input[1], zero, int(attribute(node, "axis", 1)))


def _switch(name: str) -> str:
    return f"switch/{name}"


def _branch(nodes: Sequence[Any], outputs: Sequence[str]) -> onnx.GraphProto:
    types = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    return helper.make_graph(nodes, "branch", [], types)
