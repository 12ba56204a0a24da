"""Arithmetic on model outputs that several tasks share: dequantization, sigmoid, softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, OutputSpec
from edgesdk.errors import TaskError

Array = NDArray[Any]

LOGIT_LIMIT = 80.0
"""exp(80) is the last round number that float32 holds; MediaPipe's limit of 100 overflows."""

LARGEST_COORDINATE = 1e6
"""Model pixels: what lies further out (or is NaN) is no box but the output of a broken model, and would overflow later."""


def check_outputs(contract: Contract, outputs: Sequence[Array]) -> None:
    """Compare what a session returned with the contract.

    Raises:
        TaskError: Another number of outputs, or another shape, than the contract says.
    """
    expected = contract.outputs
    if len(outputs) != len(expected):
        raise TaskError(
            f"task {contract.task!r}: the session returned {len(outputs)} outputs, the contract has {len(expected)} "
            f"({', '.join(spec.name for spec in expected)}). Pass the contract's output names to the session."
        )
    for spec, output in zip(expected, outputs):  # noqa: B905 - the lengths are equal; strict= costs a keyword per call
        if output.shape != spec.shape:
            raise TaskError(
                f"task {contract.task!r}: output {spec.name!r} has shape {output.shape}, the contract says {spec.shape}. "
                "Convert the model again, or correct the shape in the model spec."
            )


def dequantize(output: Array, spec: OutputSpec) -> NDArray[np.float32]:
    """Real numbers of an output: ``scale * (q - zero_point)`` where it is quantized, else the values as float32.

    Args:
        output: Shape and dtype of ``spec``.
        spec: Its ``quantization`` decides.

    Returns:
        float32 of the same shape; ``output`` itself where nothing needs doing.

    Source: ONNX operator DequantizeLinear, opset 13.
    """
    parameters = spec.quantization
    if parameters is None:
        return output.astype(np.float32, copy=False)
    scale = np.asarray(parameters.scale, np.float32)
    zero_point = np.asarray(parameters.zero_point, np.float32)
    if parameters.axis is not None and scale.size > 1:
        broadcast = [1] * output.ndim
        broadcast[parameters.axis] = scale.size
        scale, zero_point = scale.reshape(broadcast), zero_point.reshape(broadcast)
    real = output.astype(np.float32)
    real -= zero_point
    real *= scale
    return real


def sigmoid(logits: Array) -> NDArray[np.float32]:
    """``1 / (1 + exp(-x))`` elementwise, float32 0..1, without overflow."""
    clipped = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float32, copy=False)
    return np.reciprocal(np.float32(1) + np.exp(-clipped))


def logit(probability: float) -> float:
    """The inverse of :func:`sigmoid`, so that a threshold is applied before any exponential; +-LOGIT_LIMIT at 1 and 0."""
    if probability <= 0.0:
        return -LOGIT_LIMIT
    if probability >= 1.0:
        return LOGIT_LIMIT
    return float(np.log(probability / (1.0 - probability)))


def softmax(logits: Array) -> NDArray[np.float32]:
    """Softmax over the last axis, float32, shifted by the maximum so that it cannot overflow."""
    with np.errstate(over="ignore"):  # the shift of a lowest number may become -inf, whose power is 0 all the same
        shifted = np.asarray(logits, np.float32) - np.max(logits, axis=-1, keepdims=True)
    powers = np.exp(shifted)
    result: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return result
