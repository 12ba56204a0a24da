"""LSTM, GRU and RNN, unrolled: streaming models take one step, and TFLite's own LSTM keeps its state inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array, Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import lowers

MOST_STEPS = 128
"""Longer sequences would make files of thousands of operators."""
_ACTIVATIONS = {"sigmoid": "LOGISTIC", "tanh": "TANH", "relu": "RELU"}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
State = tuple[Tensor, ...]


class _Cell:
    """One direction of a recurrent node: its weights, and the operators of one step."""

    def __init__(self, ctx: Lowering, node: Node, direction: int) -> None:
        self.ctx, self.node = ctx, node
        self.hidden = int(node.attribute("hidden_size"))
        self.batch = ctx.shape(node.inputs[0])[1]
        self.weight = _constant(ctx, node, 1)[direction]
        self.recurrence = _constant(ctx, node, 2)[direction]
        bias = _constant(ctx, node, 3)[direction] if node.input(3) else np.zeros(2 * len(self.weight), np.float32)
        self.bias = bias[: len(self.weight)], bias[len(self.weight) :]
        names = [str(name).lower() for name in node.attribute("activations") or []]
        usual = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}[node.op_type]
        chosen = names[direction * len(usual) : (direction + 1) * len(usual)] or usual
        unknown = [name for name in chosen if name not in _ACTIVATIONS]
        if unknown:
            ctx.refuse(f"its activation {unknown[0]!r} is not sigmoid, tanh or relu", "Use one of these")
        self.activations = [_ACTIVATIONS[name] for name in chosen]

    def op(self, code: str, inputs: list[Tensor | None], width: int) -> Tensor:
        options: dict[str, Any] = (
            {"fusedActivationFunction": "NONE"} if code in ("ADD", "SUB", "MUL", "FULLY_CONNECTED") else {}
        )
        return self.ctx.op(code, inputs, (self.batch, width), **options)

    def product(self, data: Tensor, weights: Array, bias: Array | None) -> Tensor:
        vector = None if bias is None or not np.any(bias) else self.ctx.const(bias, f"{self.node.name}/bias")
        return self.op(
            "FULLY_CONNECTED", [data, self.ctx.const(weights, f"{self.node.name}/weights"), vector], len(weights)
        )

    def parts(self, data: Tensor, sizes: list[int]) -> list[Tensor]:
        """Consecutive parts of the last axis."""
        made = [Tensor(self.ctx.fresh(f"{self.node.name}/part"), (self.batch, size), "float32") for size in sizes]
        axis = self.ctx.const(np.int32(1))
        if len(set(sizes)) == 1:
            self.ctx.emit("SPLIT", [axis, data], made, numSplits=len(sizes))
        else:
            self.ctx.emit("SPLIT_V", [data, self.ctx.ints(sizes), axis], made, numSplits=len(sizes))
        return made

    def gates(self, x: Tensor, h: Tensor) -> Tensor:
        """W x + R h + b by one product over both."""
        both = self.op("CONCATENATION", [x, h], x.shape[1] + self.hidden)
        self.ctx.operators[-1].options = {"axis": 1, "fusedActivationFunction": "NONE"}
        weights = np.concatenate([self.weight, self.recurrence], axis=1)
        return self.product(both, weights, self.bias[0] + self.bias[1])

    def step(self, x: Tensor, state: State) -> State:
        raise NotImplementedError


class _Lstm(_Cell):
    """Gates i, o, f, c."""

    def step(self, x: Tensor, state: State) -> State:
        h, c = state
        size = self.hidden
        gate, squash, final = self.activations
        opened, fresh = self.parts(self.gates(x, h), [3 * size, size])
        i, o, f = self.parts(self.op(gate, [opened], 3 * size), [size] * 3)
        kept = self.op("MUL", [f, c], size)
        added = self.op("MUL", [i, self.op(squash, [fresh], size)], size)
        memory = self.op("ADD", [kept, added], size)
        return self.op("MUL", [o, self.op(final, [memory], size)], size), memory


class _Gru(_Cell):
    """Gates z, r, h."""

    def step(self, x: Tensor, state: State) -> State:
        (h,) = state
        size = self.hidden
        gate, squash = self.activations
        w, r, (wb, rb) = self.weight, self.recurrence, self.bias
        if self.node.attribute("linear_before_reset", 0):
            from_x, from_h = self.product(x, w, wb), self.product(h, r, rb)
            xs, xn = self.parts(from_x, [2 * size, size])
            hs, hn = self.parts(from_h, [2 * size, size])
            z, reset = self.parts(self.op(gate, [self.op("ADD", [xs, hs], 2 * size)], 2 * size), [size] * 2)
            inner = self.op("MUL", [reset, hn], size)
        else:
            xs, xn = self.parts(self.product(x, w, wb), [2 * size, size])
            hs = self.product(h, r[: 2 * size], rb[: 2 * size])
            z, reset = self.parts(self.op(gate, [self.op("ADD", [xs, hs], 2 * size)], 2 * size), [size] * 2)
            inner = self.product(self.op("MUL", [reset, h], size), r[2 * size :], rb[2 * size :])
        new = self.op(squash, [self.op("ADD", [xn, inner], size)], size)
        # (1 - z) * new + z * h with one product less.
        return (self.op("ADD", [new, self.op("MUL", [z, self.op("SUB", [h, new], size)], size)], size),)


class _Rnn(_Cell):
    """A single gate."""

    def step(self, x: Tensor, state: State) -> State:
        return (self.op(self.activations[0], [self.gates(x, state[0])], self.hidden),)


_CELLS = {"LSTM": _Lstm, "GRU": _Gru, "RNN": _Rnn}


def _constant(ctx: Lowering, node: Node, index: int) -> Array:
    value = ctx.constant(node.inputs[index])
    if value is None:
        ctx.refuse("its weights are computed", "Make them constant")
    return value


@lowers("LSTM", "GRU", "RNN")
def recurrent(ctx: Lowering, node: Node) -> None:
    """Every step written out."""
    steps, batch, width = ctx.shape(node.inputs[0])
    hidden = int(node.attribute("hidden_size"))
    if node.attribute("layout", 0):
        ctx.refuse("its batch axis comes first (layout=1)", "Export it with layout=0")
    if steps > MOST_STEPS:
        ctx.refuse(f"{steps} steps would be written out one by one (at most {MOST_STEPS})", "Run it in shorter chunks")
    if node.input(4) or node.input(7) or node.attribute("clip") or node.attribute("input_forget", 0):
        ctx.refuse("it has sequence lengths, peepholes, clipping or coupled gates", "Export it without them")
    direction = node.attribute("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    states = 2 if node.op_type == "LSTM" else 1
    data = ctx.tensor(node.inputs[0])
    inputs = [ctx.reshaped(data, (batch, width))] if steps == 1 else _rows(ctx, data, steps)
    every: list[list[Tensor]] = []
    final: list[list[Tensor]] = []
    for index in range(count):
        cell = _CELLS[node.op_type](ctx, node, index)
        state = tuple(_initial(ctx, node, 5 + which, index, count, (batch, hidden)) for which in range(states))
        backward = direction == "reverse" or index == 1
        outputs = []
        for x in inputs[::-1] if backward else inputs:
            state = cell.step(x, state)
            outputs.append(state[0])
        every.append(outputs[::-1] if backward else outputs)
        final.append(list(state))
    wanted = ctx.graph.consumers()
    stacked = [every[d][t] for t in range(steps) for d in range(count)]
    for place, parts in enumerate([stacked, *([per[which] for per in final] for which in range(states))]):
        name = node.outputs[place] if place < len(node.outputs) else ""
        if name and name in wanted:
            _stack(ctx, parts, name)


def _rows(ctx: Lowering, data: Tensor, steps: int) -> list[Tensor]:
    made = [Tensor(ctx.fresh(f"{data.name}/step"), data.shape[1:], "float32") for _ in range(steps)]
    ctx.emit("UNPACK", [data], made, num=steps, axis=0)
    return made


def _initial(ctx: Lowering, node: Node, place: int, index: int, count: int, shape: tuple[int, int]) -> Tensor:
    name = node.input(place)
    if not name:
        return ctx.const(np.zeros(shape, np.float32), f"{node.name}/zeros")
    tensor = ctx.tensor(name)
    if tensor.data is not None:
        return ctx.const(tensor.data[index], name)
    if count > 1:
        tensor = ctx.op("SLICE", [tensor, ctx.ints([index, 0, 0]), ctx.ints([1, *shape])], (1, *shape))
    return ctx.reshaped(tensor, shape)


def _stack(ctx: Lowering, parts: list[Tensor], name: str) -> None:
    """Tensors (batch, hidden) behind each other, in the shape of the output."""
    made = ctx.out(name)
    if len(parts) == 1:
        ctx.emit("RESHAPE", [parts[0], ctx.ints(made.shape)], [made], newShape=list(made.shape))
        return
    stacked = ctx.op("PACK", list(parts), (len(parts), *parts[0].shape), valuesCount=len(parts), axis=0)
    ctx.emit("RESHAPE", [stacked, ctx.ints(made.shape)], [made], newShape=list(made.shape))
