"""Finds where NaN comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk_converters.graph.view import GraphView, static_shapes
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]

GROUP_BYTES = 192 << 20
"""Activations that are held at a time; more tensors are asked for in several runs."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def first_nan(model: onnx.ModelProto, feed: Sequence[Array]) -> tuple[str, str] | None:
    """The first node, in the order of execution, that puts NaN into a tensor.

    Args:
        model: Static shapes, unique node names.
        feed: Inputs in the graph's order.

    Returns:
        Node and tensor. A NaN weight is reported with the first node that takes it, a NaN input with the node ``""``. None where there is
        no NaN.
    """
    view = GraphView(model)
    for name, array in zip(view.inputs, feed, strict=True):
        if _has_nan(array):
            return "", name
    found = nan_weight(model)
    if found is not None:
        return found
    known = {value.name for value in model.graph.output}
    types = _types(model)
    names = [name for node in model.graph.node for name in node.output if types.get(name) in _FLOATS]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, types[name], None) for name in names if name not in known
    )
    runner = OnnxRunner(watched, threads=WORKERS)
    for group in in_groups(names, static_shapes(model)):
        for name, value in zip(group, runner.run_some(group, feed), strict=True):
            if _has_nan(value):
                return view.producer[name].name, name
    return None


def nan_weight(model: onnx.ModelProto) -> tuple[str, str] | None:
    """The first node that takes a constant with NaN in it, and that constant."""
    bad = {
        tensor.name
        for tensor in (*model.graph.initializer, *GraphView(model).constants.values())
        if tensor.data_type in _FLOATS and _has_nan(numpy_helper.to_array(tensor))
    }
    for node in model.graph.node:
        for name in node.input:
            if name in bad:
                return node.name, name
    return None


def explain(model: onnx.ModelProto, feed: Sequence[Array]) -> str:
    """Where the NaN of this inference begins, in words that end with what to do; empty where there is none."""
    found = first_nan(model, feed)
    if found is None:
        return ""
    node, tensor = found
    if not node:
        return f"input {tensor!r} holds NaN already. Repair or take out that sample."
    made = GraphView(model).producer.get(tensor)
    if made is None or made.name != node:
        return f"weight {tensor!r} of node {node!r} holds NaN. Export the model again from a checkpoint whose training did not diverge."
    return (
        f"it begins at node {node!r} ({made.op_type}), tensor {tensor!r}. Repair the model there (a logarithm, root or division out of its "
        "domain, or an overflow), or take that sample out if it is no typical input."
    )


def in_groups(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[str]]:
    """Tensors in order, as many at a time as fit the memory that is set aside for them."""
    group: list[str] = []
    held = 0
    for name in names:
        size = 4 * int(np.prod(shapes.get(name, (1 << 18,)), dtype=np.int64))
        if group and held + size > GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def float_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Inputs and activations of type float32, in graph order."""
    types = _types(model)
    inputs = [v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    made = [name for node in model.graph.node for name in node.output if types.get(name) == onnx.TensorProto.FLOAT]
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    return tuple(name for name in (*inputs, *made) if name not in constants)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    return {
        value.name: value.type.tensor_type.elem_type for value in (*inferred.graph.value_info, *inferred.graph.output)
    }


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
