from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Check = Callable[..., Any]
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the fixtures are functions without state
)


def weight(*shape: int, seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def one_node(
    op_type: str, shape: list[int], *, weights: dict[str, NDArray[Any]] | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node whose output shape is inferred."""
    named = weights or {}
    node = helper.make_node(op_type, ["x", *named], ["y"], "it", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", 1, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in named.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    return model


@SETTINGS
@given(
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 3)]),
    strides=st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)]),
    dilation=st.sampled_from([1, 1, 2]),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    channels=st.sampled_from([(4, 6, 1), (4, 4, 4), (4, 8, 4), (4, 6, 2), (1, 3, 1)]),
)
def test_conv__is_equal(
    compare: Check,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilation: int,
    pads: tuple[int, int, int, int],
    auto: str,
    channels: tuple[int, int, int],
) -> None:
    incoming, outgoing, group = channels
    if any(s + p < (k - 1) * dilation + 1 for s, p, k in zip(size, (0, 0), kernel, strict=True)):
        return
    attributes: dict[str, Any] = {"strides": strides, "group": group}
    if auto == "NOTSET":
        attributes |= {"pads": pads, "dilations": [dilation, dilation]}
    else:
        attributes |= {"auto_pad": auto}
    weights = {"w": weight(outgoing, incoming // group, *kernel), "b": weight(outgoing)}
    lowered = compare(one_node("Conv", [2, incoming, *size], weights=weights, **attributes))
    assert lowered.codes["TRANSPOSE"] <= 2
    assert sum(lowered.codes.values()) <= 4  # with one PAD, however asymmetric


@SETTINGS
@given(
    kernel=st.sampled_from([(2, 2), (3, 3), (4, 4), (3, 1)]),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    extra=st.integers(0, 1),
    group=st.sampled_from([1, 1, 2]),
)
def test_conv_transpose__is_equal(
    compare: Check, kernel: tuple[int, int], stride: int, pads: tuple[int, int, int, int], extra: int, group: int
) -> None:
    attributes = {"strides": [stride] * 2, "pads": pads, "output_padding": [min(extra, stride - 1)] * 2, "group": group}
    weights = {"w": weight(4, 6 // group, *kernel), "b": weight(6)}
    compare(one_node("ConvTranspose", [1, 4, 5, 6], weights=weights, **attributes))


@SETTINGS
@given(
    op_type=st.sampled_from(["MaxPool", "AveragePool"]),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    kernel=st.sampled_from([(2, 2), (3, 3), (3, 2)]),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    ceil=st.booleans(),
    include=st.booleans(),
)
def test_pool__is_equal(
    compare: Check,
    op_type: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    pads: tuple[int, int, int, int],
    ceil: bool,
    include: bool,
) -> None:
    for length, window, before, after in zip(size, kernel, pads[:2], pads[2:], strict=True):
        count = -(-(length + before + after - window) // stride)
        if ceil and count * stride >= length + before:
            return  # a window that starts in the padding: onnx's shape inference counts it, ONNX Runtime does not
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads, "ceil_mode": int(ceil)}
    if op_type == "AveragePool":
        attributes["count_include_pad"] = int(include)
    compare(one_node(op_type, [1, 3, *size], **attributes))


@SETTINGS
@given(
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    made=st.tuples(st.integers(2, 15), st.integers(2, 15)),
    mode=st.sampled_from(["nearest", "linear"]),
    transform=st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    rounding=st.sampled_from(["floor", "round_prefer_floor", "round_prefer_ceil", "ceil"]),
)
def test_resize__is_equal(
    onnx_graph: Check,
    compare: Check,
    size: tuple[int, int],
    made: tuple[int, int],
    mode: str,
    transform: str,
    rounding: str,
) -> None:
    text = f"""one (float[1,2,{size[0]},{size[1]}] x) => (float[1,2,{made[0]},{made[1]}] y) {{
        y = Resize<mode="{mode}", coordinate_transformation_mode="{transform}", nearest_mode="{rounding}">(x, , , sizes)
    }}"""
    compare(onnx_graph(text, {"sizes": np.asarray([1, 2, *made], np.int64)}))


def test_conv__1d_through_2d(check: Check) -> None:
    text = """g (float[1,4,20] x) => (float[1,6,9] y) {
        a = Conv<strides=[2], pads=[0,1]>(x, w, b)
        r = Relu(a)
        y = Conv<pads=[1,0]>(r, v)
    }"""
    lowered = check(text, {"w": weight(6, 4, 4), "b": weight(6), "v": weight(6, 6, 2)})
    assert lowered.codes["TRANSPOSE"] == 2
    assert lowered.codes["RESHAPE"] <= 2


@pytest.mark.parametrize(
    ("activation", "operators"),
    [
        ("Relu(c)", 1),
        ("Clip(c, zero, six)", 1),
        ("Clip(c, minus, one)", 1),
        ("LeakyRelu<alpha=0.1>(c)", 2),
        ("Sigmoid(c)", 2),
    ],
)
def test_activation__is_fused_where_tflite_can(check: Check, activation: str, operators: int) -> None:
    text = f"""g (float[1,3,8,8] x) => (float[1,4,8,8] y) {{
        c = Conv<pads=[1,1,1,1]>(x, w)
        y = {activation}
    }}"""
    bounds = {"zero": 0, "six": 6, "minus": -1, "one": 1}
    constants = {name: np.asarray(v, np.float32) for name, v in bounds.items() if name in activation}
    lowered = check(text, {"w": weight(4, 3, 3, 3), **constants})
    assert sum(lowered.codes.values()) == 2 + operators


def test_batch_norm__goes_into_the_convolution(check: Check) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        n = BatchNormalization(c, s, o, m, v)
        y = Relu(n)
    }"""
    weights = {"w": weight(4, 3, 3, 3), **{k: np.abs(weight(4, seed=i)) + 0.5 for i, k in enumerate("somv")}}
    assert check(text, weights).codes == {"TRANSPOSE": 2, "CONV_2D": 1}


def test_pad__goes_into_the_convolution(check: Check) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        p = Pad(x, amounts)
        y = Conv(p, w)
    }"""
    weights = {"w": weight(4, 3, 3, 3), "amounts": np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}
    assert check(text, weights).codes == {"TRANSPOSE": 2, "CONV_2D": 1}


def test_layout__cnn_has_no_inner_transpose(check: Check) -> None:
    # Stem, shuffle of halves, squeeze-and-excite, residual, softmax over channels, resize, slices and an NHWC tail.
    text = """g (float[1,3,16,16] x) => (float[1,8,16,16] y, float[1,5] z) {
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w0)
        left, right = Split<axis=1>(a, halves)
        l = Conv<pads=[1,1,1,1], group=4>(left, w1)
        j = Concat<axis=1>(l, right)
        pooled = GlobalAveragePool(j)
        e = Conv(pooled, w2)
        s = HardSigmoid(e)
        excited = Mul(j, s)
        sum = Add(excited, a)
        soft = Softmax<axis=1>(sum)
        first = Slice(soft, zero, four, one)
        shifted = Mul(first, offset)
        mean = ReduceMean<axes=[1], keepdims=1>(sum)
        broad = Sub(sum, mean)
        padded = Pad(broad, amounts)
        big = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(padded, , , sizes)
        both = Concat<axis=1>(shifted, shifted)
        up = Resize<mode="linear">(both, , , sizes)
        y = Add(big, up)
        flat = Flatten(sum)
        z = Gemm<transB=1>(flat, w3, b3)
    }"""
    numbers = np.random.default_rng(3)
    weights = {
        "w0": weight(8, 3, 3, 3),
        "w1": weight(4, 1, 3, 3),
        "w2": weight(8, 8, 1, 1),
        "w3": weight(5, 512),
        "b3": weight(5),
        "halves": np.asarray([4, 4], np.int64),
        "zero": np.asarray([0], np.int64),
        "four": np.asarray([4], np.int64),
        "one": np.asarray([1], np.int64),
        "offset": numbers.normal(size=(4, 1, 1)).astype(np.float32),
        "amounts": np.asarray([0, 0, 0, 1, 0, 0, 0, 1], np.int64),
        "sizes": np.asarray([1, 8, 16, 16], np.int64),
    }
    lowered = check(text, weights)
    assert lowered.codes["TRANSPOSE"] == 2  # the input x and the output y; z has no spatial axes


def test_layout__nhwc_input_folded_into_the_graph_has_none(check: Check) -> None:
    text = """g (float[1,8,8,3] x) => (float[1,4] y) {
        t = Transpose<perm=[0,3,1,2]>(x)
        c = Conv<pads=[1,1,1,1]>(t, w)
        p = GlobalAveragePool(c)
        y = Flatten(p)
    }"""
    lowered = check(text, {"w": weight(4, 3, 3, 3)})
    assert lowered.codes["TRANSPOSE"] == 0
    assert sum(lowered.codes.values()) == 2


def test_layout__channel_shuffle_moves_once(check: Check) -> None:
    text = """g (float[1,3,6,6] x) => (float[1,4,6,6] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        g5 = Reshape(c, five)
        t = Transpose<perm=[0,2,1,3,4]>(g5)
        s = Reshape(t, four)
        y = Conv(s, v)
    }"""
    weights = {
        "w": weight(8, 3, 3, 3),
        "v": weight(4, 8, 1, 1),
        "five": np.asarray([1, 2, 4, 6, 6], np.int64),
        "four": np.asarray([1, 8, 6, 6], np.int64),
    }
    assert check(text, weights).codes["TRANSPOSE"] == 3


def test_affine__goes_into_the_convolutions(check: Check) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        m = Mul(c, scale)
        a = Add(m, offset)
        a3 = Add(a, three)
        k = Clip(a3, zero, six)
        p = Mul(a, k)
        h = Div(p, six)
        m2 = Mul(h, half)
        y = Conv(m2, v)
    }"""
    numbers = {"scale": 1.3, "offset": 0.2, "three": 3, "zero": 0, "six": 6, "half": 0.5}
    weights = {k: np.asarray(v, np.float32) for k, v in numbers.items()}
    lowered = check(text, {"w": weight(8, 3, 3, 3), "v": weight(4, 8, 1, 1), **weights})
    assert lowered.codes == {"TRANSPOSE": 2, "CONV_2D": 2, "HARD_SWISH": 1}


def test_affine__offset_before_a_padded_convolution_stays(check: Check) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        r = Relu(x)
        m = Mul(r, scale)
        a = Add(m, offset)
        y = Conv<pads=[1,1,1,1]>(a, w)
    }"""
    weights = {"w": weight(4, 3, 3, 3), "scale": np.asarray(1.7, np.float32), "offset": np.asarray(0.4, np.float32)}
    lowered = check(text, weights)
    assert lowered.codes["MUL"] == 0
    assert lowered.codes["ADD"] == 1


def test_prelu__slope_per_channel(check: Check) -> None:
    text = "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { c = Conv(x, w) y = PRelu(c, s) }"
    assert check(text, {"w": weight(3, 3, 1, 1), "s": weight(3, 1, 1)}).codes["PRELU"] == 1


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space__both_orders(check: Check, mode: str) -> None:
    text = f"""g (float[1,12,3,4] x) => (float[1,3,6,8] y) {{ y = DepthToSpace<blocksize=2, mode="{mode}">(x) }}"""
    check(text)
