"""A backend without a runtime: computes simple arithmetic that a JSON text describes. For tests and for trying an app.

It obeys the same rules as the real ones and passes the same contract suite. A model is a JSON text, whatever its format
is called (``fake``, ``onnx`` or ``tflite``, so that a bundle can carry it)::

    {"schema": "edgesdk.fake-model/1",
     "inputs": [{"name": "a", "shape": [1, 4]}, {"name": "b", "shape": [1, 4]}],
     "outputs": [{"name": "difference", "shape": [1, 4], "op": "subtract", "of": ["a", "b"]}],
     "delay_ms": 5, "fail_at": [100]}
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from edgesdk.backends import checks
from edgesdk.backends.api import Array, Availability, ModelFile, SessionOptions, TensorInfo
from edgesdk.backends.base import Boundary
from edgesdk.bundle.manifest import Quantization
from edgesdk.errors import BackendError

SCHEMA = "edgesdk.fake-model/1"
CALLS_KEPT = 1000
Operation = Literal["copy", "relu", "add", "subtract", "multiply", "mean", "fill", "accumulate"]


class FakeTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input of a fake model."""

    name: str
    shape: tuple[int, ...]
    """-1 takes any size."""
    dtype: str = "float32"
    quantization: Quantization | None = None


class FakeOutput(FakeTensor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output of a fake model: ``op`` over the inputs ``of``, brought to ``shape`` by repeating or cutting."""

    op: Operation = "copy"
    """``mean`` is one number, repeated; ``fill`` is ``value``; ``accumulate`` adds up over inferences until a reset."""
    of: tuple[str, ...] = ()
    value: float = 0.0


class FakeModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description of a fake model."""

    schema: Literal["edgesdk.fake-model/1"]
    inputs: tuple[FakeTensor, ...]
    outputs: tuple[FakeOutput, ...]
    delay_ms: float = 0.0
    """Time that one inference takes, spent asleep."""
    fail_at: tuple[int, ...] = ()
    """Inferences, counted from 1, that fail as a runtime does, to try how an app takes it."""


class FakeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of this backend: none."""


class FakeBackend:
    """Runs fake models."""

    name = "fake"
    formats = frozenset({"fake", "onnx", "tflite"})

    def availability(self) -> Availability:
        """Always there."""
        return Availability(available=True, runtime="edgesdk fake backend")

    def open(self, model: ModelFile, options: SessionOptions) -> FakeSession:
        """Load a description; see the protocol.

        Raises:
            BackendError: The content is no description of a fake model, or the options are wrong.
        """
        checks.parse_options(self.name, options.extra, FakeOptions)
        try:
            description = msgspec.json.decode(model.content, type=FakeModel)
            _check(description)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise BackendError(
                f"{model.name}: the fake backend reads only its own JSON description ({SCHEMA}): {error}. Use the "
                f"onnxruntime or tflite backend for a real model, or write a description as in edgesdk/backends/fake.py."
            ) from error
        return FakeSession(description, model)


class FakeSession(Boundary):
    """A loaded fake model.

    Attributes:
        calls: Copies of the inputs of the last thousand inferences.
        resets: How often :meth:`reset` was called.
    """

    def __init__(self, description: FakeModel, model: ModelFile) -> None:
        self._model_description = description
        self._description = "edgesdk fake backend, 1 thread"
        self._model = model.name
        inputs, outputs = description.inputs, description.outputs
        order_in = checks.order(model.name, "input", model.inputs, [tensor.name for tensor in inputs])
        order_out = checks.order(model.name, "output", model.outputs, [tensor.name for tensor in outputs])
        self._inputs = tuple(_info(inputs[at]) for at in order_in)
        self._outputs = tuple(_info(outputs[at]) for at in order_out)
        self._computed = [outputs[at] for at in order_out]
        self._totals: dict[str, Array] = {}
        self._closed = False
        self._done = 0
        self.calls: deque[tuple[Array, ...]] = deque(maxlen=CALLS_KEPT)
        self.resets = 0

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference; see the protocol."""
        if self._closed:
            raise checks.closed_error(self._model)
        infos = self._inputs
        if len(inputs) != len(infos) or not all(map(checks.matches, inputs, infos)):
            raise checks.input_error(self._model, infos, inputs)
        self.calls.append(tuple(array.copy() for array in inputs))
        self._done += 1
        if self._model_description.delay_ms:
            time.sleep(self._model_description.delay_ms / 1000)
        if self._done in self._model_description.fail_at:
            raise BackendError(
                f"{self._model}: inference {self._done} failed, as its description asks. Take it out of `fail_at`."
            )
        by_name = {info.name: array for info, array in zip(infos, inputs, strict=True)}
        return [self._compute(output, by_name) for output in self._computed]

    def reset(self) -> None:
        """Forget what ``accumulate`` added up."""
        if self._closed:
            raise checks.closed_error(self._model)
        self._totals.clear()
        self.resets += 1

    def close(self) -> None:
        """End the session."""
        self._closed = True

    def _compute(self, output: FakeOutput, inputs: dict[str, Array]) -> Array:
        arrays = [inputs[name] for name in output.of]
        value: Any
        if output.op == "fill":
            value = output.value
        elif output.op == "mean":
            value = np.mean([float(np.mean(array)) for array in arrays])
        elif output.op == "relu":
            value = np.maximum(arrays[0], 0)
        elif output.op in ("copy", "accumulate"):
            value = arrays[0]
        else:
            value = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}[output.op](arrays[0], arrays[1])
        if output.op == "accumulate":
            value = value + self._totals.get(output.name, 0)
            self._totals[output.name] = value
        shape = tuple(1 if size == -1 else size for size in output.shape)
        if -1 in output.shape and np.ndim(value) == len(shape):
            shape = np.shape(value)
        return np.resize(np.asarray(value).astype(output.dtype), shape)


_ARITY = {"copy": 1, "relu": 1, "accumulate": 1, "add": 2, "subtract": 2, "multiply": 2, "fill": 0}


def _check(description: FakeModel) -> None:
    """Raise ValueError or TypeError where the parts of a description do not fit together."""
    known = [tensor.name for tensor in description.inputs]
    for tensor in (*description.inputs, *description.outputs):
        np.dtype(tensor.dtype)
        if any(size < -1 or size == 0 for size in tensor.shape):
            raise ValueError(f"{tensor.name!r} has shape {tensor.shape}, expected positive sizes, or -1 for any")
    for output in description.outputs:
        unknown = [name for name in output.of if name not in known]
        if unknown:
            raise ValueError(f"output {output.name!r} is made of unknown inputs {unknown}; known: {known}")
        due = _ARITY.get(output.op)
        if (due is not None and len(output.of) != due) or (due is None and not output.of):
            raise ValueError(
                f"output {output.name!r}: {output.op} is made of {due or 'at least 1'} inputs, got {output.of}"
            )


def _info(tensor: FakeTensor) -> TensorInfo:
    return TensorInfo(
        name=tensor.name, shape=tensor.shape, dtype=np.dtype(tensor.dtype), quantization=tensor.quantization
    )
