"""Chooses scale and zero point of every integer activation, and which tensors share them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.quantize.ranges import Range
from edgesdk_converters.quantize.recipe import Scheme
from edgesdk_converters.quantize.units import Unit, bounds

TINY = 1e-12
"""Smallest scale: a tensor that is always zero has one too."""
Key = tuple[str, int]
"""A tensor as integers of so many bits."""


@dataclass(frozen=True, slots=True)
class Params:
    """How integers stand for real numbers: ``scale * (q - zero_point)``."""

    scale: float
    """Exactly representable in float32."""
    zero_point: int
    bits: int
    """8: uint8, asymmetric. 16: int16, symmetric, which is what TFLite's int16 kernels take."""

    @property
    def dtype(self) -> type[Any]:
        """Type of the integers."""
        return np.uint8 if self.bits == 8 else np.int16

    def quantize(self, value: NDArray[Any]) -> NDArray[Any]:
        """Nearest integers, saturated."""
        low, high = (0, 255) if self.bits == 8 else (-32768, 32767)
        return np.asarray(np.clip(np.rint(value / np.float32(self.scale)) + self.zero_point, low, high), self.dtype)

    @classmethod
    def over(cls, span: Range, bits: int) -> Params:
        """That cover a range."""
        if bits == 16:
            return cls(_float32(max(abs(span.low), abs(span.high)) / 32767), 0, 16)
        scale = _float32((span.high - span.low) / 255)
        return cls(scale, int(np.clip(np.rint(-span.low / scale), 0, 255)), 8)


def bits_of(scheme: Scheme) -> int:
    """Width of the activations."""
    return 16 if scheme == "w8a16" else 8


class Scales:
    """Parameters of all integer tensors of a graph, given what its units become."""

    def __init__(
        self, model: onnx.ModelProto, units: Iterable[Unit], schemes: Mapping[str, Scheme], ranges: Mapping[str, Range]
    ) -> None:
        self._view = GraphView(model)
        self._ranges = ranges
        self._parent: dict[Key, Key] = {}
        self._fixed: dict[Key, Params] = {}
        self._clamp: dict[Key, tuple[float, float]] = {}
        self.made: dict[str, int] = {}
        """Tensor that an integer unit makes -> its bits."""
        self.given = given_params(self._view)
        """Tensors that come in as integers: the graph dequantizes its uint8 input itself."""
        chosen = [(unit, bits_of(schemes[unit.info.name])) for unit in units]
        for unit, bits in chosen:
            self.made |= dict.fromkeys(unit.outputs, bits)
            if unit.activation is not None and bits == 8:
                self._clamp[unit.outputs[0], bits] = bounds(self._view, unit.activation)
        self._share(chosen)
        self._groups: dict[Key, Params] = {}
        spans: dict[Key, Range] = {}
        for key in self._parent:
            root = self._root(key)
            spans[root] = _union(spans.get(root), self._span(key[0]))
        for root, span in spans.items():
            self._groups[root] = self._fixed.get(root) or Params.over(span, root[1])
        self._home = {name: self._at_home(name, bits) for name, bits in self.made.items()} | self.given

    def of_result(self, name: str) -> Params:
        """Of a tensor that an integer unit makes."""
        return self._home[name]

    def of_operand(self, unit: Unit, index: int, bits: int) -> Params:
        """What a unit wants to read its operand ``index`` in: other than :meth:`of_result`, it has to be quantized again."""
        name = unit.node.input[index]
        if unit.row.scale == "same":
            # The first result stands for the group: an operand of fixed scale was left out of it.
            return self._group((unit.outputs[0], bits))
        if name in self._view.constants:
            return Params.over(self._span(name), bits)
        own = self._home.get(name)
        return own if own is not None and own.bits == bits else self._group((name, bits))

    def _share(self, chosen: list[tuple[Unit, int]]) -> None:
        """Put tensors that must have the same parameters into one group; those of fixed parameters keep to themselves."""
        for unit, bits in chosen:
            for name in (*(unit.node.input[i] for i in unit.data), *unit.outputs):
                if name not in self._view.constants:
                    self._parent.setdefault((name, bits), (name, bits))
        same = [(unit, bits) for unit, bits in chosen if unit.row.scale == "same"]
        for unit, bits in same:
            if len(unit.data) == 1:
                self._join(unit, bits, [unit.node.input[unit.data[0]]])
        self._fix(chosen)
        for unit, bits in same:
            if len(unit.data) > 1:
                self._share_all(unit, bits)

    def _fix(self, chosen: list[tuple[Unit, int]]) -> None:
        for name, params in self.given.items():
            if (name, params.bits) in self._parent:
                self._fixed[self._root((name, params.bits))] = params
        for unit, bits in chosen:
            if unit.row.fixed is not None:
                middle = unit.row.fixed.zero == "middle" and bits == 8
                params = Params(_float32(unit.row.fixed.scale(bits)), 128 if middle else 0, bits)
                for name in unit.outputs:
                    self._fixed[self._root((name, bits))] = params

    def _share_all(self, unit: Unit, bits: int) -> None:
        """Operands and result of a Concat."""
        operands = [unit.node.input[i] for i in unit.data]
        names = [name for name in operands if name not in self._view.constants]
        kinds = {self._fixed.get(self._root((name, bits))) for name in names}
        if len(kinds) > 1:  # some have a scale of their own, which the others cannot take
            names = [name for name in names if self._root((name, bits)) not in self._fixed]
        self._join(unit, bits, names)
        for name in operands:
            if name in self._view.constants:
                self._parent.setdefault((name, bits), (name, bits))
                self._unite((name, bits), (unit.outputs[0], bits))

    def _join(self, unit: Unit, bits: int, operands: list[str]) -> None:
        for name in (*operands, *unit.outputs[1:]):
            self._unite((name, bits), (unit.outputs[0], bits))

    def _unite(self, one: Key, other: Key) -> None:
        a, b = self._root(one), self._root(other)
        if a == b:
            return
        fixed = self._fixed.pop(a, None) or self._fixed.pop(b, None)
        self._parent[a] = b
        if fixed is not None:
            self._fixed[b] = fixed

    def _root(self, key: Key) -> Key:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def _group(self, key: Key) -> Params:
        return self._groups[self._root(key)]

    def _at_home(self, name: str, bits: int) -> Params:
        """The group's; but a clamp that the group's range reaches beyond would not be part of the integer kernel any more."""
        shared = self._group((name, bits))
        clamp = self._clamp.get((name, bits))
        if clamp is not None:
            slack = shared.scale / 2
            low, high = -shared.zero_point * shared.scale, (255 - shared.zero_point) * shared.scale
            if low < clamp[0] - slack or high > clamp[1] + slack:
                return Params.over(self._ranges[name], bits)
        return shared

    def _span(self, name: str) -> Range:
        value = self._view.constant(name)
        if value is not None:
            return Range(float(value.min(initial=0.0)), float(value.max(initial=0.0)))
        known = self.given.get(name)
        if known is not None and name not in self._ranges:
            return Range(-known.zero_point * known.scale, (255 - known.zero_point) * known.scale)
        return self._ranges[name]


def given_params(view: GraphView) -> dict[str, Params]:
    """Results of DequantizeLinear from uint8 with one constant scale, as a folded input has it."""
    found: dict[str, Params] = {}
    for node in view.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or node.input[0] in view.constants:
            continue
        scale, zero = view.constant(node.input[1]), view.constant(node.input[2])
        if scale is not None and zero is not None and scale.size == 1 and zero.dtype == np.uint8:
            found[node.output[0]] = Params(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), 8)
    return found


def _union(one: Range | None, other: Range) -> Range:
    return other if one is None else Range(min(one.low, other.low), max(one.high, other.high))


def _float32(value: float) -> float:
    return float(np.float32(max(value, TINY)))
