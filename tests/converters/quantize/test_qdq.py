from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.guard import snr_db
from edgesdk_converters.quantize import Quantizer, halve
from edgesdk_converters.quantize import equalize as balancing
from edgesdk_converters.quantize.equalize import equalize
from edgesdk_converters.quantize.qdq import activations, candidates, effective, insert, quantizable
from edgesdk_converters.quantize.ranges import Observer, Range
from edgesdk_converters.quantize.recipe import Plan, Recipe, Scheme
from edgesdk_converters.runner import OnnxRunner

Feeds = list[list[NDArray[np.float32]]]


def int8(
    model: onnx.ModelProto,
    feeds: Feeds,
    *,
    exclude: frozenset[str] = frozenset(),
    reduce_range: bool = False,
    calibrator: str = "mse",
    balance: bool = False,
) -> onnx.ModelProto:
    """Conv, Gemm and MatMul in int8, what lies between them in float."""
    quantizer = Quantizer(model, feeds, reduce_range=reduce_range)
    recipe = Recipe(name="test", coverage="compute", calibrator=calibrator, equalize=balance)
    return quantizer.apply(quantizer.plan(recipe, schemes=dict.fromkeys(exclude, "float")))


def worst(a: onnx.ModelProto, b: onnx.ModelProto, feeds: Feeds) -> float:
    one, other = OnnxRunner(a), OnnxRunner(b)
    return min(snr_db(one.run(feed)[0], other.run(feed)[0]) for feed in feeds)


def plan(schemes: dict[str, Scheme]) -> Plan:
    return Plan(
        recipe="test",
        model_sha256="",
        schemes=schemes,
        calibrator="minmax",
        equalize=False,
        bias_correction=True,
        rounding="nearest",
        per_channel=True,
        block_size=32,
    )


def weights(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    found: NDArray[Any] = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
    return found


def test_int8__close_and_valid(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantized = int8(small, feeds[:20])
    onnx.checker.check_model(quantized, full_check=True)
    assert worst(small, quantized, feeds[20:]) > 25
    counts = Counter(node.op_type for node in quantized.graph.node)
    assert counts["QuantizeLinear"] == 4  # x, and the outputs of three convolutions behind their ReLU
    assert [value.name for value in quantized.graph.output] == ["y"]


def test_int8__per_channel_symmetric_weights(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantized = int8(small, feeds)
    q, scale = weights(quantized, "first_weight_quantized"), weights(quantized, "first_weight_scale")
    assert q.dtype == np.int8
    assert (q.shape, scale.shape) == ((48, 3, 3, 3), (48,))
    assert q.min() >= -127
    assert not weights(quantized, "first_weight_zero_point").any()
    np.testing.assert_allclose(q * scale.reshape(-1, 1, 1, 1), weights(small, "w0"), atol=float(scale.max()) / 2 + 1e-6)
    assert weights(quantized, "first_bias_quantized").dtype == np.int32


def test_int8__runs_as_integer_convolutions(small: onnx.ModelProto, feeds: Feeds, tmp_path: object) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(int8(small, feeds).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = Counter(node.op_type for node in onnx.load(f"{tmp_path}/optimised.onnx").graph.node)
    assert names["QLinearConv"] == 3
    assert names["Conv"] + names["FusedConv"] == 0


def test_int8__quantized_graph_output_keeps_its_name(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    del classifier.graph.node[-1]
    classifier.graph.output[0].name = "logits"
    quantized = int8(classifier, feeds)
    onnx.checker.check_model(quantized)
    assert OnnxRunner(quantized).outputs == ["logits"]
    assert worst(classifier, quantized, feeds) > 20


def test_int8__excluded_nodes_stay_float(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantized = int8(small, feeds, exclude=frozenset({"last"}))
    node = next(node for node in quantized.graph.node if node.name == "last")
    assert "quantized" not in node.input[1]
    assert worst(small, quantized, feeds) >= worst(small, int8(small, feeds), feeds)


def test_int8__reduce_range_keeps_seven_bits(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantized = int8(small, feeds, reduce_range=True)
    assert np.abs(weights(quantized, "first_weight_quantized").astype(int)).max() == 63


def test_int8__same_bytes_twice(small: onnx.ModelProto, feeds: Feeds) -> None:
    for method in ("minmax", "mse"):
        first, second = (
            int8(small, feeds, calibrator=method, balance=True).SerializeToString(deterministic=True) for _ in range(2)
        )
        assert first == second


def test_int8__dead_channel_keeps_its_bias(make_conv: Callable[..., onnx.ModelProto], feeds: Feeds) -> None:
    model = make_conv()
    dead = np.array(weights(model, "w2"))
    dead[3] = 0
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(dead, "w2"))
    a, b = OnnxRunner(model).run(feeds[0])[0], OnnxRunner(int8(model, feeds)).run(feeds[0])[0]
    assert snr_db(a[:, 3], b[:, 3]) > 25


def test_int8__no_samples(small: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match=r"static int8 needs some\. Give a folder with --calibration"):
        int8(small, [])


def test_int8__nothing_to_quantize(parse: Callable[[str], onnx.ModelProto], feeds: Feeds) -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { y = Relu (x) }'
    )
    with pytest.raises(ConversionError, match="nothing in this model can be quantized: it has no Conv, Gemm or MatMul"):
        int8(model, feeds)


def test_insert__matches_the_formula(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2] x) => (float[1, 2] y) <float[2, 2] w = {1.0, 0.5, -0.25, 2.0}> { y = MatMul (x, w) }"""
    )
    model.graph.node[0].name = "mm"
    quantized = insert(model, plan({"mm": "w8a8"}), {"x": Range(-1.0, 1.0), "y": Range(-3.0, 3.0)})
    x = np.asarray([[0.5, -0.25]], np.float32)
    scale_x, scale_y = 2 / 255, 6 / 255
    zero_x, zero_y = round(1 / scale_x), round(3 / scale_y)
    xq = np.clip(np.rint(x / scale_x) + zero_x, 0, 255)
    w = np.asarray([[1, 0.5], [-0.25, 2]])
    scale_w = np.abs(w).max(axis=0) / 127
    product = ((xq - zero_x) * scale_x) @ (np.rint(w / scale_w) * scale_w)
    expected = (np.clip(np.rint(product / scale_y) + zero_y, 0, 255) - zero_y) * scale_y
    np.testing.assert_allclose(OnnxRunner(quantized).run([x])[0], expected, atol=scale_y * 1.01)


def test_candidates_and_heads(classifier: onnx.ModelProto, yolo: onnx.ModelProto) -> None:
    assert candidates(classifier) == ["first", "depthwise", "last", "head"]


def test_equalize__same_model_better_balanced(small: onnx.ModelProto, feeds: Feeds) -> None:
    # One channel of the depthwise convolution is 50 times larger: per-tensor scales lose the others.
    uneven = np.array(weights(small, "w1"))
    uneven[0] *= 50
    small.graph.initializer[2].CopyFrom(numpy_helper.from_array(uneven, "w1"))
    balanced = equalize(small, Observer(small, feeds, balancing.inputs(small)).channel_maxima)
    assert worst(small, balanced, feeds) > 90
    runner_s, runner_b = (OnnxRunner(int8(model, feeds)) for model in (small, balanced))
    expected = OnnxRunner(small).run(feeds[0])[0]
    assert snr_db(expected, runner_b.run(feeds[0])[0]) > snr_db(expected, runner_s.run(feeds[0])[0])


def test_halve__half_the_size_nearly_the_same(small: onnx.ModelProto, feeds: Feeds) -> None:
    half = halve(small)
    onnx.checker.check_model(half)
    assert worst(small, half, feeds) > 55
    assert weights(half, "w0_half").dtype == np.float16


def test_halve__weights_inside_if(parse: Callable[[str], onnx.ModelProto]) -> None:
    rng = np.random.default_rng(0)
    value = numpy_helper.from_array(rng.normal(size=(32, 32)).astype(np.float32), "k")
    inner = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Constant", [], ["k"], value=value),
            onnx.helper.make_node("MatMul", ["x", "k"], ["z"]),
        ],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("z", 1, [1, 32])],
    )
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 32]), onnx.helper.make_tensor_value_info("c", 9, [])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 32])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    half = halve(model)
    assert len(half.SerializeToString()) < 0.6 * len(model.SerializeToString())
    feed = [rng.normal(size=(1, 32)).astype(np.float32), np.asarray(True)]
    assert snr_db(OnnxRunner(model).run(feed)[0], OnnxRunner(half).run(feed)[0]) > 55


def test_halve__huge_values_stay(small: onnx.ModelProto) -> None:
    big = np.array(weights(small, "w0"))
    big[0, 0, 0, 0] = 1e6
    small.graph.initializer[0].CopyFrom(numpy_helper.from_array(big, "w0"))
    assert weights(halve(small), "w0").dtype == np.float32


def everything(model: onnx.ModelProto, feeds: Feeds, scheme: Scheme = "w8a8") -> onnx.ModelProto:
    """All nodes as ``scheme``, where they can."""
    names = sorted(activations(model))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in (*watched.graph.output, *watched.graph.input)}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, 1, None) for name in names if name not in there
    )
    runner = OnnxRunner(watched, wanted=names)
    runs = [runner.run_wanted(feed) for feed in feeds]
    ranges = {
        name: Range(min(0.0, *(float(run[i].min()) for run in runs)), max(0.0, *(float(run[i].max()) for run in runs)))
        for i, name in enumerate(names)
    }
    schemes: dict[str, Scheme] = {n.name: scheme if scheme in n.schemes else "float" for n in quantizable(model)}
    return insert(model, plan(schemes), ranges)


def optimized(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that ONNX Runtime really runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def parameters(model: onnx.ModelProto, tensor: str) -> tuple[float, int]:
    return float(weights(model, f"{tensor}_scale")), int(weights(model, f"{tensor}_zero_point"))


def test_insert__everything_runs_in_integers(classifier: onnx.ModelProto, feeds: Feeds, tmp_path: Path) -> None:
    quantized = everything(classifier, feeds)
    onnx.checker.check_model(quantized, full_check=True)
    found = optimized(quantized, tmp_path)
    assert (found["QLinearConv"], found["QLinearAdd"], found["QLinearGlobalAveragePool"], found["QGemm"]) == (
        3,
        1,
        1,
        1,
    )
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)
    assert found["Softmax"] == 1  # at the output: 1/256 is too coarse for a small class, and it costs nothing
    assert worst(classifier, quantized, feeds) > 20


def test_quantizable__what_decodes_the_outputs_stays_float(yolo: onnx.ModelProto) -> None:
    assert [node.name for node in quantizable(yolo)] == ["stem", "boxes_conv", "scores_conv"]
    assert all(node.is_compute and node.weight_elements and node.schemes[-1] == "float" for node in quantizable(yolo))


def test_insert__boxes_and_scores_keep_their_own_scales(yolo: onnx.ModelProto) -> None:
    rng = np.random.default_rng(3)
    feeds = [[rng.uniform(0, 1, (1, 3, 16, 16)).astype(np.float32)] for _ in range(6)]
    quantized = everything(yolo, feeds)
    a, b = OnnxRunner(yolo).run(feeds[0])[0], OnnxRunner(quantized).run(feeds[0])[0]
    assert snr_db(a[:, :4], b[:, :4]) > 25
    assert snr_db(a[:, 4:], b[:, 4:]) > 25


def test_insert__glue_between_float_layers_stays_float(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    schemes: dict[str, Scheme] = {node.name: "w8a8" for node in quantizable(classifier)}
    schemes |= {"first": "float", "last": "float"}
    chosen = effective(classifier, schemes)
    assert chosen["residual"] == "float"
    assert chosen["depthwise"] == "w8a8"


TAIL = """<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)"""


def glued(parse: Callable[[str], onnx.ModelProto], body: str, channels: int) -> onnx.ModelProto:
    """A convolution to four channels, ``body`` from a to z, a convolution from ``channels`` to four."""
    model = parse(f"{TAIL} <float[1] w0 = {{0}}, float[1] w1 = {{0}}> {{ a = Conv (x, w0) {body} y = Conv (z, w1) }}")
    rng = np.random.default_rng(0)
    for tensor, shape in zip(model.graph.initializer, ((4, 3, 1, 1), (4, channels, 1, 1)), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), tensor.name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}_{node.op_type}"
    return onnx.shape_inference.infer_shapes(model)


def small_feeds() -> Feeds:
    rng = np.random.default_rng(1)
    return [[rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)] for _ in range(4)]


def test_insert__pool_and_concat_share_one_scale(parse: Callable[[str], onnx.ModelProto]) -> None:
    body = "p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a) z = Concat <axis = 1> (a, p)"
    quantized = everything(glued(parse, body, 8), small_feeds())
    assert parameters(quantized, "a") == parameters(quantized, "p") == parameters(quantized, "z")


def test_insert__a_sigmoid_keeps_its_scale_in_a_concat(parse: Callable[[str], onnx.ModelProto], tmp_path: Path) -> None:
    model = glued(parse, "s = Sigmoid (a) z = Concat <axis = 1> (a, s)", 8)
    quantized = everything(model, small_feeds())
    assert parameters(quantized, "s") == (1 / 256, 0)
    assert parameters(quantized, "a") == parameters(quantized, "z") == parameters(quantized, "s_requantized1")
    assert optimized(quantized, tmp_path)["QLinearSigmoid"] == 1
    assert worst(model, quantized, small_feeds()) > 30


def test_insert__a_relu_beside_negative_numbers_keeps_its_scale(
    parse: Callable[[str], onnx.ModelProto], tmp_path: Path
) -> None:
    # With the zero point of the shared scale the Relu would not be part of the QLinearConv any more.
    model = glued(parse, "b = Conv (a, w1) r = Relu (b) z = Concat <axis = 1> (a, r)", 8)
    model.graph.node[1].input[1] = "w2"
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1), "w2"))
    quantized = everything(model, small_feeds())
    assert parameters(quantized, "r")[1] == 0
    assert parameters(quantized, "a") == parameters(quantized, "z") != parameters(quantized, "r")
    found = optimized(quantized, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["Conv"] + found["FusedConv"] + found["Relu"] == 0


def test_insert__sixteen_bits_are_symmetric(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    quantized = everything(classifier, feeds, "w8a16")
    onnx.checker.check_model(quantized, full_check=True)
    assert next(entry.version for entry in quantized.opset_import if not entry.domain) == 21
    assert weights(quantized, "r0_zero_point").dtype == np.int16
    assert weights(quantized, "r0_zero_point") == 0
    assert worst(classifier, quantized, feeds) > worst(classifier, everything(classifier, feeds), feeds)


def test_insert__eight_and_sixteen_bits_side_by_side(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    names = [node.name for node in quantizable(classifier)]
    ranges = {name: Range(-8.0, 8.0) for name in activations(classifier)}
    schemes: dict[str, Scheme] = {name: "w8a16" if number % 2 else "w8a8" for number, name in enumerate(names)}
    quantized = insert(classifier, plan(schemes), ranges)
    onnx.checker.check_model(quantized, full_check=True)
    assert worst(classifier, quantized, feeds) > 10


def test_insert__four_bit_weights_run_in_integer_kernels(small: onnx.ModelProto, feeds: Feeds, tmp_path: Path) -> None:
    quantized = everything(small, feeds, "w4a8")
    packed = next(t for t in quantized.graph.initializer if t.name == "last_weight_packed")
    assert packed.data_type == onnx.TensorProto.INT4
    assert len(packed.raw_data) == weights(small, "w2").size // 2
    assert optimized(quantized, tmp_path)["QLinearConv"] == 3


@pytest.mark.parametrize("scheme", ["w8", "w4"])
def test_insert__weight_only_runs_like_float(
    scheme: Scheme, classifier: onnx.ModelProto, feeds: Feeds, tmp_path: Path
) -> None:
    quantized = everything(classifier, feeds, scheme)
    assert len(quantized.SerializeToString()) < len(everything(classifier, feeds).SerializeToString())
    found = optimized(quantized, tmp_path)
    assert found["DequantizeLinear"] + found["Cast"] + found["Mul"] == 0
    assert worst(classifier, quantized, feeds) > (30 if scheme == "w8" else 8)


def test_insert__matrix_products_by_blocks_and_dynamic(parse: Callable[[str], onnx.ModelProto], tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]> g (float[1, 5, 70] x) => (float[1, 5, 40] y) <float[1] w = {0}> { y = MatMul (x, w) }"""
    )
    rng = np.random.default_rng(0)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(rng.normal(0, 1, (70, 40)).astype(np.float32), "w"))
    model.graph.node[0].name = "mm"
    feeds = [[rng.normal(0, 1, (1, 5, 70)).astype(np.float32)] for _ in range(3)]
    blocks, dynamic = everything(model, feeds, "w4"), everything(model, feeds, "dynamic")
    assert [node.op_type for node in blocks.graph.node] == ["MatMulNBits"]
    assert weights(blocks, "mm_weight_scale").shape == (40, 3)
    assert worst(model, blocks, feeds) > 18
    assert optimized(dynamic, tmp_path)["DynamicQuantizeMatMul"] == 1
    assert worst(model, dynamic, feeds) > 30


def test_insert__folded_pixels_are_the_first_integers(parse: Callable[[str], onnx.ModelProto], tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (uint8[1, 8, 8, 3] p) => (float[1, 4, 8, 8] y) <float s = {0.0078125}, uint8 z = {127}, float[1] w = {0}> {
            t = Transpose <perm = [0, 3, 1, 2]> (p)
            x = DequantizeLinear (t, s, z)
            y = Conv (x, w)
        }"""
    )
    rng = np.random.default_rng(0)
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(rng.normal(0, 1, (4, 3, 1, 1)).astype(np.float32), "w"))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    feeds: Any = [[rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)] for _ in range(3)]
    quantized = everything(model, feeds)
    found = optimized(quantized, tmp_path)
    assert found["QuantizeLinear"] == 0
    assert found["QLinearConv"] == 1
    assert worst(model, quantized, feeds) > 35


def test_coverage__names_what_exists() -> None:
    from edgesdk_converters.quantize.coverage import coverage
    from edgesdk_converters.tflite.lower import rule_of

    for name, row in coverage().operators.items():
        onnx.defs.get_schema(name)
        rule = rule_of(name)
        assert rule is not None, name
        if row.tflite and name not in ("Gemm", "MatMul"):  # those become convolutions of one pixel
            assert rule.int8 is not None, name
        assert (row.fixed is not None) == (row.scale == "fixed")
