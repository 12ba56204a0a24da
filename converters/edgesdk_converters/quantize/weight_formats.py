"""Stores integer weights so that both runtimes execute them: per scheme, the initializers and the nodes in front of a layer.

- 8 bits with integer activations: int8 behind DequantizeLinear, which ONNX Runtime fuses into QLinearConv and the like.
- 4 bits with integer activations: int4 (half the bytes) behind a Cast to int8, which ONNX Runtime computes when it loads the
  model, and DequantizeLinear: the int8 kernels run. DequantizeLinear straight from int4 is not fused by ONNX Runtime 1.32:
  the layer is then computed in float.
- weights only: int8 or int4 behind Cast and Mul, which ONNX Runtime computes when it loads the model, so that the layer runs
  at float speed; it does not do that with DequantizeLinear, which costs time in every inference. A MatMul or Gemm with 4 bits
  becomes MatMulNBits (block-wise scales), whose kernel reads the packed weights.
- dynamic: DynamicQuantizeLinear and MatMulInteger, with the patterns that ONNX Runtime fuses.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.quantize.units import Quantizable, Unit, weight_axis

Array = NDArray[Any]
MICROSOFT = "com.microsoft"
_TINY = 1e-12
_WHOLE = 127


class WeightQuantizer(Protocol):
    """Finds the integers of a layer's weights."""

    def __call__(
        self, node: Quantizable, weight: Array, *, bits: int, axis: int | None, limit: int, blocks: bool = False
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Quantize symmetrically.

        Args:
            node: Whose weights they are.
            weight: float32, any shape.
            bits: 8 or 4.
            axis: Of the output channels, each with its own scale; None: one scale for all.
            limit: Largest magnitude of the integers: 127, 63 or 7.
            blocks: ``weight`` is (outputs * blocks, block size): each row a part of what one output is multiplied with.

        Returns:
            Integers of ``weight``'s shape, and scales (C,) or ().
        """
        ...


def nearest(
    node: Quantizable, weight: Array, *, bits: int, axis: int | None, limit: int, blocks: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each weight to its nearest integer; the largest magnitude of a channel sets its scale."""
    del node, bits, blocks
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight.astype(np.float64)).max(axis=others, initial=0.0)
    scale = np.maximum(np.asarray(largest / limit), _TINY).astype(np.float32)
    q = np.clip(np.rint(weight / spread(scale, weight.ndim, axis)), -limit, limit)
    return q.astype(np.int8), scale


def spread(scale: Array, ndim: int, axis: int | None) -> Array:
    """Scales (C,) shaped to multiply a tensor along ``axis``."""
    if axis is None or scale.ndim == 0:
        return scale
    shape = [1] * ndim
    shape[axis] = -1
    return scale.reshape(shape)


class WeightWriter:
    """Collects the initializers and nodes of all layers."""

    def __init__(
        self, model: onnx.ModelProto, quantizer: WeightQuantizer, *, per_channel: bool, limit: int, block_size: int
    ) -> None:
        self._model = model
        self._quantizer = quantizer
        self._per_channel, self._limit, self._block_size = per_channel, limit, block_size
        self.nodes: list[Any] = []
        """In front of everything else."""

    def quantize(
        self, unit: Unit, weight: Array, *, bits: int, computed: bool = True
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], int | None]:
        """Integers, scales and their axis; what is not ``computed`` with as integers needs no reduced range."""
        axis: int | None = weight_axis(unit.node)
        if not self._per_channel or (unit.node.op_type == "ConvTranspose" and attribute(unit.node, "group", 1) != 1):
            axis = None
        limit = 7 if bits == 4 else self._limit if computed else _WHOLE
        q, scale = self._quantizer(unit.info, weight, bits=bits, axis=axis, limit=limit)
        return q, np.asarray(scale, np.float32), axis

    def integer(self, unit: Unit, q: Array, scale: Array, axis: int | None, *, bits: int) -> str:
        """Weights for integer activations; the name of the dequantized tensor."""
        name = f"{unit.info.name}_weight"
        if bits == 4:
            self._add4(f"{name}_packed", q)
            self.nodes.append(
                helper.make_node("Cast", [f"{name}_packed"], [f"{name}_quantized"], f"{name}_Cast", to=TensorProto.INT8)
            )
        else:
            self.add(f"{name}_quantized", q)
        return self._dequantize(name, scale, axis, np.int8)

    def bias(self, unit: Unit, q: Array, scale: Array) -> str:
        """int32 bias; the name of the dequantized tensor."""
        name = f"{unit.info.name}_bias"
        self.add(f"{name}_quantized", q)
        return self._dequantize(name, scale, 0 if scale.ndim else None, np.int32)

    def stored(self, unit: Unit, q: Array, scale: Array, axis: int | None, *, bits: int) -> str:
        """Weights for float arithmetic; the name of the float tensor, which is constant when the model is loaded."""
        name = f"{unit.info.name}_weight"
        if bits == 4:
            self._add4(f"{name}_packed", q)
        else:
            self.add(f"{name}_quantized", q)
        self.add(f"{name}_scale", np.asarray(spread(scale, q.ndim, axis)))
        source = f"{name}_packed" if bits == 4 else f"{name}_quantized"
        self.nodes += [
            helper.make_node("Cast", [source], [f"{name}_cast"], f"{name}_Cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [f"{name}_dequantized"], f"{name}_Mul"),
        ]
        return f"{name}_dequantized"

    def blockwise(self, unit: Unit, weight: Array) -> list[Any]:
        """MatMulNBits in place of a MatMul or Gemm, and an Add for the latter's bias."""
        node, size = unit.node, self._block_size
        if node.op_type == "Gemm" and attribute(node, "transB", 0):
            weight = weight.T
        rows, columns = weight.shape
        blocks = -(-rows // size)
        padded = np.zeros((blocks * size, columns), np.float32)
        padded[:rows] = weight
        groups = np.ascontiguousarray(padded.T).reshape(columns * blocks, size)
        q, scale = self._quantizer(unit.info, groups, bits=4, axis=0, limit=7, blocks=True)
        unsigned = (q.astype(np.int16) + 8).astype(np.uint8).reshape(columns, blocks, size)
        name = f"{unit.info.name}_weight"
        self.add(f"{name}_packed", unsigned[..., 0::2] | (unsigned[..., 1::2] << 4))
        self.add(f"{name}_scale", np.asarray(scale, np.float32).reshape(columns, blocks))
        self.imports(MICROSOFT, 1)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        result = node.output[0]
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], f"{name}_packed", f"{name}_scale"],
            [f"{unit.info.name}_product" if bias else result],
            node.name,
            domain=MICROSOFT,
            K=rows,
            N=columns,
            bits=4,
            block_size=size,
        )
        if not bias:
            return [product]
        return [product, helper.make_node("Add", [product.output[0], bias], [result], f"{unit.info.name}_Add")]

    def dynamic(self, unit: Unit, view: GraphView) -> list[Any]:
        """Nodes in place of a layer whose activations are quantized as they come."""
        node, name = unit.node, unit.info.name
        weight = view.constant(node.input[1])
        assert weight is not None
        q, scale, _ = self.quantize(unit, weight, bits=8)
        if node.op_type == "Gemm" and attribute(node, "transB", 0):
            q = np.ascontiguousarray(q.T)
        self.add(f"{name}_weight_quantized", q)
        self.add(f"{name}_weight_scale", scale)
        operands = [f"{name}_input_{part}" for part in ("quantized", "scale", "zero_point")]
        result, bias = node.output[0], node.input[2] if len(node.input) > 2 and node.input[2] else ""
        product = f"{name}_product" if bias else result
        made = [
            helper.make_node("DynamicQuantizeLinear", [node.input[0]], operands, f"{name}_DynamicQuantizeLinear"),
            helper.make_node(
                "MatMulInteger",
                [operands[0], f"{name}_weight_quantized", operands[2]],
                [f"{name}_sum"],
                f"{name}_MatMulInteger",
            ),
            helper.make_node("Cast", [f"{name}_sum"], [f"{name}_cast"], f"{name}_Cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [operands[1], f"{name}_weight_scale"], [f"{name}_scale"], f"{name}_Mul_scales"),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [product], f"{name}_Mul"),
        ]
        if bias:
            value = view.constant(bias)
            assert value is not None
            self.add(f"{name}_bias_shaped", value.reshape(-1))
            made.append(helper.make_node("Add", [product, f"{name}_bias_shaped"], [result], f"{name}_Add"))
        return made

    def table(self, unit: Unit, view: GraphView) -> list[Any]:
        """Nodes in place of a Gather of rows: integers, and the scale of each row."""
        node, name = unit.node, unit.info.name
        rows = view.constant(node.input[0])
        assert rows is not None
        q, scale = nearest(unit.info, rows, bits=8, axis=0, limit=127)
        self.add(f"{name}_rows_quantized", q)
        self.add(f"{name}_rows_scale", scale.reshape(-1, 1))
        taken, real, scales = f"{name}_integers", f"{name}_cast", f"{name}_scales"
        return [
            helper.make_node("Gather", [f"{name}_rows_quantized", node.input[1]], [taken], name),
            helper.make_node("Cast", [taken], [real], f"{name}_Cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_rows_scale", node.input[1]], [scales], f"{name}_Gather_scales"),
            helper.make_node("Mul", [real, scales], [node.output[0]], f"{name}_Mul"),
        ]

    def imports(self, domain: str, version: int) -> None:
        """Make the model import a domain."""
        if all(entry.domain != domain for entry in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(domain, version))

    def add(self, name: str, value: Array) -> None:
        """A new initializer."""
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))

    def _add4(self, name: str, q: Array) -> None:
        flat = q.reshape(-1).astype(np.int8)
        flat = np.concatenate([flat, np.zeros(flat.size % 2, np.int8)]).view(np.uint8) & 15
        packed = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)
        self._model.graph.initializer.append(
            helper.make_tensor(name, TensorProto.INT4, q.shape, packed.tobytes(), raw=True)
        )

    def _dequantize(self, name: str, scale: Array, axis: int | None, dtype: type[Any]) -> str:
        self.add(f"{name}_scale", scale)
        self.add(f"{name}_zero_point", np.zeros(scale.shape, dtype))
        extra = {} if axis is None else {"axis": axis}
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"],
                [f"{name}_dequantized"],
                f"{name}_DequantizeLinear",
                **extra,
            )
        )
        return f"{name}_dequantized"
