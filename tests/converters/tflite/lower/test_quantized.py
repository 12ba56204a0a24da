"""One quantized graph, two formats: what ONNX Runtime and LiteRT make of the same integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.guard import snr_db
from edgesdk_converters.quantize import qdq
from edgesdk_converters.quantize.ranges import Range
from edgesdk_converters.quantize.recipe import Plan, Scheme
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower import lower

Array = NDArray[Any]
SAME = frozenset(
    {
        "MaxPool", "AveragePool", "Concat", "Split", "Slice", "Pad", "Resize", "Gather", "Reshape", "Flatten", "Squeeze",
        "Unsqueeze", "Transpose", "DepthToSpace",
    }
)  # fmt: skip
"""Operators whose operands and results must share scale and zero point, from TFLite's 8-bit quantization specification."""
FIXED = {"Sigmoid": (1 / 256, 0), "Softmax": (1 / 256, 0), "Tanh": (1 / 128, 128)}
"""Result's scale and uint8 zero point, likewise."""


def quantized(model: onnx.ModelProto, feeds: list[list[Array]], scheme: Scheme = "w8a8") -> onnx.ModelProto:
    """Everything that can be, as ``scheme``; ranges by extremes."""
    schemes: dict[str, Scheme] = {
        node.name: scheme
        if scheme in node.schemes
        else "w8a8"
        if "w8a8" in node.schemes and scheme == "w4a8"
        else "float"
        for node in qdq.quantizable(model)
    }
    names = sorted(qdq.activations(model))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in (*watched.graph.output, *watched.graph.input)}
    watched.graph.output.extend(helper.make_tensor_value_info(n, 1, None) for n in names if n not in there)
    runner = OnnxRunner(watched, wanted=names)
    runs = [runner.run_wanted(feed) for feed in feeds]
    ranges = {
        name: Range(min(0.0, *(float(run[i].min()) for run in runs)), max(0.0, *(float(run[i].max()) for run in runs)))
        for i, name in enumerate(names)
    }
    plan = Plan(
        recipe="test",
        model_sha256="",
        schemes=schemes,
        calibrator="minmax",
        equalize=False,
        bias_correction=False,
        rounding="nearest",
        per_channel=True,
        block_size=32,
    )
    return qdq.insert(model, plan, ranges)


def litert(content: bytes, feed: list[Array]) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), feed, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [np.asarray(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def codes(content: bytes) -> Counter[str]:
    schema = fb.schema()
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    return Counter(
        names[model.operatorCodes[op.opcodeIndex].builtinCode] for graph in model.subgraphs for op in graph.operators
    )


def optimized(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that ONNX Runtime really runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def breaches(model: onnx.ModelProto) -> list[str]:  # noqa: C901 - one rule after the other, as in the specification
    """What of TFLite's 8-bit quantization specification a QDQ graph does not satisfy; knows nothing of how it was made."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def parameters(node: Any) -> tuple[Any, Any]:
        return values[node.input[1]], values[node.input[2]]

    found: list[str] = []
    for node in model.graph.node:
        behind = node
        while (
            len(readers.get(behind.output[0], [])) == 1
            and readers[behind.output[0]][0].op_type in ("Relu", "Clip", "Add")
            and (node.op_type in ("Conv", "MatMul", "Gemm", "Add", "Mul", "Sub"))
            and readers[behind.output[0]][0].op_type != behind.op_type
        ):
            behind = readers[behind.output[0]][0]
        results = [r for name in behind.output for r in readers.get(name, []) if r.op_type == "QuantizeLinear"]
        operands = [made[name] for name in node.input if name in made and made[name].op_type == "DequantizeLinear"]
        if not results or not operands or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op_type in SAME:
            sets = {tuple(map(float, parameters(one))) for one in (*operands, *results)}
            if len(sets) > 1:
                found.append(f"{node.op_type} {node.name}: {sets}")
        if node.op_type in FIXED:
            scale, zero = parameters(results[0])
            if zero.dtype == np.uint8 and (float(scale), int(zero)) != FIXED[node.op_type]:
                found.append(f"{node.op_type} {node.name}: {scale}, {zero}")
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(operands) > 1 and operands[1].input[0] in values:
            scale_in, (scale_w, zero_w) = float(parameters(operands[0])[0]), parameters(operands[1])
            if zero_w.any() or np.abs(values[operands[1].input[0]].astype(int)).max() > 127:
                found.append(f"{node.name}: weights are not symmetric")
            if len(operands) > 2:
                scale_b, zero_b = parameters(operands[2])
                if zero_b.any() or not np.allclose(scale_b, scale_in * scale_w, rtol=1e-6):
                    found.append(f"{node.name}: bias scale is not input times weight")
    return found


def conv(
    rng: np.random.Generator, name: str, source: str, channels: tuple[int, int], **attributes: Any
) -> tuple[list[Any], dict[str, Array]]:
    group = attributes.get("group", 1)
    weight = rng.normal(0, 0.4, (channels[1], channels[0] // group, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [name], name, pads=[1, 1, 1, 1], **attributes)
    return [node], {f"{name}_w": weight, f"{name}_b": rng.normal(0, 0.2, channels[1]).astype(np.float32)}


BLOCKS = (
    "add",
    "mul",
    "concat",
    "pool",
    "average",
    "relu",
    "clip",
    "leaky",
    "sigmoid",
    "depthwise",
    "resize",
    "split",
    "transpose",
    "pad",
)


def network(blocks: list[str], seed: int) -> onnx.ModelProto:  # noqa: C901 - one branch per block
    """A chain of blocks between a first and a last convolution, eight channels wide."""
    rng = np.random.default_rng(seed)
    nodes, constants = conv(rng, "first", "x", (3, 8))
    at, size = "first", 16

    def put(kind: str, inputs: list[str], name: str, outputs: list[str] | None = None, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, outputs or [name], name, **attributes))
        return (outputs or [name])[0]

    for number, block in enumerate(blocks):
        name = f"n{number}_{block}"
        if block in ("add", "mul", "concat"):
            more, values = conv(rng, f"{name}_side", at, (8, 8))
            nodes += more
            constants |= values
            side = f"{name}_side"
            if block == "concat":
                side = put("Relu", [side], f"{name}_relu")
                wide = put("Concat", [at, side], f"{name}_wide", axis=1)
                more, values = conv(rng, name, wide, (16, 8))
                nodes += more
                constants |= values
                at = name
            else:
                at = put(block.capitalize(), [at, side], name)
        elif block == "depthwise":
            more, values = conv(rng, name, at, (8, 8), group=8)
            nodes += more
            constants |= values
            at = put("Relu", [name], f"{name}_relu")
        elif block in ("pool", "average") and size > 4:
            kind = "MaxPool" if block == "pool" else "AveragePool"
            at, size = put(kind, [at], name, kernel_shape=[2, 2], strides=[2, 2]), size // 2
        elif block == "relu":
            at = put("Relu", [at], name)
        elif block == "clip":
            constants |= {f"{name}_low": np.asarray(0, np.float32), f"{name}_high": np.asarray(6, np.float32)}
            at = put("Clip", [at, f"{name}_low", f"{name}_high"], name)
        elif block == "leaky":
            at = put("LeakyRelu", [at], name, alpha=0.1)
        elif block == "sigmoid":
            at = put("Mul", [at, put("Sigmoid", [at], f"{name}_gate")], name)
        elif block == "resize" and size < 16:
            constants |= {f"{name}_scales": np.asarray([1, 1, 2, 2], np.float32)}
            at = put(
                "Resize",
                [at, "", f"{name}_scales"],
                name,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            size *= 2
        elif block == "split":
            first = put("Split", [at], name, [f"{name}_a", f"{name}_b"], axis=1)
            at = put("Concat", [f"{name}_b", first], f"{name}_swapped", axis=1)
        elif block == "transpose":
            turned = put("Transpose", [at], f"{name}_there", perm=[0, 2, 3, 1])
            at = put("Transpose", [turned], name, perm=[0, 3, 1, 2])
        elif block == "pad":
            constants |= {f"{name}_pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}
            at, size = put("Pad", [at, f"{name}_pads"], name), size + 2
    more, values = conv(rng, "last", at, (8, 4))
    nodes += more
    constants |= values
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("last", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def inputs(count: int = 6, seed: int = 0) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    return [[rng.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)] for _ in range(count)]


def last_scale(model: onnx.ModelProto) -> float:
    node = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    return float(next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[1]))


@pytest.mark.parametrize("block", BLOCKS)
def test_lower__each_block_is_integer_and_agrees(block: str) -> None:
    model = network(["pool", block], 3)
    q = quantized(model, inputs())
    onnx.checker.check_model(q, full_check=True)
    assert breaches(q) == []
    content = lower(q)
    found = codes(content)
    # A ReLU's own scale and one shared with negative numbers contradict each other: that operand is quantized again. And a
    # ReLU that no operator takes in is the saturation of a QUANTIZE.
    assert (found["QUANTIZE"], found["DEQUANTIZE"]) == (2 if block in ("concat", "relu", "clip") else 1, 1), found
    for feed in inputs(3, 7):
        difference = np.abs(OnnxRunner(q).run(feed)[0] - litert(content, feed)[0]) / last_scale(q)
        assert np.mean(difference <= 1.01) >= (0.9 if block == "average" else 0.97)
        assert difference.max() <= 2.01


CHAINED = tuple(block for block in BLOCKS if block != "average")
"""The mean of four integers lies halfway between two in a quarter of all cases, and each runtime rounds that its own way."""


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(blocks=st.lists(st.sampled_from(CHAINED), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_lower__random_networks_agree_in_both_formats(blocks: list[str], seed: int) -> None:
    model = network(blocks, seed)
    q = quantized(model, inputs())
    assert breaches(q) == []
    content = lower(q)
    # A requantization (QUANTIZE of integers) is due only where a clamp and a shared scale contradict each other.
    assert codes(content)["DEQUANTIZE"] == 1
    for feed in inputs(2, seed + 1):
        a, b = OnnxRunner(q).run(feed)[0], litert(content, feed)[0]
        # Three concatenations requantize six times, and each rounds some halves the other way.
        assert np.mean(np.abs(a - b) <= 2.02 * last_scale(q)) >= 0.9


def test_lower__sixteen_bit_activations() -> None:
    model = network(["add", "pool", "relu"], 1)
    q = quantized(model, inputs(), "w8a16")
    content = lower(q)
    for feed in inputs(3, 7):
        expected, a, b = OnnxRunner(model).run(feed)[0], OnnxRunner(q).run(feed)[0], litert(content, feed)[0]
        assert snr_db(a, b) > 60
        assert snr_db(expected, b) > snr_db(expected, OnnxRunner(quantized(model, inputs())).run(feed)[0])


def test_lower__four_bit_weights_run_as_eight() -> None:
    model = network(["depthwise"], 1)
    q = quantized(model, inputs(), "w4a8")
    content = lower(q)
    assert codes(content)["DEQUANTIZE"] == 1
    for feed in inputs(3, 7):
        assert np.abs(OnnxRunner(q).run(feed)[0] - litert(content, feed)[0]).max() <= 1.01 * last_scale(q)


@pytest.mark.parametrize("scheme", ["w8", "w4"])
def test_lower__weight_only_keeps_integers_in_the_file(scheme: Scheme) -> None:
    model = network(["depthwise", "add"], 1)
    q = quantized(model, inputs(), scheme)
    content = lower(q)
    assert codes(content)["DEQUANTIZE"] == 4  # one per convolution's weights
    for feed in inputs(2, 7):
        assert snr_db(OnnxRunner(q).run(feed)[0], litert(content, feed)[0]) > 90


def matmul(bias: bool, activation: bool = True) -> onnx.ModelProto:
    rng = np.random.default_rng(5)
    arrays = {"w": rng.normal(0, 0.3, (48, 32)), "b": rng.normal(0, 0.5, 32), "w2": rng.normal(0, 0.3, (32, 24))}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "first")]
    at = "m"
    if bias:
        nodes.append(helper.make_node("Add", [at, "b"], ["s"], "bias"))
        at = "s"
    if activation:
        nodes.append(helper.make_node("Relu", [at], ["r"], "relu"))
        at = "r"
    nodes.append(helper.make_node("MatMul", [at, "w2"], ["y"], "second"))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", 1, [1, 7, 48])],
        [helper.make_tensor_value_info("y", 1, [1, 7, 24])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rows(count: int, seed: int = 0) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    return [[rng.normal(0, 1, (1, 7, 48)).astype(np.float32)] for _ in range(count)]


@pytest.mark.parametrize("bias", [False, True])
def test_lower__matrix_products_per_channel(bias: bool) -> None:
    model = matmul(bias)
    q = quantized(model, rows(8))
    assert breaches(q) == []
    content = lower(q)
    found = codes(content)
    assert (found["CONV_2D"], found["QUANTIZE"], found["DEQUANTIZE"], found["ADD"]) == (2, 1, 1, 0)
    for feed in rows(3, 9):
        a, b = OnnxRunner(q).run(feed)[0], litert(content, feed)[0]
        assert np.abs(a - b).max() <= 1.01 * last_scale(q)


def test_lower__dynamic_is_hybrid() -> None:
    model = matmul(bias=True)
    q = quantized(model, rows(8), "dynamic")
    content = lower(q)
    assert codes(content)["CONV_2D"] == 2
    assert len(content) < 0.6 * len(lower(model))
    for feed in rows(3, 9):
        assert snr_db(OnnxRunner(q).run(feed)[0], litert(content, feed)[0]) > 30


def test_lower__blocks_of_four_bits() -> None:
    model = matmul(bias=True)
    q = quantized(model, rows(8), "w4")
    assert [node.op_type for node in q.graph.node].count("MatMulNBits") == 2
    for feed in rows(3, 9):
        assert snr_db(OnnxRunner(q).run(feed)[0], litert(lower(q), feed)[0]) > 80


def test_lower__what_has_no_kernel_is_float_between() -> None:
    model = network(["pool"], 2)
    node = next(node for node in model.graph.node if node.name == "last")
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("HardSwish", [node.input[0]], ["hs"], "hs"))
    node.input[0] = "hs"
    content = lower(quantized(model, inputs()))
    found = codes(content)
    assert (found["HARD_SWISH"], found["DEQUANTIZE"], found["QUANTIZE"]) == (1, 2, 2)


def test_lower__integer_boundary(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (uint8[1, 4, 8, 8] x) => (uint8[1, 4, 4, 4] y) <float s = {0.02}, uint8 z = {100}> {
            d = DequantizeLinear (x, s, z)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
            y = QuantizeLinear (m, s, z)
        }"""
    )
    content = lower(model)
    assert codes(content)["MAX_POOL_2D"] == 1
    assert codes(content)["DEQUANTIZE"] == 0
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(litert(content, [x])[0], OnnxRunner(model).run([x])[0])
