"""The ONNX graph under construction, and a TFLite operator as its functions see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lift.densify import densify

Array = NDArray[Any]

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
}


class CannotLiftError(ValueError):
    """What is special about this operator; `lift` adds where."""


@dataclass(frozen=True, slots=True)
class Op:
    """One operator of the main graph."""

    kind: str
    """``CONV_2D`` ..."""
    inputs: tuple[int, ...]
    """Tensor indices; -1 is an absent one."""
    outputs: tuple[int, ...]
    options: Any
    """The schema's option table, or None."""

    def option(self, name: str, default: Any = 0) -> Any:
        """An option, or what the schema has where the whole table is absent."""
        value = getattr(self.options, name, None)
        return default if value is None else value


Handler = Callable[["Builder", Op], None]
HANDLERS: dict[str, Handler] = {}


def lifts(*kinds: str) -> Callable[[Handler], Handler]:
    """Register the function for these operators."""

    def register(function: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = function
        return function

    return register


class Builder:
    """Nodes and initializers, by TFLite tensor index.

    A value is kept as it is in the file (plain) or with its channels first; the other form is made when it is asked for.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tensors = model.subgraphs[0].tensors
        self._plain: dict[int, str] = {}
        self._first: dict[int, str] = {}
        self._computed: dict[int, Array] = {}
        self._names: set[str] = set()
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    # -- tensors ------------------------------------------------------------------------------------------------

    def _tensor(self, index: int) -> Any:
        if index < 0:  # how the format says "none"
            raise CannotLiftError("it lacks an input or output")
        return self._tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """Static shape as in the file, channels last."""
        return tuple(fb.ids(self._tensor(index).shape))

    def dtype(self, index: int) -> str:
        """Numpy name."""
        return fb.type_name(self._tensor(index).type)

    def name(self, index: int) -> str:
        """In the file."""
        return fb.text(self._tensor(index).name) or f"tensor_{index}"

    def value(self, index: int) -> Array | None:
        """Of a constant; None where it is computed."""
        if index in self._computed:
            return self._computed[index]
        tensor = self._tensor(index)
        raw = fb.constant(self._model, tensor)
        if raw is None:
            return None
        kind = self.dtype(index)
        if kind not in _DTYPES:
            raise CannotLiftError(f"its constant {self.name(index)!r} is {kind}")
        scale = getattr(tensor.quantization, "scale", None)
        if _DTYPES[kind] in (np.int8, np.uint8) and scale is not None and len(scale):
            raise CannotLiftError(f"its constant {self.name(index)!r} is quantized already")
        stored: Array = np.frombuffer(raw, _DTYPES[kind])
        if tensor.sparsity is not None:
            return densify(stored, self.shape(index), tensor.sparsity)
        return stored.reshape(self.shape(index))

    def set_value(self, index: int, value: Array) -> None:
        """Say what a tensor is, where an operator only unpacks a constant."""
        self._computed[index] = value

    def known(self, index: int) -> Array:
        """Of a constant that must be one."""
        found = self.value(index)
        if found is None:
            raise CannotLiftError(f"{self.name(index)!r} is computed, expected a constant")
        return found

    def is_first(self, index: int) -> bool:
        """Whether the value is at hand with its channels first."""
        return index in self._first

    def plain(self, index: int) -> str:
        """The ONNX name of a value as it is in the file."""
        if index not in self._plain:
            constant = self.value(index)
            if constant is not None:
                self._plain[index] = self.constant(constant, self.name(index))
            elif index in self._first:
                self._plain[index] = self.node("Transpose", [self._first[index]], perm=TO_LAST)
            else:
                raise CannotLiftError(f"its input {self.name(index)!r} is made by nothing")
        return self._plain[index]

    def first(self, index: int) -> str:
        """The ONNX name of a 4-D value with its channels first."""
        if index not in self._first:
            constant = self.value(index)
            if constant is not None:
                self._first[index] = self.constant(np.transpose(constant, TO_FIRST), self.name(index))
            else:
                self._first[index] = self.node("Transpose", [self.plain(index)], perm=TO_FIRST)
        return self._first[index]

    def set_plain(self, index: int, name: str) -> None:
        """Say what computes a tensor."""
        self._plain[index] = name

    def set_first(self, index: int, name: str) -> None:
        """Say what computes a tensor, channels first."""
        self._first[index] = name

    # -- nodes --------------------------------------------------------------------------------------------------

    def constant(self, value: Array, hint: str = "constant") -> str:
        """An initializer."""
        name = self._unique(hint)
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, values: Sequence[int]) -> str:
        """An int64 initializer."""
        return self.constant(np.asarray(values, np.int64), "ints")

    def node(self, kind: str, inputs: Sequence[str], *, outputs: int = 1, name: str = "", **attributes: Any) -> str:
        """Append a node; the name of its first output."""
        return self.many(kind, inputs, outputs=outputs, name=name, **attributes)[0]

    def many(
        self, kind: str, inputs: Sequence[str], *, outputs: int, name: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Append a node; the names of its outputs."""
        made = tuple(self._unique(name or kind.lower()) for _ in range(outputs))
        self.nodes.append(helper.make_node(kind, list(inputs), list(made), f"{made[0]}_{kind}", **attributes))
        return made

    def activate(self, name: str, op: Op) -> str:
        """The activation that is fused into an operator."""
        code = int(op.option("fusedActivationFunction"))
        kind = fb.enum_name("ActivationFunctionType", code)
        if kind == "NONE":
            return name
        if kind == "RELU":
            return self.node("Relu", [name])
        if kind in ("RELU6", "RELU_N1_TO_1"):
            low, high = (0.0, 6.0) if kind == "RELU6" else (-1.0, 1.0)
            return self.clip(name, low, high)
        if kind == "TANH":
            return self.node("Tanh", [name])
        raise CannotLiftError(f"its fused activation {kind} has no counterpart")

    def clip(self, name: str, low: float, high: float) -> str:
        """Clip between two constants."""
        limits = [self.constant(np.asarray(limit, np.float32), "limit") for limit in (low, high)]
        return self.node("Clip", [name, *limits])

    def claim(self, name: str) -> str:
        """Reserve a name for an input or output of the graph."""
        return self._unique(name)

    def _unique(self, hint: str) -> str:
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name


def value_info(name: str, dtype: str, shape: Sequence[int]) -> Any:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def model_of(graph: Any) -> onnx.ModelProto:
    """Opset 17, IR 8: what the rest of the converters works on."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
