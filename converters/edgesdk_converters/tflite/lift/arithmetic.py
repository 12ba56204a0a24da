"""Operators that compute value by value, and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk_converters.tflite.lift.builder import Builder, CannotLiftError, Op, lifts

_BINARY = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "EQUAL": "Equal",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
}
_UNARY = {
    "RELU": "Relu",
    "LOGISTIC": "Sigmoid",
    "TANH": "Tanh",
    "HARD_SWISH": "HardSwish",
    "EXP": "Exp",
    "LOG": "Log",
    "SQRT": "Sqrt",
    "ABS": "Abs",
    "NEG": "Neg",
    "FLOOR": "Floor",
    "CEIL": "Ceil",
    "ROUND": "Round",
    "SIN": "Sin",
    "COS": "Cos",
    "LOGICAL_NOT": "Not",
}
_REDUCTIONS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}


def _operands(graph: Builder, indices: Sequence[int]) -> tuple[list[str], bool]:
    """Values in one layout: channels first where one of them is so already and the others can follow."""
    four = [index for index in indices if len(graph.shape(index)) == 4]
    if not any(graph.is_first(index) for index in four) or any(len(graph.shape(index)) > 4 for index in indices):
        return [graph.plain(index) for index in indices], False
    names = []
    for index in indices:
        if index in four:
            names.append(graph.first(index))
            continue
        value, shape = graph.value(index), graph.shape(index)
        if value is None and len(shape) > 0:
            return [graph.plain(one) for one in indices], False
        if value is None or value.size == 1:
            names.append(graph.plain(index))
        else:  # a constant over the last axes: give it all four, then move its channels
            whole = value.reshape((1,) * (4 - value.ndim) + value.shape)
            names.append(graph.constant(np.transpose(whole, (0, 3, 1, 2)), graph.name(index)))
    return names, True


def _store(graph: Builder, index: int, name: str, *, first: bool) -> None:
    if first:
        graph.set_first(index, name)
    else:
        graph.set_plain(index, name)


@lifts(*_BINARY, "SQUARED_DIFFERENCE", "NOT_EQUAL")
def _binary(graph: Builder, op: Op) -> None:
    names, first = _operands(graph, op.inputs)
    if op.kind == "SQUARED_DIFFERENCE":
        apart = graph.node("Sub", names)
        made = graph.node("Mul", [apart, apart])
    elif op.kind == "NOT_EQUAL":
        made = graph.node("Not", [graph.node("Equal", names)])
    else:
        made = graph.node(_BINARY[op.kind], names)
    _store(graph, op.outputs[0], graph.activate(made, op), first=first)


@lifts(*_UNARY, "RELU6", "RELU_N1_TO_1", "RSQRT", "SQUARE", "GELU", "LEAKY_RELU", "ELU", "CAST")
def _unary(graph: Builder, op: Op) -> None:
    (source,), first = _operands(graph, op.inputs[:1])
    if op.kind in ("RELU6", "RELU_N1_TO_1"):
        made = graph.clip(source, 0.0 if op.kind == "RELU6" else -1.0, 6.0 if op.kind == "RELU6" else 1.0)
    elif op.kind == "RSQRT":
        made = graph.node("Reciprocal", [graph.node("Sqrt", [source])])
    elif op.kind == "SQUARE":
        made = graph.node("Mul", [source, source])
    elif op.kind == "GELU":
        made = _gelu(graph, source, approximate=bool(op.option("approximate", default=False)))
    elif op.kind == "LEAKY_RELU":
        made = graph.node("LeakyRelu", [source], alpha=float(op.option("alpha", 0.0)))
    elif op.kind == "ELU":
        made = graph.node("Elu", [source])
    elif op.kind == "CAST":
        from onnx import helper

        wanted = np.dtype(graph.dtype(op.outputs[0]))
        made = graph.node("Cast", [source], to=helper.np_dtype_to_tensor_dtype(wanted))
    else:
        made = graph.node(_UNARY[op.kind], [source])
    _store(graph, op.outputs[0], made, first=first)


def _gelu(graph: Builder, source: str, *, approximate: bool) -> str:
    def number(value: float) -> str:
        return graph.constant(np.asarray(value, np.float32), "number")

    if approximate:
        cube = graph.node("Mul", [graph.node("Mul", [source, source]), source])
        inner = graph.node("Add", [source, graph.node("Mul", [cube, number(0.044715)])])
        bent = graph.node("Tanh", [graph.node("Mul", [inner, number(float(np.sqrt(2 / np.pi)))])])
    else:
        bent = graph.node("Erf", [graph.node("Mul", [source, number(float(np.sqrt(0.5)))])])
    return graph.node("Mul", [graph.node("Mul", [source, number(0.5)]), graph.node("Add", [bent, number(1.0)])])


@lifts("PRELU")
def _prelu(graph: Builder, op: Op) -> None:
    slope = graph.known(op.inputs[1])
    (source,), first = _operands(graph, op.inputs[:1])
    whole = slope.reshape((1,) * (len(graph.shape(op.inputs[0])) - slope.ndim) + slope.shape)
    if first:
        whole = np.transpose(whole, (0, 3, 1, 2))[0]  # (C, 1, 1): ONNX broadcasts from the left only
    _store(
        graph,
        op.outputs[0],
        graph.node("PRelu", [source, graph.constant(whole, graph.name(op.inputs[1]))]),
        first=first,
    )


@lifts("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION")
def _over_channels(graph: Builder, op: Op) -> None:
    (source,), first = _operands(graph, op.inputs[:1])
    axis = 1 if first else -1
    if op.kind == "L2_NORMALIZATION":
        made = graph.node("LpNormalization", [source], axis=axis, p=2)
    else:
        beta = float(op.option("beta", 1.0)) if op.kind == "SOFTMAX" else 1.0
        if beta != 1.0:
            source = graph.node("Mul", [source, graph.constant(np.asarray(beta, np.float32), "beta")])
        made = graph.node("Softmax" if op.kind == "SOFTMAX" else "LogSoftmax", [source], axis=axis)
    _store(graph, op.outputs[0], graph.activate(made, op), first=first)


@lifts(*_REDUCTIONS)
def _reduce(graph: Builder, op: Op) -> None:
    rank = len(graph.shape(op.inputs[0]))
    axes = sorted({int(axis) % rank for axis in np.atleast_1d(graph.known(op.inputs[1]))})
    keep = bool(op.option("keepDims", default=False))
    (source,), first = _operands(graph, op.inputs[:1])
    if first and not keep and axes != [1, 2]:
        source, first = graph.plain(op.inputs[0]), False
    over = [(0, 2, 3, 1)[axis] for axis in axes] if first else axes
    kind = _REDUCTIONS[op.kind]
    # Reducing height and width leaves (N, C) in either layout.
    if kind == "ReduceSum":  # its axes are an input since opset 13, those of the others since 18
        made = graph.node(kind, [source, graph.ints(over)], keepdims=int(keep))
    else:
        made = graph.node(kind, [source], axes=over, keepdims=int(keep))
    _store(graph, op.outputs[0], made, first=first and keep)


@lifts("ARG_MAX", "ARG_MIN")
def _arg(graph: Builder, op: Op) -> None:
    rank = len(graph.shape(op.inputs[0]))
    axis = int(np.atleast_1d(graph.known(op.inputs[1]))[0]) % rank
    made = graph.node(
        "ArgMax" if op.kind == "ARG_MAX" else "ArgMin", [graph.plain(op.inputs[0])], axis=axis, keepdims=0
    )
    if graph.dtype(op.outputs[0]) == "int32":
        made = graph.node("Cast", [made], to=6)
    elif graph.dtype(op.outputs[0]) != "int64":
        raise CannotLiftError(f"its output is {graph.dtype(op.outputs[0])}")
    graph.set_plain(op.outputs[0], made)


@lifts("SELECT", "SELECT_V2")
def _select(graph: Builder, op: Op) -> None:
    names = [graph.plain(index) for index in op.inputs]
    ranks = [len(graph.shape(index)) for index in op.inputs]
    if op.kind == "SELECT" and ranks[0] == 1 < ranks[1]:  # the first SELECT chooses whole rows by a vector
        names[0] = graph.node("Reshape", [names[0], graph.ints([-1, *[1] * (ranks[1] - 1)])])
    graph.set_plain(op.outputs[0], graph.node("Where", names))
