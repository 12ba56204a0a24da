from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.errors import CalibrationError, ConfigError, ConversionError
from edgesdk_converters.graph import simplify
from edgesdk_converters.guard import snr_db
from edgesdk_converters.progress import Quiet
from edgesdk_converters.quantize import rounding as rounding_module
from edgesdk_converters.quantize.moments import collect
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Plan, Recipe, Rounding, Rule, Scheme
from edgesdk_converters.quantize.recipes import load_recipe
from edgesdk_converters.quantize.sparsity import sparsity
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.tflite.lower import lower
from edgesdk_converters.variants.open import open_tflite

Feeds = list[list[NDArray[np.float32]]]
INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)


def worst(a: onnx.ModelProto, b: onnx.ModelProto, feeds: Feeds) -> float:
    one, other = OnnxRunner(a), OnnxRunner(b)
    return min(snr_db(one.run(feed)[0], other.run(feed)[0]) for feed in feeds)


def recipe(name: str, **changes: Any) -> Recipe:
    return msgspec.structs.replace(load_recipe(name), **changes)


class Heard(Quiet):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def transformer(width: int = 96, inner: int = 192, tokens: int = 16) -> onnx.ModelProto:
    """A feed-forward block as MiniLM has six of: two MatMul with biases around a Relu, and a residual."""
    rng = np.random.default_rng(5)
    arrays = {
        "w1": rng.normal(0, 0.08, (width, inner)),
        "b1": rng.normal(0, 0.1, inner),
        "w2": rng.normal(0, 0.08, (inner, width)),
        "b2": rng.normal(0, 0.1, width),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m1"], "up"),
        helper.make_node("Add", ["m1", "b1"], ["a1"], "up_bias"),
        helper.make_node("Relu", ["a1"], ["r1"], "relu"),
        helper.make_node("MatMul", ["r1", "w2"], ["m2"], "down"),
        helper.make_node("Add", ["m2", "b2"], ["a2"], "down_bias"),
        helper.make_node("Add", ["a2", "x"], ["y"], "residual"),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", 1, [1, tokens, width])],
        [helper.make_tensor_value_info("y", 1, [1, tokens, width])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def block() -> onnx.ModelProto:
    return transformer()


@pytest.fixture
def sentences() -> Feeds:
    rng = np.random.default_rng(6)
    mix = rng.normal(0, 1, (96, 96)) / 6
    return [[(rng.normal(0, 1, (1, 16, 96)) @ mix).astype(np.float32)] for _ in range(24)]


# -- plans ---------------------------------------------------------------------------------------------------------------


def test_plan__what_a_node_cannot_have_becomes_the_nearest(classifier: onnx.ModelProto) -> None:
    quantizer = Quantizer(classifier)
    plan = quantizer.plan(recipe("w4a8"))
    assert {plan.schemes[name] for name in ("first", "depthwise", "last", "head")} == {"w4a8"}
    assert plan.schemes["residual"] == "w8a8"
    assert set(quantizer.plan(recipe("float16")).schemes.values()) == {"float"}
    assert quantizer.plan(recipe("w8")).schemes["residual"] == "float"
    assert quantizer.plan(recipe("auto")).schemes == quantizer.plan(recipe("w8a8")).schemes


def test_plan__rules_in_order(classifier: onnx.ModelProto) -> None:
    rules = (Rule(op="Conv", scheme="w8a16"), Rule(nodes="*t", scheme="float"), Rule(nodes="first", scheme="w8"))
    plan = Quantizer(classifier).plan(recipe("w8a8", rules=rules), schemes={"head": "float"})
    assert [plan.schemes[name] for name in ("first", "depthwise", "last", "head")] == ["w8", "w8a16", "float", "float"]
    assert plan.float_nodes[0] == "last"


def test_plan__all_typos_at_once(classifier: onnx.ModelProto) -> None:
    rules = (
        Rule(nodes="frist", scheme="float"),
        Rule(nodes="conv9*", scheme="float"),
        Rule(nodes="residual", scheme="w4"),
    )
    with pytest.raises(ConfigError) as caught:
        Quantizer(classifier).plan(recipe("w8a8", rules=rules), schemes={"heads": "float"})
    first, second, third, fourth = caught.value.problems
    assert first.startswith("recipe 'w8a8', rule 1: no node is called 'frist'. Did you mean 'first'?")
    assert "Nodes that can be quantized: first, depthwise, last" in second
    assert third == "recipe 'w8a8', rule 3: node 'residual' (Add) cannot be 'w4'. It can be w8a8, w8a16, float."
    assert fourth.startswith("schemes: no node is called 'heads'. Did you mean 'head'?")


def test_plan__node_that_is_always_float(yolo: onnx.ModelProto) -> None:
    with pytest.raises(ConfigError, match=r"node 'box_sigmoid' can only be float.*Remove the rule"):
        Quantizer(yolo).plan(recipe("w8a8", rules=(Rule(nodes="box_sigmoid", scheme="w8a8"),)))


def test_plan__says_what_nodes_really_become(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    heard = Heard()
    quantizer = Quantizer(classifier, feeds, progress=heard)
    floats: dict[str, Scheme] = dict.fromkeys(("first", "last"), "float")
    plan = quantizer.plan(recipe("w8a8", rules=(Rule(nodes="residual", scheme="w8a8"),)), schemes=floats)
    assert plan.schemes["residual"] == "float"
    assert "residual" in plan.float_nodes
    made = quantizer.apply(plan)
    add = next(node for node in made.graph.node if node.name == "residual")
    assert not any("dequantized" in name for name in add.input)
    asked = msgspec.structs.replace(plan, schemes={**plan.schemes, "residual": "w8a8"})
    assert quantizer.apply(asked).SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)
    (line,) = heard.lines
    assert line.startswith(
        "warning: recipe 'w8a8' asks for w8a8 of 'residual', which stays float: it lies between layers"
    )
    assert line.endswith("Quantize its neighbours, too, or remove the rule.")


def test_plan__a_name_with_brackets_is_a_name(classifier: onnx.ModelProto) -> None:
    for node in classifier.graph.node:
        node.name = f"{node.name}[0]"
    plan = Quantizer(classifier).plan(recipe("w8a8", rules=(Rule(nodes="last[0]", scheme="w8"),)))
    assert plan.schemes["last[0]"] == "w8"
    assert plan.schemes["first[0]"] == "w8a8"


def test_plan__survives_a_file(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    quantizer = Quantizer(classifier, feeds)
    plan = quantizer.plan(recipe("w8a8"))
    again = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    assert again == plan
    assert quantizer.apply(again).SerializeToString() == Quantizer(classifier, feeds).apply(plan).SerializeToString()


def test_apply__plan_of_another_model(classifier: onnx.ModelProto, small: onnx.ModelProto, feeds: Feeds) -> None:
    plan = Quantizer(classifier).plan(recipe("w8a8"))
    with pytest.raises(ConversionError, match=r"made for another graph .*'residual'.*Convert the same source"):
        Quantizer(small, feeds).apply(plan)


# -- what comes out ------------------------------------------------------------------------------------------------------

SNR = {"float16": 60, "dynamic": 25, "w8a8": 25, "w8a16": 27, "w8": 33, "w4a8": 10, "w4": 10}


@pytest.mark.parametrize("name", SNR)
def test_apply__every_recipe_is_close_and_smaller(
    name: str, make_conv: Callable[..., onnx.ModelProto], feeds: Feeds
) -> None:
    model = make_conv(channels=64, classes=5)
    quantizer = Quantizer(model, feeds[:16])
    plan = quantizer.plan(recipe(name))
    made = quantizer.apply(plan)
    onnx.checker.check_model(made)
    assert worst(model, made, feeds[16:]) > SNR[name]
    before, after = stored_bytes(model), stored_bytes(made)
    share = {"float16": 0.52, "w4a8": 0.26}.get(name, 0.38)
    assert after < share * before, (before, after)
    # No silent no-op: every layer that the plan names has integer weights.
    wanted = [node.name for node in quantizer.nodes if node.weight_elements and plan.schemes[node.name] != "float"]
    integers = {tensor.name for tensor in made.graph.initializer if tensor.data_type in INTEGERS}
    assert all(any(one.startswith(f"{node}_weight") for one in integers) for node in wanted)
    assert len(wanted) == (0 if name == "float16" else 4)


def stored_bytes(model: onnx.ModelProto) -> int:
    """Of the initializers, 4-bit ones packed."""
    return sum(
        len(numpy_helper.from_array(numpy_helper.to_array(t)).raw_data)
        if t.data_type not in INTEGERS[2:]
        else -(-int(np.prod(t.dims)) // 2)
        for t in model.graph.initializer
    )


def test_apply__transformer_weights_in_blocks(block: onnx.ModelProto, sentences: Feeds) -> None:
    quantizer = Quantizer(block, sentences[:16])
    by: dict[str, float] = {}
    for rounding in ("nearest", "gptq", "adaround"):
        made = quantizer.apply(quantizer.plan(recipe("w4", rounding=rounding)))
        counts = Counter(node.op_type for node in made.graph.node)
        assert counts["MatMulNBits"] == 2
        assert len(made.SerializeToString()) < 0.25 * len(block.SerializeToString())
        by[rounding] = worst(block, made, sentences[16:])
    assert by["nearest"] > 18
    assert by["gptq"] > by["nearest"] + 0.5
    assert by["adaround"] > by["nearest"] + 0.5


def gemm(inner: int = 32, *, turned: bool, width: int = 64) -> onnx.ModelProto:
    """One layer as simplification leaves matrix products with a bias."""
    rng = np.random.default_rng(8)
    weight = rng.normal(0, 0.1, (inner, width) if turned else (width, inner)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=int(turned))],
        "layer",
        [helper.make_tensor_value_info("x", 1, [16, width])],
        [helper.make_tensor_value_info("y", 1, [16, inner])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(rng.normal(0, 0.1, inner).astype(np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", ["nearest", "gptq"])
def test_apply__products_with_a_bias_in_blocks(method: Rounding, turned: bool, feeds: Feeds) -> None:
    # As many outputs as a block has weights: what is stored has the shape that the weights have, but lies the other way.
    model = gemm(turned=turned)
    rng = np.random.default_rng(9)
    rows = [[rng.normal(0, 1, (16, 64)).astype(np.float32)] for _ in range(24)]
    quantizer = Quantizer(model, rows[:16])
    made = quantizer.apply(quantizer.plan(recipe("w4", rounding=method)))
    assert [node.op_type for node in made.graph.node] == ["MatMulNBits", "Add"]
    assert worst(model, made, rows[16:]) > 18
    content = lower(made, name="layer")
    interpreter = open_tflite(content, "layer", ("x",), ("y",))
    expected = OnnxRunner(made).run(rows[20])[0]
    assert snr_db(expected, interpreter.run(rows[20])[0]) > 60


def test_apply__simplified_transformer_is_in_blocks(block: onnx.ModelProto, sentences: Feeds) -> None:
    model, _ = simplify(block, OnnxRunner(block), sentences[:1])
    quantizer = Quantizer(model, sentences[:16])
    made = quantizer.apply(quantizer.plan(recipe("w4")))
    assert Counter(node.op_type for node in made.graph.node)["MatMulNBits"] == 2


def test_apply__weights_of_float_arithmetic_keep_all_their_steps(block: onnx.ModelProto, sentences: Feeds) -> None:
    made = []
    for reduced in (False, True):
        quantizer = Quantizer(block, reduce_range=reduced)
        made.append(quantizer.apply(quantizer.plan(recipe("w8"))).SerializeToString(deterministic=True))
    assert made[0] == made[1]


def test_apply__plans_that_begin_alike_share_what_was_learnt(
    classifier: onnx.ModelProto, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[str, ...]] = []

    def counted(layers: Any, *arguments: Any, **options: Any) -> Any:
        passes.append(tuple(layers))
        return collect(layers, *arguments, **options)

    monkeypatch.setattr(rounding_module, "collect", counted)
    quantizer = Quantizer(classifier, feeds)
    whole = quantizer.plan(recipe("w8a8", rounding="gptq"))
    quantizer.apply(whole)
    assert passes == [("first",), ("depthwise",), ("last",), ("head",)]
    passes.clear()
    for name, learnt in {"head": [], "last": [("head",)], "first": [("depthwise",), ("last",), ("head",)]}.items():
        plan = quantizer.settled(whole.with_schemes({name: "float"}))
        content = quantizer.apply(plan).SerializeToString(deterministic=True)
        assert passes == learnt, name
        passes.clear()
        # What is shared is what would have been learnt.
        assert Quantizer(classifier, feeds).apply(plan).SerializeToString(deterministic=True) == content
        passes.clear()


def test_apply__dynamic_transformer_runs_fused(block: onnx.ModelProto, sentences: Feeds, tmp_path: Path) -> None:
    import onnxruntime

    made = Quantizer(block).apply(Quantizer(block).plan(recipe("dynamic")))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert counts["DynamicQuantizeMatMul"] + counts["MatMulIntegerToFloat"] == 2
    assert worst(block, made, sentences) > 25


def test_apply__weight_only_needs_no_samples(block: onnx.ModelProto, sentences: Feeds) -> None:
    quantizer = Quantizer(block)
    made = quantizer.apply(quantizer.plan(recipe("w8")))
    assert worst(block, made, sentences) > 35
    with pytest.raises(CalibrationError, match=r"no calibration samples.*Give a folder with --calibration"):
        quantizer.apply(quantizer.plan(recipe("w8a8")))


def test_apply__rounding_needs_samples(block: onnx.ModelProto) -> None:
    quantizer = Quantizer(block)
    with pytest.raises(CalibrationError, match=r"rounding 'gptq' of recipe 'w4' needs some.*'rounding: nearest'"):
        quantizer.apply(quantizer.plan(recipe("w4")))


def test_apply__bias_of_weight_only_layers(make_conv: Callable[..., onnx.ModelProto], feeds: Feeds) -> None:
    model = make_conv(channels=32)
    quantizer = Quantizer(model, feeds[:20])
    plain, corrected = (
        worst(model, quantizer.apply(quantizer.plan(recipe("w8", bias_correction=wanted))), feeds[20:])
        for wanted in (False, True)
    )
    assert corrected > plain


@pytest.mark.parametrize("rounding", ["gptq", "adaround"])
def test_apply__same_bytes_twice(rounding: str, classifier: onnx.ModelProto, feeds: Feeds) -> None:
    wanted = recipe("w4a8", rounding=rounding, equalize=True)
    first, second = (
        quantizer.apply(quantizer.plan(wanted)).SerializeToString(deterministic=True)
        for quantizer in (Quantizer(classifier, feeds), Quantizer(classifier, feeds))
    )
    assert first == second


def test_apply__rounding_helps_four_bits(make_conv: Callable[..., onnx.ModelProto], feeds: Feeds) -> None:
    model = make_conv(channels=32)
    quantizer = Quantizer(model, feeds[:20])
    by = {
        rounding: worst(model, quantizer.apply(quantizer.plan(recipe("w4a8", rounding=rounding))), feeds[20:])
        for rounding in ("nearest", "gptq", "adaround")
    }
    assert by["gptq"] > by["nearest"] + 0.5
    assert by["adaround"] > by["nearest"] + 0.5


def test_apply__mixed_schemes(classifier: onnx.ModelProto, feeds: Feeds) -> None:
    quantizer = Quantizer(classifier, feeds)
    schemes: dict[str, Scheme] = {"first": "w8a16", "depthwise": "w4a8", "last": "w8a8", "head": "float"}
    made = quantizer.apply(quantizer.plan(recipe("w8a8"), schemes=schemes))
    assert worst(classifier, made, feeds) > 15


@pytest.mark.parametrize("name", ["w8a8", "w4a8", "w4", "dynamic", "w8"])
def test_apply__single_channel_and_dead_weights(
    name: str, make_conv: Callable[..., onnx.ModelProto], feeds: Feeds
) -> None:
    model = make_conv(channels=1)
    zero = numpy_helper.to_array(model.graph.initializer[4]) * 0
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(zero, "w2"))
    quantizer = Quantizer(model, feeds[:8])
    assert worst(model, quantizer.apply(quantizer.plan(recipe(name))), feeds[8:]) > 10


# -- questions to it -----------------------------------------------------------------------------------------------------


def test_histograms__of_the_integer_activations(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantizer = Quantizer(small, feeds)
    plan = quantizer.plan(recipe("w8a8"))
    shown = {one.tensor: one for one in quantizer.histograms(plan)}
    assert {"x", "r0", "r1", "c2"} == set(shown)
    assert shown["r0"].node == "relu0"
    assert shown["r0"].low <= shown["r0"].chosen_low <= shown["r0"].chosen_high <= shown["r0"].high
    assert quantizer.histograms(quantizer.plan(recipe("w8"))) == ()


def test_idle__names_what_no_sample_excited(small: onnx.ModelProto, feeds: Feeds) -> None:
    bias = numpy_helper.to_array(small.graph.initializer[3]) * 0 - 100
    small.graph.initializer[3].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), "b1"))
    quantizer = Quantizer(small, feeds)
    assert quantizer.idle(quantizer.plan(recipe("w8a8"))) == ("r1",)
    assert quantizer.idle(quantizer.plan(recipe("w8"))) == ()


def test_apply__says_once_what_no_sample_excited(small: onnx.ModelProto, feeds: Feeds) -> None:
    bias = numpy_helper.to_array(small.graph.initializer[3]) * 0 - 100
    small.graph.initializer[3].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), "b1"))
    heard = Heard()
    quantizer = Quantizer(small, feeds, progress=heard)
    for name in ("w8a8", "w8a16"):
        quantizer.apply(quantizer.plan(recipe(name)))
    (line,) = heard.lines
    assert line.startswith("warning: no calibration sample makes 'r1' other than zero")
    assert line.endswith("Add samples that excite it, or keep the node before it in float.")


def test_apply__says_once_what_the_samples_make_infinite(parse: Callable[[str], onnx.ModelProto]) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> graph (float[1, 1, 4, 8] x) => (float[1, 1, 4, 8] y)
        <float[1, 1, 1, 1] w = {1}> { e = Exp (x)  y = Conv (e, w) }"""
    model = parse(text)
    for node in model.graph.node:
        node.name = node.op_type
    feeds = [[np.linspace(-1, most, 32, dtype=np.float32).reshape(1, 1, 4, 8)] for most in (1, 2, 100)]
    heard = Heard()
    quantizer = Quantizer(model, feeds, progress=heard)
    for name in ("w8", "w8a8", "w8a16"):
        quantizer.apply(quantizer.plan(recipe(name)))
    (line,) = heard.lines
    assert line.startswith(
        "warning: calibration samples make 'e', 'y' infinite, where integers end at the largest finite"
    )
    assert "Keep the node before it in float" in line


def test_weight_bytes(small: onnx.ModelProto) -> None:
    sizes = Quantizer(small).weight_bytes()
    assert sizes == {"first": 48 * 27, "depthwise": 48 * 9, "last": 48 * 48}


def test_sparsity__share_of_zeros(small: onnx.ModelProto) -> None:
    weight = np.array(numpy_helper.to_array(small.graph.initializer[4]))
    weight.reshape(-1)[: weight.size // 4] = 0
    small.graph.initializer[4].CopyFrom(numpy_helper.from_array(weight, "w2"))
    assert sparsity(small) == {"first": 0.0, "depthwise": 0.0, "last": 0.25}


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_quantizer__first_node_with_bad_weights(bad: float, small: onnx.ModelProto) -> None:
    for at, name in ((2, "w1"), (4, "w2")):
        weight = np.array(numpy_helper.to_array(small.graph.initializer[at]))
        weight.reshape(-1)[5] = bad
        small.graph.initializer[at].CopyFrom(numpy_helper.from_array(weight, name))
    with pytest.raises(
        ConversionError, match=r"node 'depthwise': 1 of its 432 weights are NaN or infinite.*export it again"
    ):
        Quantizer(small)


def test_quantizer__nothing_to_quantize(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse('<ir_version: 8, opset_import: ["": 17]> g (float[1, 3] x) => (float[1, 3] y) { y = Relu (x) }')
    with pytest.raises(ConversionError, match="nothing in this model can be quantized"):
        Quantizer(model)


def test_quantizer__half_precision_source(small: onnx.ModelProto) -> None:
    for tensor in small.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*small.graph.input, *small.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(
        ConversionError, match=r"Its weights are float16: export it again in float32 \(without half=True\)"
    ):
        Quantizer(small)


# -- the keyword spotter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "top1", "agreement", "divergence"), [("w8a8", 0.90, 0.99, 0.02), ("w4a8", 0.90, 0.97, 0.05)]
)
def test_apply__keyword_spotter(name: str, top1: float, agreement: float, divergence: float, kws: Path) -> None:
    data = np.load(kws / "kws01_half.npz")
    # The file's int8 features, back to the model's float input: scale 0.5847029, zero point 83.
    x = ((data["features"].astype(np.float32) - 83) * np.float32(0.5847029)).reshape(-1, 1, 1, 49, 10)
    model = onnx.load(kws / "ds_cnn_fp32.onnx")
    quantizer = Quantizer(model, [[one] for one in x[:100]])
    made = quantizer.apply(quantizer.plan(load_recipe(name)))
    reference, quantized = OnnxRunner(model), OnnxRunner(made)
    a = np.concatenate([reference.run([one])[0] for one in x[100:]])
    b = np.concatenate([quantized.run([one])[0] for one in x[100:]])
    assert (b.argmax(1) == data["label"][100:]).mean() >= top1
    assert (b.argmax(1) == a.argmax(1)).mean() >= agreement
    assert (a * (np.log(a + 1e-9) - np.log(b + 1e-9))).sum(1).mean() <= divergence
