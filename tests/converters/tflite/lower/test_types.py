"""Integers that mean themselves, scalars, many axes: what is written runs and gives ONNX's numbers, the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite.lower import layout, lower, lowering

Check = Callable[..., Any]
TYPES = {"int64": 7, "int32": 6, "int16": 5, "int8": 3, "uint8": 2, "bool": 9}
CASES = {
    "Relu": ("int32", "int16", "int8"),
    "Abs": ("int64", "int32", "int8", "uint8"),
    "Neg": ("int32", "int8"),
    "Sign": ("int64", "int8", "uint8"),
    "Clip": ("int32", "int8", "uint8"),
    "ReduceSumSquare": ("int32", "int64"),
    "ReduceMax": ("int32", "int8", "uint8"),
    "ReduceSum": ("int32", "int64"),
    "ArgMax": ("int32", "int8", "uint8"),
    "Add": ("int32", "int8", "uint8", "int16"),
    "Mul": ("int32", "int64"),
    "Less": ("int32", "int64"),
    "Max": ("int32", "int8", "uint8"),
    "Where": ("int32", "uint8"),
    "Concat": ("int32", "int8", "uint8", "bool", "int16"),
    "Gather": ("int32", "int8", "uint8", "bool"),
    "Split": ("int32", "int8", "uint8", "bool"),
    "Tile": ("int32", "int8", "bool"),
    "Pad": ("int32", "int8", "uint8", "bool"),
    "CumSum": ("int32", "int64"),
    "TopK": ("int32", "int64", "uint8"),
    "MaxPool": ("int8", "uint8"),
    "Cast": ("int32", "int8", "bool"),
}


def _model(op: str, dtype: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    rng = np.random.default_rng(0)
    shape = (1, 2, 4, 4) if op == "MaxPool" else (2, 6)
    low = 0 if dtype in ("uint8", "bool") else -5
    x = rng.integers(low, 2 if dtype == "bool" else 6, shape).astype(dtype)
    if op == "TopK":
        x = rng.permutation(x.size).reshape(shape).astype(dtype)
    constants: dict[str, Any] = {
        "Clip": {"low": np.asarray(1, dtype), "high": np.asarray(3, dtype)},
        "ReduceSumSquare": {"axes": np.asarray([1])}, "ReduceMax": {"axes": np.asarray([1])},
        "ReduceSum": {"axes": np.asarray([1])}, "Gather": {"indices": np.asarray([1, 0, -1])},
        "Split": {"sizes": np.asarray([1, 5])}, "Tile": {"repeats": np.asarray([2, 1])},
        "Pad": {"amounts": np.asarray([0, 1, 1, 0])}, "CumSum": {"axis": np.asarray(1)}, "TopK": {"k": np.asarray([2])},
    }.get(op, {})  # fmt: skip
    if op in ("Add", "Mul", "Less", "Max", "Where", "Concat"):
        constants["other"] = rng.integers(low, 6, shape).astype(dtype)
    every: dict[str, dict[str, Any]] = {
        "ArgMax": {"axis": 1}, "Concat": {"axis": 1}, "Gather": {"axis": 1}, "Split": {"axis": 1}, "TopK": {"largest": 0},
        "MaxPool": {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1]}, "Cast": {"to": 1},
    }  # fmt: skip
    attributes = every.get(op, {})
    feeds = {"x": x}
    inputs = ["x", *constants]
    if op == "Where":
        feeds["c"] = rng.integers(0, 2, shape).astype(bool)
        inputs = ["c", "x", "other"]
    outputs = ["y", "z"] if op in ("Split", "TopK") else ["y"]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, **attributes)],
        "one",
        [helper.make_tensor_value_info(name, TYPES[value.dtype.name], value.shape) for name, value in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), feeds


def _expected(model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """By ONNX Runtime, and by ONNX's reference where that has no kernel for the type."""
    from onnx.reference import ReferenceEvaluator

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return ReferenceEvaluator(model).run(None, feeds)
    return session.run(None, feeds)


@pytest.mark.parametrize(("op", "dtype"), [(op, dtype) for op, dtypes in CASES.items() for dtype in dtypes])
def test_operator__of_integers_gives_the_numbers_of_onnx(op: str, dtype: str) -> None:
    model, feeds = _model(op, dtype)
    wanted = _expected(onnx.shape_inference.infer_shapes(model), feeds)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=lower(model), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    for detail, expected in zip(interpreter.get_output_details(), wanted, strict=True):
        found = interpreter.get_tensor(detail["index"])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("body", "reason", "fix"),
    [
        ("g (int32[2,3] a, int32[3,4] b) => (int32[2,4] y) { y = MatMul(a, b) }", "it takes int32, for which TFLite's BATCH_MATMUL has no kernel", "Cast to float32 before it"),
        ("g (uint32[2,3] a) => (uint32[2,3] y) { y = Add(a, a) }", "it takes uint32, for which TFLite's ADD has no kernel", "Cast to float32 before it"),
        ("g (float[1,2,1,2,1,2,3] a) => (float[1,2,1,2,1,2,3] y) { y = Softmax(a) }", "SOFTMAX would have 7 axes, and its kernel has at most 6", "Join axes that lie side by side by a Reshape"),
    ],
)  # fmt: skip
def test_lower__without_a_kernel_is_refused(
    onnx_graph: Callable[..., onnx.ModelProto], body: str, reason: str, fix: str
) -> None:
    with pytest.raises(NotExpressibleError) as caught:
        lower(onnx_graph(body))
    assert reason in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "other"), [((), (1,)), ((), (1, 1)), ((3,), (1, 1)), ((3,), (1, 1, 1)), ((1,), (1, 1, 1))]
)
def test_add__of_a_constant_with_more_axes_has_its_axes(
    check: Check, shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    result = np.broadcast_shapes(shape, other)
    sizes = ",".join(str(s) for s in shape)
    check(
        f"g (float[{sizes}] x) => (float[{','.join(map(str, result))}] y) {{ y = Add(x, c) }}".replace("[]", ""),
        {"c": np.full(other, 2, np.float32)},
    )


def test_slice__backwards_from_before_the_first_takes_the_first(check: Check) -> None:
    check(
        "g (float[2,4] x) => (float[1,4] y) <int64[1] s = {-3}, int64[1] e = {-99}, int64[1] a = {0}, int64[1] p = {-1}>"
        "{ y = Slice(x, s, e, a, p) }"
    )


def test_move__is_not_mistaken_for_that_of_a_tensor_which_is_gone(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    # Told apart by id(), a tensor was given what had been made of an earlier one at the same address.
    from edgesdk_converters.tflite.lower import importer

    graph, _ = importer.read(onnx_graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"), name="g")
    made = lowering.Lowering(graph)
    for number in range(200):
        tensor = made.const(np.full((2, 3), number, np.float32))
        assert made.move(tensor, (1, 0)).data[0, 0] == number  # type: ignore[index] # constants have data
        del tensor


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_max_pool__that_leaves_something_out_of_same_is_refused(
    onnx_graph: Callable[..., onnx.ModelProto], mode: str
) -> None:
    model = onnx_graph(
        f'g (float[1,1,1,4] x) => (float[1,1,1,2] y) {{ y = MaxPool <kernel_shape = [1,1], strides = [1,2], auto_pad = "{mode}"> (x) }}'
    )
    with pytest.raises(NotExpressibleError, match=r"leave something out.*Export it with explicit pads"):
        lower(model)


def test_max_pool__with_a_window_behind_its_input_is_refused(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph(
        "g (float[1,1,1,2] x) => (float[1,1,1,2] y) { y = MaxPool <kernel_shape = [1,1], strides = [1,2], ceil_mode = 1, pads = [0,0,0,1]> (x) }"
    )
    with pytest.raises(NotExpressibleError, match=r"last window begins behind its input.*ceil_mode=0"):
        lower(model)


def test_conv__with_a_kernel_larger_than_its_input_is_refused(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph(
        'g (float[1,1,2,4] x) => (float[1,1,n,m] y) { y = Conv <strides = [3,3], auto_pad = "VALID"> (x, w) }',
        {"w": np.ones((1, 1, 3, 3), np.float32)},
    )
    with pytest.raises(NotExpressibleError, match=r"window of 3 is larger than the 2.*Pad its input"):
        lower(model)


@pytest.mark.parametrize("mode", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("transform", ["half_pixel", "half_pixel_symmetric", "asymmetric", "pytorch_half_pixel"])
def test_resize__nearest_rounds_like_onnxruntime(check: Check, mode: str, transform: str) -> None:
    # Seven at half a size: exactly between two neighbours in float32, beside it in float64.
    check(
        "g (float[1,2,2,7] x) => (float[1,2,6,3] y) <float[4] s = {1.0, 1.0, 3.0, 0.5}>"
        f'{{ y = Resize <mode = "nearest", coordinate_transformation_mode = "{transform}", nearest_mode = "{mode}"> (x, , s) }}'
    )


@pytest.mark.parametrize("op", ["Less", "Equal", "Pow", "PRelu"])
@pytest.mark.parametrize("other", [(), (3,), (1, 1, 2, 1, 1)])
def test_operator__broadcasts_over_at_most_four_axes_in_the_file(check: Check, op: str, other: tuple[int, ...]) -> None:
    # tflite-runtime 2.14 aborts the process where there are five.
    kind = "bool" if op in ("Less", "Equal") else "float"
    value = np.random.default_rng(0).uniform(0.5, 1.5, other).astype(np.float32)
    x = "a = Abs(x)" if op == "Pow" else "a = Neg(x)"
    lowered = check(f"g (float[2,3,2,2,3] x) => ({kind}[2,3,2,2,3] y) {{ {x} y = {op}(a, c) }}", {"c": value})
    from edgesdk_converters.tflite import flatbuffer as fb

    graph = fb.read(lowered.content).subgraphs[0]
    for operator in graph.operators:
        shapes = {tuple(graph.tensors[i].shape) for i in fb.ids(operator.inputs)}
        code = fb.code_name(fb.code_of(fb.read(lowered.content), operator))
        assert code in ("NEG", "ABS", "RESHAPE") or len(shapes) == 1 or max(map(len, shapes)) <= 4


@pytest.mark.parametrize("training", ["t", ""])
def test_dropout__whose_mode_is_an_input_is_refused(onnx_graph: Callable[..., onnx.ModelProto], training: str) -> None:
    text = f"g (float[4] x, bool t) => (float[4] y) {{ y = Dropout(x, , {training or 'k'}) }}"
    with pytest.raises(NotExpressibleError, match=r"in training mode, or may be.*Export the model in evaluation mode"):
        lower(onnx_graph(text, {"k": np.asarray(True)}))


@pytest.mark.parametrize(
    "body",
    [
        "y = Neg(x)",
        "a = Neg(x) y = Add(a, x)",
        "t = Transpose <perm = [0,2,1,3,6,5,4]> (x) n = Neg(t) y = Transpose <perm = [0,2,1,3,6,5,4]> (n)",
        "t = Transpose <perm = [6,5,4,0,1,2,3]> (x) n = Neg(t) y = Transpose <perm = [3,4,5,6,2,1,0]> (n)",
    ],
)
def test_operator__of_seven_axes_joins_those_that_stay_together(check: Check, body: str) -> None:
    check(f"g (float[2,3,1,2,2,3,2] x) => (float[2,3,1,2,2,3,2] y) {{ {body} }}")


def test_runs__join_axes_that_stay_neighbours() -> None:
    assert layout.runs((2, 3, 1, 4, 5), (3, 4, 0, 2, 1)) == ((6, 20), (1, 0))
    assert layout.runs((2, 3, 4), (2, 1, 0)) == ((2, 3, 4), (2, 1, 0))
