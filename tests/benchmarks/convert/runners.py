"""Runs anybody's model files on the same inputs, whatever layout they take and give."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]


class PeerTflite:
    """A TFLite file whose inputs may be channels-last or integers, and whose outputs may be in another order and layout.

    Args:
        content: The file.
        names: Inputs and outputs of the float ONNX model.
        sample: One inference of that model, inputs and outputs: tells which output is which, and how it lies.
    """

    def __init__(
        self,
        content: bytes,
        names: tuple[Sequence[str], Sequence[str]],
        sample: tuple[Sequence[Array], Sequence[Array]],
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        feed, expected = sample
        details = self._interpreter.get_input_details()
        self._inputs = [_named(details, name, index) for index, name in enumerate(names[0])]
        self._orders = [
            _order(array.shape, tuple(detail["shape"])) for array, detail in zip(feed, self._inputs, strict=True)
        ]
        self._scales = {one["index"]: one["quantization"] for one in self._interpreter.get_output_details()}
        self._outputs: list[tuple[int, tuple[int, ...]]] = []
        self._invoke(feed)
        free = list(self._interpreter.get_output_details())
        for name, array in zip(names[1], expected, strict=True):
            detail, order = min(
                ((one, order) for one in free for order in _orders(tuple(one["shape"]), array.shape)),
                key=lambda pair: (name not in pair[0]["name"], _distance(self._get(pair[0]["index"], pair[1]), array)),
                default=(None, None),
            )
            if detail is None or order is None:
                raise ValueError(f"no output has the shape {list(array.shape)} of {name!r}, in whatever layout")
            free.remove(detail)
            self._outputs.append((detail["index"], order))

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """All outputs, as the ONNX model gives them."""
        self._invoke(feed)
        return [self._get(index, order) for index, order in self._outputs]

    def again(self) -> None:
        """Infer once more on the same inputs, without moving any array: what a C program would pay."""
        self._interpreter.invoke()

    def _invoke(self, feed: Sequence[Array]) -> None:
        for array, detail, order in zip(feed, self._inputs, self._orders, strict=True):
            moved = np.ascontiguousarray(array.transpose(order))
            self._interpreter.set_tensor(detail["index"], _stored(moved, detail))
        self._interpreter.invoke()

    def _get(self, index: int, order: Sequence[int]) -> Array:
        value = np.asarray(self._interpreter.get_tensor(index))
        scale, zero_point = self._scales.get(index, (0.0, 0))
        if scale:
            value = (value.astype(np.float32) - zero_point) * np.float32(scale)
        moved: Array = value.transpose(order)
        return moved


def _stored(array: Array, detail: dict[str, Any]) -> Array:
    """As the file takes it: quantized where its input is."""
    scale, zero_point = detail["quantization"]
    if not scale:
        plain: Array = array.astype(detail["dtype"], copy=False)
        return plain
    limits = np.iinfo(detail["dtype"])
    stored: Array = np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])
    return stored


def operators(content: bytes) -> int:
    """How many operators a TFLite file has."""
    from edgesdk_converters.tflite import flatbuffer

    return sum(len(graph.operators) for graph in flatbuffer.read(content).subgraphs)


def onnx_runner(content: bytes, like: OnnxRunner | None = None) -> OnnxRunner:
    """On one thread; inputs and outputs in the order of ``like``."""
    runner = OnnxRunner(content)
    if like is not None and sorted(runner.outputs) == sorted(like.outputs):
        runner.inputs, runner.outputs = list(like.inputs), list(like.outputs)
    return runner


def _named(details: Sequence[dict[str, Any]], name: str, index: int) -> dict[str, Any]:
    found = [one for one in details if one["name"] == name or one["name"].endswith(f"_{name}:0")]
    return found[0] if found else details[index]


def _order(got: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    if len(got) == 4 and got != wanted:
        return (0, 2, 3, 1)
    return tuple(range(len(got)))


def _orders(got: tuple[int, ...], wanted: tuple[int, ...]) -> list[tuple[int, ...]]:
    if len(got) != len(wanted):
        return []
    return [order for order in itertools.permutations(range(len(got))) if tuple(got[i] for i in order) == wanted]


def _distance(a: Array, b: Array) -> float:
    return float(np.abs(np.nan_to_num(a.astype(np.float64), nan=1e9) - b).sum())
