"""Spells one ONNX operator out in others: the notation, and which operators have a spelling.

A spelling knows the shapes and constants of its node and writes ONNX nodes; those are lowered like any others, so they follow
layouts, fold and fuse::

    @spells("Hardmax")
    def hardmax(s: Sketch) -> None:
        axis = s.axis(-1)
        best = s.op("ArgMax", s.x, axis=axis, keepdims=0)
        s.result(s.op("OneHot", best, s.ints(s.shape()[axis]), s.const(np.float32([0, 1])), axis=axis))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node
from edgesdk_converters.tflite.lower.problems import Refusal

OPSET = 18
"""Of the operators that spellings use."""
Spelling = Callable[["Sketch"], None]
_SPELLINGS: dict[tuple[str, str], Spelling] = {}


class Sketch:
    """One node, and the nodes that will stand in its place.

    Attributes:
        node: The node.
        nodes: What was written so far.
        infos: Tensors that ONNX cannot infer: constants, and outputs of the lowering's own operators.
    """

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []
        self.infos: dict[str, Info] = {}
        self._stem = next((name for name in node.outputs if name), node.name)

    @property
    def x(self) -> str:
        """The first input."""
        return self.node.inputs[0]

    def input(self, index: int) -> str:
        """Name of an input, empty where it is left out."""
        return self.node.input(index)

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        return self._info(index).shape

    def dtype(self, index: int = 0) -> str:
        """ONNX type of an input."""
        return self._info(index).dtype

    def _info(self, index: int) -> Info:
        info = self.graph.infos.get(self.node.input(index))
        if info is None:
            self.refuse(f"the shape of {self.node.input(index)!r} is not static", "Pin the shapes of the inputs")
        return info

    def constant(self, index: int, what: str = "") -> Array | None:
        """Value of a constant input; None where it is left out or (without ``what``) computed.

        Raises:
            Refusal: It is computed, and ``what`` says what it is.
        """
        found = self.graph.constant(self.node.input(index))
        if found is None and what and self.node.input(index):
            self.refuse(f"its {what} is computed", "Make it constant")
        return found

    def number(self, index: int, what: str, default: int) -> int:
        """A constant integer input."""
        found = self.constant(index, what)
        return default if found is None else int(found.reshape(-1)[0])

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attribute(name, default)

    def axis(self, default: int, name: str = "axis", index: int = 0) -> int:
        """An axis attribute, counted from the front."""
        return int(self.attribute(name, default)) % len(self.shape(index))

    def op(self, code: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Write a node; returns its first output (`outs` gives all)."""
        return self.outs(code, *inputs, outputs=outputs, domain=domain, **attributes)[0]

    def outs(self, code: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Write a node; returns its outputs."""
        made = [self.fresh() for _ in range(outputs)]
        self.nodes.append(Node(code, f"{self.node.name}/{code}", list(inputs), made, attributes, domain))
        return made

    def own(self, code: str, *inputs: str, shape: tuple[int, ...], dtype: str, **attributes: Any) -> str:
        """Write an operator of the lowering's own domain, which ONNX cannot infer the shape of."""
        made = self.op(code, *inputs, domain="edgesdk", **attributes)
        self.infos[made] = Info(made, shape, dtype)
        return made

    def const(self, value: ArrayLike, dtype: str = "") -> str:
        """A constant."""
        data: Array = np.asarray(value, dtype or None)
        name = self.fresh()
        self.infos[name] = Info(name, tuple(data.shape), data.dtype.name, data)
        return name

    def ints(self, *values: int) -> str:
        """An int64 vector: axes, shapes, bounds."""
        return self.const(np.asarray(values, np.int64))

    def like(self, value: ArrayLike, index: int = 0) -> str:
        """A constant in the type of an input."""
        return self.const(value, self.dtype(index))

    def reshape(self, name: str, *shape: int) -> str:
        """Reshape."""
        return self.op("Reshape", name, self.ints(*shape))

    def slice(self, name: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Slice along one axis."""
        return self.op("Slice", name, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))

    def cast(self, name: str, dtype: str) -> str:
        """Cast to a type by numpy's name."""
        from onnx import helper

        return self.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def result(self, *names: str) -> None:
        """What the node's outputs are; an empty name where one is not used."""
        for name, output in zip(names, self.node.outputs, strict=False):
            if name and output:
                self.nodes.append(Node("Identity", f"{self.node.name}/Identity", [name], [output]))

    def used(self, index: int) -> bool:
        """Whether anybody takes an output."""
        name = self.node.outputs[index] if index < len(self.node.outputs) else ""
        return bool(name) and name in self.graph.consumers()

    def fresh(self) -> str:
        """A tensor name that is not taken."""
        number = 0
        while (name := f"{self._stem}/{number}") in self.graph.infos or name in self.graph.taken:
            number += 1
        self.graph.taken.add(name)
        return name

    def refuse(self, reason: str, fix: str = "") -> Never:
        """Give the node up."""
        raise Refusal(reason, fix)


def spells(*op_types: str, domain: str = "") -> Callable[[Spelling], Spelling]:
    """Register a spelling.

    Raises:
        ValueError: One of the operators has one already.
    """

    def register(spelling: Spelling) -> Spelling:
        for op_type in op_types:
            if (domain, op_type) in _SPELLINGS:
                raise ValueError(f"{op_type} is spelled out twice")
            _SPELLINGS[domain, op_type] = spelling
        return spelling

    return register


def spelling_of(op_type: str, domain: str = "") -> Spelling | None:
    """The spelling of an operator, or None."""
    _load()
    return _SPELLINGS.get((domain, op_type))


@cache
def _load() -> None:
    from edgesdk_converters.tflite.lower import spellings

    for module in iter_modules(spellings.__path__):
        import_module(f"{spellings.__name__}.{module.name}")
