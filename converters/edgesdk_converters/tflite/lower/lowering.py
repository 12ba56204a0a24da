"""The builder that the operator families write with: values and their layouts in, TFLite operators out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from edgesdk.errors import NodeProblem
from edgesdk_converters.tflite.lower import kernels
from edgesdk_converters.tflite.lower import layout as layouts
from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Layout, Node, Operator, Quantization, Tensor, Value
from edgesdk_converters.tflite.lower.problems import MALFORMED, Refusal, malformed
from edgesdk_converters.tflite.lower.registry import rule_of

INNER = {"int64": "int32", "float16": "float32", "float64": "float32"}
"""Types that are computed in another one: int64 holds shapes and indices in ONNX, and TFLite's kernels want int32.
float64 comes from exporters that count a detector's anchors in it."""
_COMPUTED = frozenset({"float32", "int32", "int16", "int8", "uint8", "bool", "int4", "uint32"})


class Lowering:
    """One model on its way. Families call its methods; `run` drives them.

    Attributes:
        graph: The ONNX graph.
        operators: What was written so far, in order of execution.
        inputs: The file's inputs.
        outputs: The file's outputs.
        problems: Nodes that cannot be expressed.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operators: list[Operator] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.problems: list[NodeProblem] = []
        self.shuffled: dict[str, Array] = {}
        """Flattened tensors whose elements lie in another order: position -> ONNX index along the last axis. Only their
        consumers that permute their weights see them (`families.shapes`, `families.matmul`)."""
        self._values: dict[str, Value] = {}
        self._moved: dict[tuple[Tensor, tuple[int, ...]], Tensor] = {}
        self._names: set[str] = set(graph.infos)
        self._node = ""

    # -- driving --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Lower the whole graph; what cannot be is in `problems` afterwards, all of it."""
        for name in self.graph.inputs:
            self._input(name)
        for name in self.graph.outputs:
            if name not in self.graph.infos and not self.problems:
                fix = "Check the model with onnx.checker and export it again"
                self.problems.append(NodeProblem(name, "output", "no node makes it, or its shape is not known", fix))
        for node in self.graph.nodes:
            self._node = node.name
            self._lower(node)
        self._node = ""
        for name in self.graph.outputs if not self.problems else ():
            try:
                self.outputs.append(self._output(name))
            except Refusal as refusal:
                self.problems.append(NodeProblem(name, "output", refusal.reason, refusal.fix))

    def _lower(self, node: Node) -> None:
        rule = rule_of(node.op_type, node.domain)
        try:
            if rule is None:
                where = f" of domain {node.domain!r}" if node.domain else ""
                self.refuse(f"there is no TFLite operator for it{where}", "Replace it, or cut the model before it")
            missing = [n for n in (*node.inputs, *node.outputs) if n and n not in self.graph.infos]
            if missing:
                self.refuse(f"the shape of {missing[0]!r} is not static", "Pin the shapes of the inputs")
            rule.family(self, node)
            unbound = [name for name in node.outputs if name and name not in self._values]
            if unbound and any(name in self._wanted() for name in unbound):
                self.refuse(f"its output {unbound[0]!r} is not supported", "Do not use that output")
        except (Refusal, *MALFORMED) as error:
            # All but the first kind: a node that onnx's own checks let through with attributes that make no sense.
            refusal = error if isinstance(error, Refusal) else malformed(error)
            self.problems.append(NodeProblem(node.name, node.op_type, refusal.reason, refusal.fix))
            for name in node.outputs:  # so that what follows is judged too
                if name and name not in self._values and name in self.graph.infos:
                    info = self.graph.infos[name]
                    self.bind(name, Tensor(name, info.shape, INNER.get(info.dtype, info.dtype)))

    def _wanted(self) -> set[str]:
        return {name for node in self.graph.nodes for name in node.inputs} | set(self.graph.outputs)

    # -- what comes in --------------------------------------------------------------------------------------------

    def info(self, name: str) -> Info:
        """Shape and type of an ONNX tensor."""
        return self.graph.infos[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """ONNX shape of a tensor."""
        return self.graph.infos[name].shape

    def dtype(self, name: str) -> str:
        """The type that a tensor is computed in (int32 where ONNX says int64)."""
        info = self.graph.infos[name]
        return info.dtype if info.quantization is not None else INNER.get(info.dtype, info.dtype)

    def constant(self, name: str) -> Array | None:
        """Value of a constant, in ONNX order and its ONNX type; None where it is computed or left out."""
        return self.graph.constant(name)

    def value(self, name: str) -> Value:
        """A tensor as it lies now. Look at ``.layout`` and follow it."""
        if name not in self._values:
            info = self.graph.infos[name]
            if info.data is None:
                raise Refusal(f"tensor {name!r} is not computed by any node")
            tensor = Tensor(name, info.shape, self.dtype(name), self._narrow(name, info), info.quantization)
            self._values[name] = Value(tensor, layouts.plain(info.rank))
        return self._values[name]

    def layout(self, name: str) -> Layout:
        """How a tensor lies now."""
        return self.value(name).layout

    def tensor(self, name: str, layout: Layout | None = None) -> Tensor:
        """A tensor brought into ``layout`` (None: ONNX order); costs a TRANSPOSE only where elements really move."""
        value = self.value(name)
        return self.move(value.tensor, layouts.permutation(value.layout, layout or layouts.plain(len(value.layout))))

    def move(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """A tensor transposed by ``order``; free for constants, a RESHAPE where only axes of size 1 move."""
        order = tuple(order)
        if order == layouts.plain(len(order)):
            return tensor
        key = (tensor, order)  # itself and not its id, which the next tensor has when this one is gone
        if key not in self._moved:
            shape = layouts.physical(tensor.shape, order)
            quantization = _moved_quantization(tensor.quantization, order)
            made = Tensor(self.fresh(tensor.name), shape, tensor.dtype, None, quantization)
            if tensor.data is not None:
                made.data = np.ascontiguousarray(tensor.data.transpose(order))
            elif not layouts.moves_data(tensor.shape, order):
                self.emit("RESHAPE", [tensor, self.ints(shape)], [made], newShape=list(shape))
            elif len(order) > kernels.MOST_AXES:
                sizes, runs = layouts.runs(tensor.shape, order)
                turned = self.move(self.reshaped(tensor, sizes), runs)
                self.emit("RESHAPE", [turned, self.ints(shape)], [made], newShape=list(shape))
            else:
                self.emit("TRANSPOSE", [tensor, self.ints(order)], [made])
            self._moved[key] = made
        return self._moved[key]

    # -- what goes out --------------------------------------------------------------------------------------------

    def out(self, name: str, layout: Layout | None = None) -> Tensor:
        """Make and bind the tensor of a node's output that will lie as ``layout`` (None: ONNX order)."""
        info = self.graph.infos[name]
        order = layout or layouts.plain(info.rank)
        quantization = _moved_quantization(info.quantization, order)
        tensor = Tensor(name, layouts.physical(info.shape, order), self.dtype(name), None, quantization)
        self.bind(name, tensor, order)
        return tensor

    def bind(self, name: str, tensor: Tensor, layout: Layout | None = None) -> None:
        """Say that the ONNX tensor ``name`` is ``tensor``, lying as ``layout`` (None: ONNX order)."""
        self._values[name] = Value(tensor, layouts.plain(len(tensor.shape)) if layout is None else layout)

    def emit(self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], **options: Any) -> None:
        """Append an operator. ``options`` are fields of its options table; enums by their names (``padding="SAME"``)."""
        if flat := self._flattened(code, inputs, outputs):
            self.emit(code, flat[0], flat[1], **options)
            made = outputs[0]
            self.emit("RESHAPE", [flat[1][0], self.ints(made.shape)], [made], newShape=list(made.shape))
            return
        taken, given = self._suited(code, list(inputs), list(outputs))
        self.operators.append(Operator(code, taken, given, options, self._node))
        for made, wanted in zip(given, outputs, strict=True):
            if made is not wanted:
                self.operators.append(Operator("CAST", [made], [wanted], {}, self._node))

    def _flattened(
        self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
    ) -> tuple[list[Tensor | None], list[Tensor]] | None:
        """Operands and result with neighbouring axes joined, where a kernel broadcasts over fewer axes than there are."""
        most = kernels.BROADCAST_AXES.get(code, kernels.MOST_AXES if code in kernels.ELEMENTWISE else None)
        shapes = [tensor.shape for tensor in inputs if tensor is not None]
        if most is None or len(outputs[0].shape) <= most:
            return None
        if all(shape == shapes[0] for shape in shapes) and len(outputs[0].shape) <= kernels.MOST_AXES:
            return None
        joined, result = layouts.joined(shapes, outputs[0].shape)
        if len(result) > most:
            reason = f"{code} would broadcast over {len(result)} axes, and its kernel over at most {most}"
            self.refuse(reason, "Expand one operand before it")
        new = iter(joined)
        taken = [None if tensor is None else self.reshaped(tensor, next(new)) for tensor in inputs]
        made = outputs[0]
        return taken, [Tensor(self.fresh(made.name), result, made.dtype, None, made.quantization)]

    def _suited(
        self, code: str, inputs: list[Tensor | None], outputs: list[Tensor]
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """The operands in a type that the operator has a kernel for, and results of that type; see `kernels`."""
        places = kernels.places(code, len(inputs))
        operands = [tensor for place in places if (tensor := inputs[place]) is not None]
        axes = max((len(tensor.shape) for tensor in (*operands, *outputs)), default=0)
        if axes > kernels.most_axes(code):
            reason = f"{code} would have {axes} axes, and its kernel has at most {kernels.most_axes(code)}"
            self.refuse(reason, "Join axes that lie side by side by a Reshape")
        kinds = list(dict.fromkeys(tensor.dtype for tensor in operands))
        if len(kinds) > 1 and code not in kernels.HYBRID:
            self.refuse(f"its operands are {' and '.join(kinds)}", "Cast them to one type before it")
        if not operands or any(tensor.quantization is not None for tensor in (*operands, *outputs)):
            return inputs, outputs
        suited = kernels.computed_in(code, kinds[0])
        if suited is None:
            self.refuse(f"it takes {kinds[0]}, for which TFLite's {code} has no kernel", "Cast to float32 before it")
        if suited == kinds[0]:
            return inputs, outputs
        taken = [
            self._cast(tensor, suited) if place in places and tensor is not None else tensor
            for place, tensor in enumerate(inputs)
        ]
        if not kernels.keeps_type(code):
            return taken, outputs
        given = [
            Tensor(self.fresh(tensor.name), tensor.shape, suited) if tensor.dtype == kinds[0] else tensor
            for tensor in outputs
        ]
        return taken, given

    def _cast(self, tensor: Tensor, dtype: str) -> Tensor:
        if tensor.data is not None:
            return self.const(tensor.data.astype(dtype), tensor.name)
        return self.op("CAST", [tensor], tensor.shape, dtype)

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        dtype: str = "float32",
        quantization: Quantization | None = None,
        **options: Any,
    ) -> Tensor:
        """Append an operator whose single output is a tensor in between; returns that."""
        made = Tensor(self.fresh(self._node or code.lower()), tuple(int(s) for s in shape), dtype, None, quantization)
        self.emit(code, inputs, [made], **options)
        return made

    def const(self, value: ArrayLike, name: str = "") -> Tensor:
        """A constant as it lies in memory; float64 becomes float32 and int64 int32."""
        array: Array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        if array.dtype == np.int64:
            array = array.astype(np.int32)
        return Tensor(self.fresh(name or f"{self._node}/const"), tuple(array.shape), array.dtype.name, array)

    def ints(self, values: Iterable[int]) -> Tensor:
        """An int32 vector: axes, shapes, permutations."""
        return self.const(np.asarray([int(v) for v in values], np.int32), "ints")

    def zeros(self, shape: Sequence[int], *, like: Node) -> Tensor:
        """A bias of zeros for a node: float32, or int32/int64 with the product of the scales where it is quantized."""
        data, weight = self.info(like.inputs[0]), self.info(like.inputs[1])
        made = self.const(np.zeros(tuple(shape), np.float32), f"{like.name}/zero_bias")
        if data.quantization is not None and weight.quantization is not None:
            made.dtype = "int64" if data.dtype == "int16" else "int32"
            made.data = np.zeros(tuple(shape), made.dtype)
            scale = np.asarray(data.quantization.scale * weight.quantization.scale, np.float32)
            made.quantization = Quantization(scale, np.zeros(scale.shape, np.int64), 0 if scale.size > 1 else None)
        return made

    def rename(self, tensor: Tensor, target: Tensor) -> bool:
        """Let the operator that makes ``tensor`` make ``target`` instead; False where it cannot (shapes differ, input)."""
        if tensor.shape != target.shape or tensor.dtype != target.dtype:
            return False
        for operator in reversed(self.operators):
            for place, made in enumerate(operator.outputs):
                if made is tensor:
                    operator.outputs[place] = target
                    return True
        return False

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """``tensor`` with another shape; the tensor itself where it has that shape."""
        if tuple(shape) == tensor.shape:
            return tensor
        if tensor.data is not None:
            data = tensor.data.reshape(tuple(shape))
            return Tensor(self.fresh(tensor.name), tuple(shape), tensor.dtype, data, tensor.quantization)
        return self.op(
            "RESHAPE", [tensor, self.ints(shape)], shape, tensor.dtype, tensor.quantization, newShape=list(shape)
        )

    def fresh(self, name: str) -> str:
        """A tensor name that is not taken, like ``name``."""
        candidate, number = name, 0
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def refuse(self, reason: str, fix: str = "") -> Never:
        """Give this node up; the others are still looked at, and one error lists all of them."""
        raise Refusal(reason, fix)

    # -- the boundary ---------------------------------------------------------------------------------------------

    def _narrow(self, name: str, info: Info) -> Array:
        data = info.data
        assert data is not None
        inner = self.dtype(name)
        if info.dtype == "int64":
            limits = np.iinfo(np.int32)
            if data.size and (data.max() > limits.max or data.min() < limits.min):
                raise Refusal(f"constant {name!r} holds numbers beyond 32 bits, and TFLite computes indices in int32")
        return data if inner in ("int4", "uint4") else data.astype(inner, copy=False)

    def _input(self, name: str) -> None:
        info = self.graph.infos[name]
        tensor = Tensor(name, info.shape, info.dtype, None, info.quantization)
        self.inputs.append(tensor)
        if self.dtype(name) != info.dtype:
            tensor = self.op("CAST", [tensor], info.shape, self.dtype(name))
        if self.dtype(name) not in _COMPUTED:
            reason = f"is {info.dtype}, for which TFLite has no kernels"
            self.problems.append(NodeProblem(name, "input", reason, "Export the model in float32"))
        self.bind(name, tensor)

    def _output(self, name: str) -> Tensor:
        """The tensor of a graph output: ONNX order and type, ONNX name, and nobody else's."""
        info = self.graph.infos[name]
        if 0 in info.shape:
            self.refuse(f"it has no elements (shape {list(info.shape)})", "Take it out of the outputs")
        inner = self.tensor(name)
        if inner.dtype != info.dtype and info.quantization is None:
            made = self.op("CAST", [inner], info.shape, info.dtype)
        elif inner in self.inputs or inner in self.outputs or inner.data is not None or inner.shape != info.shape:
            made = self.op("RESHAPE", [inner, self.ints(info.shape)], info.shape, inner.dtype, inner.quantization, newShape=list(info.shape))  # fmt: skip
        else:
            made = inner
        if made.name != name:
            for tensor in self._tensors():
                if tensor.name == name and tensor is not made and tensor not in self.inputs:
                    tensor.name = self.fresh(name)
            made.name = name
        return made

    def _tensors(self) -> Iterable[Tensor]:
        for operator in self.operators:
            yield from operator.outputs
            yield from (tensor for tensor in operator.inputs if tensor is not None)


def _moved_quantization(quantization: Quantization | None, order: Sequence[int]) -> Quantization | None:
    if quantization is None or quantization.axis is None:
        return quantization
    return Quantization(quantization.scale, quantization.zero_point, list(order).index(quantization.axis))
