"""Read-only maps over an ONNX graph: who makes a tensor, who takes it, what is constant, which shape it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]


class GraphView:
    """Maps over the top-level graph of a model; stale after the graph was changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.producer: dict[str, Any] = {}
        """Tensor name -> the node that makes it."""
        self.consumers: dict[str, list[Any]] = {}
        """Tensor name -> the nodes that take it, sub-graphs included."""
        for node in self.graph.node:
            for name in node.output:
                if name:
                    self.producer[name] = node
            for name in {*node.input, *captured(node)}:
                if name:
                    self.consumers.setdefault(name, []).append(node)
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.constants[node.output[0]] = attribute.t
        self.outputs: tuple[str, ...] = tuple(value.name for value in self.graph.output)
        self.inputs: tuple[str, ...] = tuple(v.name for v in self.graph.input if v.name not in self.constants)

    def constant(self, name: str) -> Array | None:
        """The value of a constant tensor, or None where it is computed."""
        tensor = self.constants.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def only_consumer(self, name: str) -> Any | None:
        """The single node that takes ``name``, or None where there are more, none, or it is a graph output."""
        nodes = self.consumers.get(name, [])
        return nodes[0] if len(nodes) == 1 and name not in self.outputs else None


def captured(node: Any) -> Iterable[str]:
    """Names that the sub-graphs of a node (If, Loop) take from outside."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            made = {name for child in inner.node for name in child.output}
            made |= {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
            for child in inner.node:
                yield from (name for name in (*child.input, *captured(child)) if name not in made)
            yield from (value.name for value in inner.output if value.name not in made)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or ``default``."""
    for candidate in node.attribute:
        if candidate.name == name:
            return onnx.helper.get_attribute_value(candidate)
    return default


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors whose every dimension is known, by ONNX shape inference."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer})
    return shapes


def inputs_of(model: onnx.ModelProto) -> list[Any]:
    """Graph inputs without the weights that old files list among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def shape_of(value: Any) -> tuple[int | str | None, ...]:
    """Dimensions of a graph input or output: a number, the name of a dynamic one, or None."""
    kind = value.type.tensor_type
    dims: list[int | str | None] = []
    for dim in kind.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value > 0:
            dims.append(int(dim.dim_value))
        elif dim.HasField("dim_param") and dim.dim_param:
            dims.append(str(dim.dim_param))
        else:
            dims.append(None)
    return tuple(dims)


def dtype_of(value: Any) -> str:
    """Numpy name of a graph input's or output's element type."""
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name)
