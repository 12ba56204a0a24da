"""Quantized graphs as other people's tools write them, against ONNX Runtime without its optimiser (which mistakes some of them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower import lower

SHAPE = (1, 4, 6, 6)


class Writer:
    """Writes a graph node by node; every method returns a tensor name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []
        self.rng: Any = np.random.default_rng(0)

    def constant(self, value: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, code: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(code, list(inputs), [name], name=f"{code}{len(self.nodes)}", **attributes))
        return name

    def q(self, x: str, scale: Any, zero: Any = 0, dtype: str = "int8", **attributes: Any) -> str:
        return self.op("QuantizeLinear", x, self.constant(scale), self.constant(zero, dtype), **attributes)

    def dq(self, x: str, scale: Any, zero: Any = 0, dtype: str = "int8", **attributes: Any) -> str:
        return self.op("DequantizeLinear", x, self.constant(scale), self.constant(zero, dtype), **attributes)

    def pair(self, x: str, scale: float, zero: int = 0, dtype: str = "int8") -> str:
        return self.dq(self.q(x, scale, zero, dtype), scale, zero, dtype)

    def weights(self, *shape: int, dtype: str = "int8") -> str:
        values = self.rng.integers(-100, 100, shape) + (128 if dtype == "uint8" else 0)
        return self.constant(values, dtype)

    def flat(self, x: str, *shape: int) -> str:
        return self.pair(self.op("Reshape", x, self.constant(shape, "int64")), 0.02, 3)

    def model(self, opset: int) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", 1, SHAPE)
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "g", [x], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


Build = Callable[[Writer, str], str]
STEP = 0.05


def _conv(w: Writer, x: str, *, bias: str = "", weights: str = "", **attributes: Any) -> str:
    kernel = weights or w.dq(w.weights(5, 4, 3, 3), 0.002)
    return w.op("Conv", x, kernel, *([bias] if bias else []), pads=[1, 1, 1, 1], **attributes)


def _gemm(w: Writer, x: str, *, scale: Any = 0.004, axis: int = 1, **attributes: Any) -> str:
    data = w.flat(x, 4, 36) if attributes.get("transA") else w.flat(x, 36, 4)
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    zero = np.zeros(np.shape(scale))
    kernel = w.dq(w.weights(*shape), scale, zero, axis=axis)
    bias = w.dq(w.constant(w.rng.integers(-300, 300, 6), "int32"), 0.00008, 0, "int32")
    return w.op("Gemm", data, kernel, bias, **attributes)


def _shared(w: Writer, x: str, what: str) -> str:
    kernel, bias = w.weights(4, 4, 1, 1), w.constant([1000, -1000, 500, 0], "int32")
    other = kernel if what == "weights" else w.weights(4, 4, 1, 1)
    made = []
    for weights, scale in ((kernel, 0.002), (other, 0.004)):
        product = w.op("Conv", x, w.dq(weights, scale), w.dq(bias, 0.02 * scale, 0, "int32"))
        made.append(w.pair(product, 20 * scale))
    return w.op("Add", *made)


COMPUTED: dict[str, tuple[Build, str]] = {
    "bias in other steps": (lambda w, x: _conv(w, x, bias=w.dq(w.constant([1000, -2000, 300, 0, 5], "int32"), 0.001, 0, "int32")), "CONV_2D"),
    "bias in float": (lambda w, x: _conv(w, x, bias=w.constant([1, -2, 0.3, 0, 0.5])), "CONV_2D"),
    "bias in 8 bits": (lambda w, x: _conv(w, x, bias=w.dq(w.constant([100, -20, 30, 0, 5], "int8"), 0.01)), "CONV_2D"),
    "scales along the inputs": (lambda w, x: _conv(w, x, weights=w.dq(w.weights(5, 4, 3, 3), [0.001, 0.002, 0.004, 0.006], np.zeros(4), axis=1)), ""),
    "matmul, scales along the inputs": (lambda w, x: w.op("MatMul", w.flat(x, 36, 4), w.dq(w.weights(4, 4), [0.001, 0.002, 0.004, 0.006], np.zeros(4), axis=0)), ""),
    "matmul, scales along the outputs": (lambda w, x: w.op("MatMul", w.flat(x, 36, 4), w.dq(w.weights(4, 4), [0.001, 0.002, 0.004, 0.006], np.zeros(4), axis=1)), "CONV_2D"),
    "gemm, one bias scale for all": (lambda w, x: _gemm(w, x, scale=[0.001, 0.002, 0.003, 0.004, 0.005, 0.006], axis=0, transB=1), "CONV_2D"),
    "gemm with alpha and beta": (lambda w, x: _gemm(w, x, alpha=0.5, beta=2.0), "CONV_2D"),
    "gemm of the transposed": (lambda w, x: _gemm(w, x, transA=1), ""),
    "weights shared under two scales": (lambda w, x: _shared(w, x, "weights"), "CONV_2D"),
    "bias shared under two scales": (lambda w, x: _shared(w, x, "bias"), "CONV_2D"),
    "transposed convolution": (lambda w, x: w.op("ConvTranspose", x, w.dq(w.weights(4, 5, 3, 3), np.full(5, 0.002), np.zeros(5), axis=1), strides=[2, 2]), ""),
    "groups": (lambda w, x: w.op("Conv", x, w.dq(w.weights(4, 2, 3, 3), 0.002), group=2), "CONV_2D"),
    "uint8 weights around 100": (lambda w, x: w.op("Conv", x, w.dq(w.weights(4, 4, 1, 1, dtype="uint8"), 0.002, 100, "uint8")), ""),
}  # fmt: skip
"""Name -> what computes between two pairs, and the operator that must do it on integers ("" where it stays float)."""


def _run(content: bytes, x: Any) -> list[Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def _check(w: Writer, *, opset: int = 17, steps: float = 1.05 * STEP) -> bytes:
    model = w.model(opset)
    x = np.random.default_rng(1).normal(0, 0.8, SHAPE).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted: Sequence[Any] = session.run(None, {"x": x})
    content = lower(model)
    for found, expected in zip(_run(content, x), wanted, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=0, atol=steps)
    return content


def _integer_codes(content: bytes) -> set[str]:
    model = fb.read(content)
    graph = model.subgraphs[0]
    return {
        fb.code_name(fb.code_of(model, operator))
        for operator in graph.operators
        if fb.type_name(graph.tensors[fb.ids(operator.outputs)[0]].type) == "int8"
    } - {"QUANTIZE"}


@pytest.mark.parametrize("name", COMPUTED)
def test_lower__of_quantized_products_gives_the_numbers_of_onnx(name: str) -> None:
    build, integer = COMPUTED[name]
    w = Writer()
    w.outputs = [w.pair(build(w, w.pair("x", 0.02, 3)), STEP, -4)]
    codes = _integer_codes(_check(w))
    assert integer in codes if integer else not codes & {"CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}


@pytest.mark.parametrize(
    "move",
    [
        lambda w, q: w.op("Transpose", q, perm=[0, 2, 3, 1]),
        lambda w, q: w.op("MaxPool", q, kernel_shape=[2, 2]),
        lambda w, q: w.op("Transpose", w.op("MaxPool", q, kernel_shape=[2, 2]), perm=[0, 2, 3, 1]),
        lambda w, q: w.op("Concat", q, q, axis=1),
        lambda w, q: w.op("Reshape", q, w.constant([4, 36], "int64")),
    ],
)
@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 130), ("int8", 3)])
def test_lower__of_integers_moved_between_the_pair(move: Build, dtype: str, zero: int) -> None:
    w = Writer()
    w.outputs = [w.op("Relu", w.dq(move(w, w.q("x", 0.02, zero, dtype)), 0.02, zero, dtype))]
    _check(w, steps=0.021)


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 130), ("int8", 3)])
def test_lower__of_integers_that_somebody_takes_as_numbers(dtype: str, zero: int) -> None:
    w = Writer()
    q = w.q("x", 0.02, zero, dtype)
    w.outputs = [w.op("Add", w.dq(q, 0.02, zero, dtype), w.op("Cast", q, to=1)), q]
    _check(w, steps=1.05)


def test_lower__of_integers_read_under_two_scales() -> None:
    w = Writer()
    q = w.q("x", 0.02, 3)
    w.outputs = [w.op("Add", w.dq(q, 0.02, 3), w.dq(q, 0.04, 0))]
    _check(w, steps=0.061)


def test_lower__of_computed_int32_that_is_dequantized() -> None:
    w = Writer()
    w.outputs = [w.dq(w.op("Cast", "x", to=6), 0.02, 0, "int32")]
    _check(w)


@pytest.mark.parametrize(
    ("build", "reason", "fix"),
    [
        (lambda w: w.pair("x", 0.0005, 7, "int16"), "its int16 numbers have a zero point", "Quantize 16 bits symmetrically"),
        (lambda w: w.pair("x", 0.0005, 30000, "uint16"), "it quantizes to uint16", "Quantize activations to 8 bits, or to int16"),
        (
            lambda w: w.op("Add", w.op("Reshape", "x", w.constant([18, 8], "int64")), w.op("DequantizeLinear", w.weights(8), w.constant([0.01, 0.02]), axis=0, block_size=4)),
            "its scale or zero point is computed, not positive, or has blocks", "Quantize with constant scales per tensor or channel",
        ),
    ],
)  # fmt: skip
def test_lower__of_what_the_kernels_cannot_read_is_refused(
    build: Callable[[Writer], str], reason: str, fix: str
) -> None:
    w = Writer()
    w.outputs = [build(w)]
    with pytest.raises(NotExpressibleError) as caught:
        lower(w.model(21))
    assert reason in str(caught.value)
    assert fix in str(caught.value)
