from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower import expressible, lower, lowers
from edgesdk_converters.tflite.lower.layout import channels_last, permutation, reshape

Check = Callable[..., Any]


def weight(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(1).normal(0, 0.3, shape).astype(np.float32)


SMALL = "g (float[1,3,8,8] x) => (float[1,4,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Sigmoid(c) }"


def test_lower__equal_models_give_equal_bytes(onnx_graph: Check) -> None:
    model = onnx_graph(SMALL, {"w": weight(4, 3, 3, 3)})
    assert lower(model) == lower(model)


def test_lower__names_and_signature_are_kept(onnx_graph: Check) -> None:
    model = fb.read(lower(onnx_graph(SMALL, {"w": weight(4, 3, 3, 3)})))
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    names = [fb.text(tensor.name) for tensor in graph.tensors]
    assert signature.signatureKey == b"serving_default"
    assert [fb.text(entry.name) for entry in signature.inputs] == ["x"] == [names[i] for i in graph.inputs]
    assert [fb.text(entry.name) for entry in signature.outputs] == ["y"] == [names[i] for i in graph.outputs]
    assert "c" in names
    assert len(set(names)) == len(names)


def test_lower__node_of_several_operators_names_each_tensor_once(onnx_graph: Check) -> None:
    """ReduceL2 is SUM and SQRT; litert-quantizer refuses a file with two tensors of one name."""
    model = fb.read(lower(onnx_graph("g (float[2,3] x) => (float[2,1] y) { y = ReduceL2<axes=[1]>(x) }")))
    names = [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors]
    assert len(model.subgraphs[0].operators) > 1
    assert len(set(names)) == len(names)
    assert names[model.subgraphs[0].outputs[0]] == "y"


def test_lower__constants_lie_aligned(onnx_graph: Check) -> None:
    arrays = {"w": weight(4, 3, 3, 3), "v": weight(7, 4, 1, 1), "b": weight(7)}
    text = "g (float[1,3,8,8] x) => (float[1,7,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Conv(c, v, b) }"
    content = lower(onnx_graph(text, arrays))
    for array in (arrays["w"].transpose(0, 2, 3, 1), arrays["v"].transpose(0, 2, 3, 1), arrays["b"]):
        assert content.index(array.tobytes()) % 16 == 0


def test_lower__half_keeps_float16_behind_dequantize(check: Check) -> None:
    lowered = check(SMALL, {"w": weight(4, 3, 3, 3)}, half=True, tolerance=2e-3)
    assert lowered.codes["DEQUANTIZE"] == 1
    assert len(lowered.content) < len(check(SMALL, {"w": weight(4, 3, 3, 3)}).content)


def test_lower__lists_every_node_it_cannot_express(onnx_graph: Check) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,3,4,4] y, int64[1,3,4,4] i) {
        p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
        y = RandomNormalLike(p)
    }"""
    model = onnx_graph(text, {})
    with pytest.raises(NotExpressibleError, match="TFLite cannot express 2 nodes") as caught:
        lower(model)
    problems = caught.value.nodes
    assert [problem.op_type for problem in problems] == ["MaxPool", "RandomNormalLike"]
    assert "indices" in problems[0].reason
    assert problems[1].fix == "Replace it, or cut the model before it"
    assert [str(p) for p in expressible(model)] == [str(p) for p in problems]


def test_lower__control_flow(onnx_graph: Check) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, [2])]
    )
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(
        NotExpressibleError, match=r"If 'choice': control flow runs sub-graphs\. Export the model without it"
    ):
        lower(model)


def test_lower__custom_domain() -> None:
    graph = helper.make_graph(
        [helper.make_node("Magic", ["x"], ["y"], "m", domain="acme")],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)])
    with pytest.raises(NotExpressibleError, match=r"Magic 'm': .*acme.*cut the model before it"):
        lower(model)


def test_lower__dynamic_input() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "r")],
        "g",
        [helper.make_tensor_value_info("x", 1, ["batch", 3])],
        [helper.make_tensor_value_info("y", 1, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(
        NotExpressibleError, match=r"input 'x': its shape .*batch.* is dynamic.*Pin its shape in the spec"
    ):
        lower(model)


def test_lower__strings(onnx_graph: Check) -> None:
    with pytest.raises(
        NotExpressibleError, match=r"string, for which TFLite has no kernels.*Export the model in float32"
    ):
        lower(onnx_graph("g (string[2] x) => (string[2] y) { y = Identity(x) }"))


def test_lower__doubles_are_computed_in_float32(check: Check) -> None:
    text = "g (float[2] x) => (double[2] y) { d = Cast<to=11>(x) y = Add(d, d) }"
    assert check(text).codes == {"ADD": 1, "CAST": 1}


def test_lower__big_numbers_in_int64(onnx_graph: Check) -> None:
    model = onnx_graph("g (int64[1] x) => (int64[1] y) { y = Add(x, big) }", {"big": np.asarray([1 << 40], np.int64)})
    with pytest.raises(NotExpressibleError, match="constant 'big' holds numbers beyond 32 bits"):
        lower(model)


def test_lower__size_that_depends_on_values(onnx_graph: Check) -> None:
    text = "g (float[4] x) => (int64[1,n] i) { r = Relu(x) i = NonZero(r) }"
    with pytest.raises(NotExpressibleError, match=r"NonZero 'i': .*(Pin shapes|cut the model before it)"):
        lower(onnx_graph(text))


def test_lower__malformed_node(onnx_graph: Check) -> None:
    model = onnx_graph(
        "g (float[1,1,4,4] x) => (float[1,1,2,2] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }"
    )
    del model.graph.node[0].attribute[:]
    with pytest.raises(NotExpressibleError, match=r"MaxPool 'y': it is malformed .*Check the model with onnx\.checker"):
        lower(model)


def test_lower__more_than_two_gigabytes() -> None:
    # Two initializers that only claim their size: nothing is allocated.
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], "i")],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    for name in ("a", "b"):
        graph.initializer.append(TensorProto(name=name, data_type=1, dims=[300_000_000]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(
        NotExpressibleError, match=r"the weights take 2,400,000,000 bytes.*Quantize the weights or split"
    ):
        lower(model)


def test_lowers__registers_each_operator_once() -> None:
    assert expressible(onnx.ModelProto()) == ()
    with pytest.raises(ValueError, match="Conv is lowered twice"):
        lowers("Conv")(lambda ctx, node: None)


@pytest.mark.parametrize(
    ("source", "target", "layout", "needed", "made"),
    [
        ((1, 8, 4, 5), (1, 8, 20), (0, 2, 3, 1), (0, 2, 3, 1), (0, 2, 1)),
        ((2, 8, 4, 5), (2, 2, 4, 4, 5), (0, 2, 3, 1), (0, 2, 3, 1), (0, 3, 4, 1, 2)),
        ((2, 8, 4, 5), (2, 160), (0, 2, 3, 1), (0, 1, 2, 3), (0, 1)),
        ((1, 8, 1, 1), (1, 8), (0, 2, 3, 1), (0, 2, 3, 1), (0, 1)),
        ((2, 6), (2, 2, 3), (0, 1), (0, 1), (0, 1, 2)),
    ],
)
def test_layout__reshape(
    source: tuple[int, ...],
    target: tuple[int, ...],
    layout: tuple[int, ...],
    needed: tuple[int, ...],
    made: tuple[int, ...],
) -> None:
    before, after = reshape(source, target, layout)
    assert (before, after) == (needed, made)
    data = np.arange(np.prod(source)).reshape(source)
    lying = data.transpose(before).reshape([target[axis] for axis in after])
    assert np.array_equal(lying.transpose(permutation(after, tuple(range(len(target))))), data.reshape(target))


def test_layout__channels_last() -> None:
    assert channels_last(4) == (0, 2, 3, 1)
    assert channels_last(2) == (0, 1)


RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.load(sys.argv[2]))
interpreter.invoke()
np.save(sys.argv[3], interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""


@pytest.mark.parametrize("half", [False, True])
def test_lower__runs_in_tflite_runtime(onnx_graph: Check, tmp_path: Path, half: bool) -> None:
    """The last wheel of tflite-runtime (2.14, 2023): EDGESDK_TFLITE_RUNTIME names the Python of an environment that has it."""
    python = os.environ.get("EDGESDK_TFLITE_RUNTIME", "")
    if not python:
        pytest.skip(
            "needs EDGESDK_TFLITE_RUNTIME=.../bin/python (python3.11 -m venv ...; pip install tflite-runtime 'numpy<2')"
        )
    text = """g (float[1,4,9,8] x) => (float[1,6] y) {
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w0) b = Clip(a, zero, six)
        c = Conv<pads=[1,1,1,1], group=8, dilations=[1,1]>(b, w1) d = HardSwish(c)
        e = Conv<group=2>(d, w2) f = Resize<mode="linear">(e, , , sizes)
        g = ConvTranspose<strides=[2,2]>(f, w3, b3) h = MaxPool<kernel_shape=[2,2], strides=[2,2]>(g) i = PRelu(h, slope)
        j = GlobalAveragePool(i) k = Flatten(j) l = MatMul(k, w4) m = LayerNormalization(l, s5, b5) n = Gelu(m) y = Softmax(n)
    }"""
    arrays = {
        "w0": weight(8, 4, 3, 3), "w1": weight(8, 1, 3, 3), "w2": weight(8, 4, 1, 1), "w3": weight(8, 4, 2, 2), "b3": weight(4),
        "w4": weight(4, 6), "slope": weight(4, 1, 1), "s5": weight(6), "b5": weight(6),
        "zero": np.float32(0), "six": np.float32(6), "sizes": np.asarray([1, 8, 9, 8], np.int64),
    }  # fmt: skip
    model = onnx_graph(text, {name: np.asarray(value) for name, value in arrays.items()}, opset=20)
    feed = np.random.default_rng(0).normal(size=(1, 4, 9, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", feed)
    (tmp_path / "m.tflite").write_bytes(lower(model, half=half))
    done = subprocess.run(
        [python, "-c", RUN, str(tmp_path / "m.tflite"), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": feed})[0]
    assert np.abs(np.load(tmp_path / "y.npy") - expected).max() <= (3e-3 if half else 1e-5)


@pytest.mark.parametrize(
    ("opset", "text", "weights"),
    [
        (10, 'g (float[1,1,3,3] x) => (float[1,1,7,7] y) { y = Resize <mode = "linear"> (x, s) }', {"s": np.asarray([1, 1, 2.5, 2.5], np.float32)}),
        (9, 'g (float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Upsample <mode = "nearest"> (x, s) }', {"s": np.asarray([1, 1, 2, 2], np.float32)}),
        (10, "g (float[8] x) => (float[8] y) { y = Clip <min = -0.5, max = 0.5> (x) }", {}),
        (9, "g (float[4] x) => (float[2] y) { y = Slice <starts = [1], ends = [3], axes = [0]> (x) }", {}),
        (9, "g (float[4] x) => (float[6] y) { y = Pad <pads = [1,1]> (x) }", {}),
        (11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis = 1> (x) }", {}),
        (11, "g (float[2,4] x) => (float[2] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }", {}),
    ],
)  # fmt: skip
def test_lower__reads_old_operator_sets_as_they_were(
    onnx_graph: Callable[..., onnx.ModelProto],
    compare: Callable[..., Any],
    opset: int,
    text: str,
    weights: dict[str, Any],
) -> None:
    compare(onnx_graph(text, weights, opset=opset))


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("g (float[2,3] x) => (float[2,3] x, float[2,3] y) { y = Relu(x) }", {}),
        ("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }", {}),
        ("g (float[2,3] x) => (float[2,3] y, float[3] c) { y = Add(x, c) }", {"c": np.ones(3, np.float32)}),
        ("g (float[2,3] x) => (float[2,3] y, float[2,3] z) { a = Relu(x) y = Identity(a) z = Identity(a) }", {}),
        ("g (float[2,2] x) => (float[2,2] y) { y = Concat <axis = 0> (x, e) }", {"e": np.zeros((0, 2), np.float32)}),
        ("g (float[4] x) => (float[2] z) { y, z = Split <axis = 0> (x) }", {}),
        ("g (float[4] x, int64[2] i) => (float[2] y) { n = Neg(i) m = Sub(n, o) y = Gather(x, m) }", {"o": np.asarray(1)}),
        # Two squares where GELU has one: the factor of a formula is not the tensor itself.
        (
            "g (float[2,3] x) => (float[2,3] y) { d = Div(x, r) e = Erf(d) p = Add(e, o) q = Mul(p, p) y = Mul(q, h) }",
            {"r": np.float32(2**0.5), "o": np.float32(1), "h": np.float32(0.5)},
        ),
        (
            "g (float[4] x) => (float[1,4] y) { a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) y = Div(c, d) }",
            {"t": np.float32(3), "z": np.float32(0), "s": np.float32(6), "d": np.full((1, 1), 6, np.float32)},
        ),
    ],
)  # fmt: skip
def test_lower__of_unusual_graphs(check: Callable[..., Any], text: str, weights: dict[str, Any]) -> None:
    check(text, weights)


def test_lower__nothing_in_the_middle_goes_into_a_concat(check: Callable[..., Any]) -> None:
    check(
        "g (float[4,2] x) => (float[4,2] y) <int64[1] s = {2}, int64[1] a = {0}>"
        "{ n = Slice(x, s, s, a) y = Concat <axis = 0> (x, n) }"
    )


@pytest.mark.parametrize(
    ("text", "weights", "reason", "fix"),
    [
        ("g (float[4,2] x) => (float[0,2] y) <int64[1] s = {2}> { y = Slice(x, s, s) }", {}, "it has no elements", "Take it out of the outputs"),
        ("g (float[4] x) => (float[1] y) { y = Gather(x, i) }", {"i": np.asarray([7])}, "position 7 is outside of an axis of 4", "Correct the indices"),
        (
            "g (float[1,2,3,3] x) => (float[1,2,3,3] y, float[2] m, float[2] v) { c = Conv(x, w) y, m, v = BatchNormalization <training_mode = 1> (c, s, s, s, s) }",
            {"w": np.ones((2, 2, 1, 1), np.float32), "s": np.ones(2, np.float32)}, "it is in training mode", "evaluation mode",
        ),
        ("g (float[4] x, int64[1] k) => (float[2] y, float[2] z) <int64[1] o = {0}, int64[1] p = {2}, int64[1] q = {4}> { y = Slice(x, o, p, o, k) z = Slice(x, p, q, o, k) }", {}, "its bounds are computed", "Make them constant"),
    ],
)  # fmt: skip
def test_lower__refuses_what_it_cannot_say(
    onnx_graph: Callable[..., onnx.ModelProto], text: str, weights: dict[str, Any], reason: str, fix: str
) -> None:
    with pytest.raises(NotExpressibleError) as caught:
        lower(onnx_graph(text, weights))
    assert reason in str(caught.value)
    assert fix in str(caught.value)


def test_lower__of_control_flow_lists_the_other_nodes_as_well(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph(
        "g (float[2] x, bool c) => (float[2] y) { a = custom.Thing(x) n = NonZero(a) b = Relu(a) y = Identity(b) }"
    )
    model.opset_import.append(helper.make_opsetid("custom", 1))
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("a", 1, [2])])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], "choice", then_branch=branch, else_branch=branch))
    with pytest.raises(NotExpressibleError) as caught:
        lower(model)
    assert [(node.op_type, bool(node.fix)) for node in caught.value.nodes] == [
        ("If", True),
        ("Thing", True),
        ("NonZero", True),
    ]
    assert "of domain 'custom'" in str(caught.value)
