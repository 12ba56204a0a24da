"""Normalisation that a model does itself, at its input: Sub, Add, Mul and Div by constants, one number or one per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.view import GraphView

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """``value = pixel * factor + summand``, float64 (C,) each."""

    factor: Values
    summand: Values

    @property
    def zero(self) -> Values:
        """The pixel value that becomes 0, (C,)."""
        return -self.summand / self.factor


def absorb(view: GraphView, tensor: str, affine: Affine, axis: int, channels: int) -> tuple[Affine, str, list[Any]]:
    """Follow ``tensor`` through the nodes that scale and shift it.

    Args:
        view: Of the model; it is not changed.
        tensor: Where to begin.
        affine: What it is of the pixels so far.
        axis: Channel axis of the 4-D tensor, 1 or 3.
        channels: Size of that axis.

    Returns:
        What the last tensor is of the pixels, its name, and the nodes in between, which are no longer needed. A node that other
        nodes depend on, or that would make a factor zero or negative, is the end.
    """
    gone: list[Any] = []
    while (node := view.only_consumer(tensor)) is not None:
        step = _step(view, node, tensor, affine, axis, channels)
        if step is None or not (np.isfinite(step.factor).all() and np.isfinite(step.summand).all()):
            break
        if (step.factor <= 0).any():
            break
        affine, tensor = step, node.output[0]
        gone.append(node)
    return affine, tensor, gone


def _step(view: GraphView, node: Any, tensor: str, affine: Affine, axis: int, channels: int) -> Affine | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Identity":
        return affine
    if node.op_type not in {"Sub", "Add", "Mul", "Div"} or list(node.input).count(tensor) != 1:
        return None
    first = node.input[0] == tensor
    values = _per_channel(view, node.input[1 if first else 0], axis, channels)
    if values is None:
        return None
    if node.op_type == "Add":
        return Affine(affine.factor, affine.summand + values)
    if node.op_type == "Mul":
        return Affine(affine.factor * values, affine.summand * values)
    if node.op_type == "Sub":
        return Affine(affine.factor, affine.summand - values) if first else None
    return Affine(affine.factor / values, affine.summand / values) if first and values.all() else None


def _per_channel(view: GraphView, name: str, axis: int, channels: int) -> Values | None:
    """A constant as (C,), where it broadcasts like one number or one per channel."""
    value = view.constant(name)
    if value is None or value.dtype.kind != "f" or value.ndim > 4:
        return None
    if value.size == 1:
        return np.full(channels, float(value.reshape(-1)[0]))
    shape = (1,) * (4 - value.ndim) + value.shape
    if shape[axis] != channels or value.size != channels:
        return None
    return np.asarray(value, np.float64).reshape(-1)
