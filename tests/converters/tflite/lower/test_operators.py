from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Check = Callable[..., Any]


def weight(*shape: int, seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def ints(*values: int) -> NDArray[Any]:
    return np.asarray(values, np.int64)


def scalar(value: float) -> NDArray[Any]:
    return np.asarray(value, np.float32)


POSITIVE = {"x": np.random.default_rng(5).uniform(0.1, 3, (2, 3, 4)).astype(np.float32)}


@pytest.mark.parametrize(
    "op_type", ["Relu", "Sigmoid", "Tanh", "Abs", "Exp", "Neg", "Floor", "Ceil", "Sin", "Cos", "Erf", "Elu"]
)
def test_unary__is_equal(check: Check, op_type: str) -> None:
    check(f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op_type}(x) }}", tolerance=2e-6)


@pytest.mark.parametrize("op_type", ["Log", "Sqrt", "Reciprocal"])
def test_unary__of_positive_numbers(check: Check, op_type: str) -> None:
    check(f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op_type}(x) }}", feeds=POSITIVE)


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize(
    ("a", "b"), [("2,3,4", "2,3,4"), ("2,3,4", "4"), ("2,3,4", "3,1"), ("3,1", "2,3,4"), ("2,3,4", "")]
)
def test_binary__broadcasts(check: Check, op_type: str, a: str, b: str) -> None:
    shape = f"float[{b}]" if b else "float"
    lowered = check(f"g (float[{a}] x, {shape} z) => (float[2,3,4] y) {{ y = {op_type}(x, z) }}")
    assert sum(lowered.codes.values()) == 1


@pytest.mark.parametrize("op_type", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"])
def test_comparison__int64(check: Check, op_type: str) -> None:
    check(f"g (int64[2,5] x, int64[5] z) => (bool[2,5] y) {{ y = {op_type}(x, z) }}")


def test_where__selects_by_mask(check: Check) -> None:
    check("g (bool[2,1] m, float[2,5] x, float[5] z) => (float[2,5] y) { y = Where(m, x, z) }")


def test_binary__layouts_meet(check: Check) -> None:
    # One operand lies channels-last, the other as ONNX says: only one of them moves.
    text = """g (float[1,3,4,5] x, float[1,6,4,5] z) => (float[1,6,4,5] y) {
        c = Conv(x, w)
        y = Mul(c, z)
    }"""
    assert check(text, {"w": weight(6, 3, 1, 1)}).codes["TRANSPOSE"] <= 3


@pytest.mark.parametrize(
    "op_type", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"]
)
@pytest.mark.parametrize("keep", [0, 1])
def test_reduction__follows_the_layout(check: Check, op_type: str, keep: int) -> None:
    shape = "1,6,1,5" if keep else "1,6,5"
    text = f"""g (float[1,3,4,5] x) => (float[{shape}] y) {{
        c = Conv(x, w)
        y = {op_type}<axes=[2], keepdims={keep}>(c)
    }}"""
    check(text, {"w": weight(6, 3, 1, 1)})


def test_reduction__sum_of_all(check: Check) -> None:
    check("g (float[2,3,4] x) => (float y) { y = ReduceSum<keepdims=0>(x) }")


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_softmax__over_any_axis(check: Check, op_type: str, axis: int) -> None:
    check(f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op_type}<axis={axis}>(x) }}")


@pytest.mark.parametrize("keep", [0, 1])
def test_argmax__gives_int64(check: Check, keep: int) -> None:
    shape = "2,1,4" if keep else "2,4"
    check(f"g (float[2,3,4] x) => (int64[{shape}] y) {{ y = ArgMax<axis=1, keepdims={keep}>(x) }}")


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps", "shape"),
    [
        ([1], [3], [1], [1], "2,2,6"),
        ([0], [9223372036854775807], [2], [2], "2,4,3"),
        ([-1], [-9223372036854775808], [2], [-1], "2,4,6"),
        ([5, 1], [0, 4], [2, 1], [-2, 1], "2,3,3"),
    ],
)
def test_slice__bounds(
    check: Check, starts: list[int], ends: list[int], axes: list[int], steps: list[int], shape: str
) -> None:
    text = f"g (float[2,4,6] x) => (float[{shape}] y) {{ y = Slice(x, s, e, a, t) }}"
    check(text, {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)})


def test_slice__all_parts_are_one_split(check: Check) -> None:
    text = """g (float[2,6] x) => (float[2,3] y) {
        a = Slice(x, zero, three, one)
        b = Slice(x, three, six, one)
        y = Mul(a, b)
    }"""
    lowered = check(text, {"zero": ints(0), "three": ints(3), "six": ints(6), "one": ints(1)})
    assert lowered.codes == {"SPLIT": 1, "MUL": 1}


def test_split__uneven(check: Check) -> None:
    text = "g (float[2,7] x) => (float[2,3] a, float[2,4] b) { a, b = Split<axis=1>(x, s) }"
    assert check(text, {"s": ints(3, 4)}).codes == {"SPLIT_V": 1}


@pytest.mark.parametrize(
    ("indices", "shape"), [(np.asarray(-1), "2,4"), (ints(2, 0), "2,2,4"), (np.asarray([[0, 1], [2, -1]]), "2,2,2,4")]
)
def test_gather__constant_indices(check: Check, indices: NDArray[Any], shape: str) -> None:
    check(f"g (float[2,3,4] x) => (float[{shape}] y) {{ y = Gather<axis=1>(x, i) }}", {"i": indices.astype(np.int64)})


def test_gather__embedding_by_int64_input(check: Check) -> None:
    lowered = check("g (int64[1,5] x) => (float[1,5,3] y) { y = Gather(table, x) }", {"table": weight(4, 3)})
    assert lowered.codes["GATHER"] == 1


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad__modes(check: Check, mode: str) -> None:
    text = f"""g (float[1,2,4,5] x) => (float[1,2,7,6] y) {{ y = Pad<mode="{mode}">(x, p, v) }}"""
    check(text, {"p": ints(0, 0, 1, 0, 0, 0, 2, 1), "v": scalar(0.5)})


@pytest.mark.parametrize("text", [
    "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)",
    "m = MatMul(x, wt) y = Add(m, b)",
    "m = MatMul(x, wt) a = Add(b, m) y = Relu(a)",
])  # fmt: skip
def test_fully_connected__is_one_operator(check: Check, text: str) -> None:
    weights = {"b": weight(5), "w": weight(5, 8)} if "transB" in text else {"b": weight(5), "wt": weight(8, 5)}
    lowered = check(f"g (float[3,8] x) => (float[3,5] y) {{ {text} }}", weights)
    assert lowered.codes == {"FULLY_CONNECTED": 1}


def test_fully_connected__flatten_permutes_the_weights(check: Check) -> None:
    text = """g (float[2,3,4,5] x) => (float[2,7] y) {
        c = Conv(x, w)
        f = Flatten(c)
        y = Gemm<transB=1>(f, v)
    }"""
    lowered = check(text, {"w": weight(6, 3, 1, 1), "v": weight(7, 120)})
    assert lowered.codes == {"TRANSPOSE": 1, "CONV_2D": 1, "FULLY_CONNECTED": 1}


def test_flatten__taken_by_others_keeps_onnx_order(check: Check) -> None:
    text = """g (float[1,3,4,5] x) => (float[1,7] y, float[1,120] f) {
        c = Conv(x, w)
        f = Flatten(c)
        y = Gemm<transB=1>(f, v)
    }"""
    check(text, {"w": weight(6, 3, 1, 1), "v": weight(7, 120)})


@pytest.mark.parametrize(
    ("a", "b", "y"),
    [("2,3,4", "2,4,5", "2,3,5"), ("4", "4,5", "5"), ("3,4", "4", "3"), ("2,1,3,4", "5,4,2", "2,5,3,2")],
)
def test_matmul__of_computed_tensors(check: Check, a: str, b: str, y: str) -> None:
    check(f"g (float[{a}] x, float[{b}] z) => (float[{y}] y) {{ y = MatMul(x, z) }}")


def attention(*, pre: str = "") -> str:
    return f"""g (float[1,6,8] x) => (float[1,6,8] y) {{
        {pre}
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
        q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)
        qt = Transpose<perm=[0,2,1,3]>(q4) kt = Transpose<perm=[0,2,3,1]>(k4) vt = Transpose<perm=[0,2,1,3]>(v4)
        s = MatMul(qt, kt) d = Div(s, two) p = Softmax<axis=-1>(d) o = MatMul(p, vt)
        ot = Transpose<perm=[0,2,1,3]>(o) joined = Reshape(ot, whole)
        proj = MatMul(joined, wo) r = Add(proj, x)
        y = LayerNormalization<axis=-1>(r, g1, b1)
    }}"""


def test_attention__moves_only_the_heads(check: Check) -> None:
    weights = {n: weight(8, 8, seed=i) for i, n in enumerate(("wq", "wk", "wv", "wo"))}
    weights |= {"heads": ints(1, 6, 2, 4), "whole": ints(1, 6, 8), "two": scalar(2), "g1": weight(8), "b1": weight(8)}
    lowered = check(attention(), weights)
    assert lowered.codes["TRANSPOSE"] == 4  # q, k, v, and the heads back
    assert lowered.codes["BATCH_MATMUL"] == 2
    assert lowered.codes["FULLY_CONNECTED"] == 4


@pytest.mark.parametrize("text", [
    "d = Div(x, r) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
    "d = Mul(x, i) e = Erf(d) p = Add(one, e) h = Mul(half, x) y = Mul(h, p)",
    "c = Pow(x, three) s = Mul(c, k) t = Add(x, s) u = Mul(t, q) e = Tanh(u) p = Add(e, one) h = Mul(x, half) y = Mul(h, p)",
])  # fmt: skip
def test_gelu__formula_is_one_operator(check: Check, text: str) -> None:
    numbers = {"r": 2**0.5, "i": 0.5**0.5, "one": 1, "half": 0.5, "three": 3, "k": 0.044715, "q": (2 / np.pi) ** 0.5}
    used = {k: scalar(v) for k, v in numbers.items() if f" {k})" in text or f"({k}," in text}
    assert check(f"g (float[2,9] x) => (float[2,9] y) {{ {text} }}", used, tolerance=1e-5).codes == {"GELU": 1}


def test_layer_norm__formula(check: Check) -> None:
    text = """g (float[2,5,8] x) => (float[2,5,8] y) {
        m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) s = Pow(d, two) v = ReduceMean<axes=[-1]>(s)
        e = Add(v, eps) r = Sqrt(e) n = Div(d, r) w = Mul(n, g1) y = Add(w, b1)
    }"""
    lowered = check(text, {"two": scalar(2), "eps": scalar(1e-5), "g1": weight(8), "b1": weight(8)})
    assert sum(lowered.codes.values()) == 9
    assert lowered.codes["RSQRT"] == 1


def test_reshape__around_products_and_softmax_vanishes(check: Check) -> None:
    text = """g (float[1,4,8] x) => (float[1,4,5] y) {
        f = Reshape(x, flat) m = Gemm(f, w, b) s = Softmax(m) y = Reshape(s, back)
    }"""
    lowered = check(text, {"flat": ints(4, 8), "back": ints(1, 4, 5), "w": weight(8, 5), "b": weight(5)})
    assert lowered.codes == {"FULLY_CONNECTED": 1, "SOFTMAX": 1}


def test_expand_and_tile__repeat(check: Check) -> None:
    text = "g (float[3,1] x) => (float[2,6,8] y) { e = Expand(x, shape) y = Tile(e, counts) }"
    check(text, {"shape": ints(2, 3, 4), "counts": ints(1, 2, 2)})


def test_cast__between_numbers(check: Check) -> None:
    check(
        "g (float[5] x) => (int32[5] y, bool[5] b, float[5] f) { y = Cast<to=6>(x) b = Cast<to=9>(x) i = Cast<to=7>(x) f = Cast<to=1>(i) }"
    )


def test_constants__fold_through_shapes(check: Check) -> None:
    text = """g (float[2,3,4] x) => (float[6,4] y) {
        s = Shape(x) last = Gather(s, two) l1 = Unsqueeze(last, zero) minus = Neg(one)
        t = Concat<axis=0>(minus, l1) y = Reshape(x, t)
    }"""
    weights = {"two": np.asarray(2, np.int64), "zero": ints(0), "one": ints(1)}
    assert check(text, weights).codes == {"RESHAPE": 1}


def test_outputs__an_input_and_a_constant_can_be_outputs(check: Check) -> None:
    check(
        "g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2] c) { y = Identity(x) z = Identity(x) c = Identity(w) }",
        {"w": weight(2)},
    )


@pytest.mark.parametrize(
    "op_type", ["Softplus", "Mish", "Softsign", "Selu", "Celu<alpha=0.7>", "ThresholdedRelu<alpha=0.3>", "Sign"]
)
def test_function__is_equal(check: Check, onnx_graph: Check, op_type: str) -> None:
    text = f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op_type}(x) }}"
    check(onnx_graph(text, opset=18), tolerance=2e-6)


def test_top_k__along_an_inner_axis(check: Check) -> None:
    check("g (float[2,5,3] x) => (float[2,2,3] y, int64[2,2,3] i) { y, i = TopK<axis=1>(x, k) }", {"k": ints(2)})


def test_one_hot__counts_from_the_end(check: Check) -> None:
    weights = {"depth": np.asarray(5, np.int64), "values": np.asarray([0, 1], np.float32)}
    feeds = {"x": np.asarray([0, 4, -1, -5], np.int64)}
    check("g (int64[4] x) => (float[4,5] y) { y = OneHot(x, depth, values) }", weights, feeds=feeds)
