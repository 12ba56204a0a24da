"""The lowering's two small representations: the ONNX graph as it came in, and the TFLite operators as they go out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Layout = tuple[int, ...]
"""Physical axis ``i`` of a TFLite tensor holds ONNX axis ``layout[i]``: NCHW kept as NHWC is ``(0, 2, 3, 1)``."""
Activation = Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH"]
"""Names of the schema's ActivationFunctionType."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """Affine parameters: ``real = scale * (q - zero_point)``."""

    scale: Array
    """float32, shape (1,) or (C,)."""
    zero_point: Array
    """int64, the same shape."""
    axis: int | None = None
    """The axis that C runs along (ONNX axis in `Info`, physical axis in `Tensor`); None per tensor."""


@dataclass(slots=True)
class Info:
    """A tensor of the ONNX graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """numpy's name; also ``int4`` and ``uint4``."""
    data: Array | None = None
    """Its value where it is constant."""
    quantization: Quantization | None = None
    """Set by the quantized lowering when it absorbs DequantizeLinear and QuantizeLinear; ``dtype`` is the integer's then."""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(slots=True, eq=False)
class Node:
    """An ONNX node; ``activation`` is what was fused into it."""

    op_type: str
    name: str
    inputs: list[str]
    """Empty string for an input that is left out."""
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    activation: Activation = "NONE"

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value, or ``default``."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> str:
        """Name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(slots=True, eq=False)
class Graph:
    """The ONNX graph: static shapes, constants folded."""

    name: str
    nodes: list[Node]
    infos: dict[str, Info]
    inputs: list[str]
    outputs: list[str]
    opset: int
    taken: set[str] = field(default_factory=set)
    """Names that expansions gave to tensors."""

    def constant(self, name: str) -> Array | None:
        """Value of a constant tensor, in ONNX order; None where it is computed or left out."""
        info = self.infos.get(name)
        return None if info is None else info.data

    def producers(self) -> dict[str, Node]:
        """Tensor name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """Tensor name -> the nodes that take it; a graph output has an additional consumer, `OUTSIDE`."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        for name in self.outputs:
            found.setdefault(name, []).append(OUTSIDE)
        return found

    def remove(self, nodes: Iterable[Node]) -> None:
        """Take nodes out."""
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]


OUTSIDE = Node("", "the caller", [], [])
"""Stands for who takes a graph output."""


@dataclass(slots=True, eq=False)
class Tensor:
    """A tensor of the TFLite file."""

    name: str
    shape: tuple[int, ...]
    """As it lies in memory."""
    dtype: str
    data: Array | None = None
    quantization: Quantization | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Value:
    """An ONNX tensor as it lies in the TFLite file."""

    tensor: Tensor
    layout: Layout

    @property
    def plain(self) -> bool:
        """Whether the axes are in ONNX order, axes of size 1 apart."""
        moved = [axis for axis, size in zip(self.layout, self.tensor.shape, strict=True) if size != 1]
        return moved == sorted(moved)


@dataclass(slots=True, eq=False)
class Operator:
    """A TFLite operator."""

    code: str
    """Name in the schema's BuiltinOperator."""
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of its options table, as the schema's generated class names them; enums by their names."""
    node: str = ""
    """The ONNX node that it comes from."""
