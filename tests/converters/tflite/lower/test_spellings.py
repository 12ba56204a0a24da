"""Operators that are spelled out in others, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite.lower import lower

Check = Callable[..., Any]


@pytest.mark.parametrize("op", ["Atan", "Asinh", "Shrink", "Hardmax"])
def test_function__agrees_with_onnx_runtime(check: Check, op: str) -> None:
    check(f"g (float[2,5] x) => (float[2,5] y) {{ y = {op}(x) }}")


def test_area_functions__keep_small_numbers(check: Check) -> None:
    x = np.asarray([[1e-6, -1e-5, 3e-4, 0.0]], np.float32)
    check("g (float[1,4] x) => (float[1,4] y) { y = Asinh(x) }", feeds={"x": x}, tolerance=1e-6)


def test_gather_elements__takes_computed_and_negative_positions(check: Check) -> None:
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "i": np.asarray([[0, -1, 2, 1]], np.int64)}
    check(
        "g (float[3,4] x, int64[1,4] i) => (float[1,4] y) { y = GatherElements<axis = 0>(x, i) }",
        feeds=feeds,
    )


def test_scatter_nd__puts_slices_in_place(check: Check) -> None:
    text = "g (float[4,3] x, int64[2,1] i, float[2,3] u) => (float[4,3] y) { y = ScatterND(x, i, u) }"
    feeds = {
        "x": np.ones((4, 3), np.float32),
        "i": np.asarray([[2], [0]], np.int64),
        "u": np.zeros((2, 3), np.float32),
    }
    check(text, feeds=feeds)


def test_trilu__is_a_constant_mask(check: Check) -> None:
    found = check("g (float[4,4] x) => (float[4,4] y) { y = Trilu<upper = 0>(x) }")
    assert set(found.codes) == {"SELECT_V2"}


def test_matmul_integer__beyond_what_float_adds_exactly_is_refused(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph("g (uint8[1,400] a, uint8[400,2] b) => (int32[1,2] y) { y = MatMulInteger(a, b) }")
    with pytest.raises(NotExpressibleError, match="400 products, which float32 rounds") as caught:
        lower(model)
    assert "DequantizeLinear" in str(caught.value)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample__also_outside_of_the_picture(check: Check, mode: str, padding: str, corners: int) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.normal(0, 1, (2, 3, 5, 7)).astype(np.float32),
        "p": rng.uniform(-1.9, 1.9, (2, 4, 6, 2)).astype(np.float32),
    }
    check(
        "g (float[2,3,5,7] x, float[2,4,6,2] p) => (float[2,3,4,6] y) "
        f'{{ y = GridSample <mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}> (x, p) }}',
        opset=20,
        feeds=feeds,
    )


@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_roi_align__of_regions_across_the_border(check: Check, transform: str) -> None:
    feeds = {
        "x": np.random.default_rng(0).normal(0, 1, (2, 3, 12, 16)).astype(np.float32),
        "r": np.asarray([[1, 2, 9, 10], [-6, -4, 30, 14], [3.5, 3.5, 3.6, 20]], np.float32),
        "b": np.asarray([0, 1, 1]),
    }
    check(
        "g (float[2,3,12,16] x, float[3,4] r, int64[3] b) => (float[3,3,2,3] y) { y = RoiAlign <output_height = 2, "
        f'output_width = 3, sampling_ratio = 2, spatial_scale = 0.5, coordinate_transformation_mode = "{transform}"> (x, r, b) }}',
        feeds=feeds,
    )


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("MaxPool <kernel_shape = [3,2], dilations = [2,3], pads = [1,0,2,1]>", "1,2,8,6"),
        ("MaxPool <kernel_shape = [2,2,3], strides = [2,1,1]>", "1,2,4,5,5"),
        ("AveragePool <kernel_shape = [2,2,3], pads = [1,0,1,0,0,1], count_include_pad = 1>", "1,2,4,5,5"),
        ("AveragePool <kernel_shape = [2,2,3], pads = [1,0,1,0,0,1]>", "1,2,4,5,5"),
        ("LpPool <kernel_shape = [3,2], strides = [2,2], pads = [1,0,1,1], p = 2>", "1,2,7,6"),
        ("LpPool <kernel_shape = [3], p = 1>", "1,2,7"),
        ("GlobalLpPool <p = 2>", "1,2,7,6"),
        ("GlobalLpPool <p = 3>", "1,2,7,6"),
        ("MeanVarianceNormalization", "2,3,4,5"),
        ("Conv", "1,2,4,5,5"),
        ("Conv <dilations = [1,2,1], pads = [1,0,1,0,1,1], strides = [1,1,2]>", "2,2,4,5,5"),
        ('Conv <auto_pad = "SAME_UPPER", strides = [2,2,1]>', "1,2,4,5,5"),
    ],
)
def test_window__that_tflite_has_no_pool_for(
    onnx_graph: Callable[..., onnx.ModelProto], compare: Check, text: str, shape: str
) -> None:
    kernel = np.random.default_rng(0).normal(0, 1, (3, 2, 2, 2, 2)).astype(np.float32)
    operands, weights = ("(x, w)", {"w": kernel}) if "Conv" in text else ("(x)", {})
    model = onnx_graph(f"g (float[{shape}] x) => (y) {{ y = {text} {operands} }}", weights)
    compare(onnx.shape_inference.infer_shapes(model), tolerance=1e-4)


def test_center_crop_pad__of_some_axes(onnx_graph: Callable[..., onnx.ModelProto], compare: Check) -> None:
    text = "g (float[7,4,3] x) => (float[4,4,9] y) { y = CenterCropPad <axes = [2,0]> (x, s) }"
    compare(onnx_graph(text, {"s": np.asarray([9, 4])}, opset=18))


def test_dynamic_quantize_linear__and_what_it_feeds(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    # Half-way cases may round either way, so no number is compared; the operators' own tests do that.
    text = """g (float[2,6] x) => (float[2,3] y) {
        q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, w, z) f = Cast<to = 1>(m) y = Mul(f, s) }"""
    assert lower(onnx_graph(text, {"w": np.ones((6, 3), np.int8)}))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Scaler <offset = [0.5,-1.0,2.0], scale = [2.0,0.5,1.0]>", "2,3"),
        ("Scaler <offset = [0.5], scale = [2.0]>", "2,3"),
        ("Binarizer <threshold = 0.3>", "2,3"),
    ],
)
def test_preprocessing__of_scikit_learn(onnx_graph: Callable[..., onnx.ModelProto], text: str, result: str) -> None:
    model = onnx_graph(f"g (float[2,3] x) => (float[{result}] y) {{ y = ai.onnx.ml.{text} (x) }}")
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    from ai_edge_litert.interpreter import Interpreter
    from onnxruntime import InferenceSession

    x = np.random.default_rng(0).normal(0, 1, (2, 3)).astype(np.float32)
    wanted: Any = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    interpreter = Interpreter(model_content=lower(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), wanted[0], 1e-6)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent__with_the_batch_first_is_the_same_turned(
    onnx_graph: Callable[..., onnx.ModelProto], op: str
) -> None:
    # ONNX Runtime has no kernel for layout=1: compared with the same weights and the time first.
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.5, (1, gates * 3, 2)).astype(np.float32),
        "r": rng.normal(0, 0.5, (1, gates * 3, 3)).astype(np.float32),
    }
    x = rng.normal(0, 1, (4, 5, 2)).astype(np.float32)
    from ai_edge_litert.interpreter import Interpreter

    found = []
    for layout, shapes in ((1, ("4,5,2", "4,5,1,3", "4,1,3")), (0, ("5,4,2", "5,1,4,3", "1,4,3"))):
        text = f"g (float[{shapes[0]}] x) => (float[{shapes[1]}] y, float[{shapes[2]}] h) {{ y, h = {op} <hidden_size = 3, layout = {layout}> (x, w, r) }}"
        interpreter = Interpreter(model_content=lower(onnx_graph(text, weights)))
        interpreter.allocate_tensors()
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], x if layout else np.ascontiguousarray(x.transpose(1, 0, 2))
        )
        interpreter.invoke()
        y, h = (interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details())
        found.append((y, h) if layout else (y.transpose(2, 0, 1, 3), h.transpose(1, 0, 2)))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)
