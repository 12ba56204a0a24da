"""Damaged and senseless graphs: an error of edgesdk, never another exception; `make soak` takes many more."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgesdk.errors import ConversionError, EdgeSdkError, ModelFormatError, NotExpressibleError
from edgesdk_converters.tflite.lower import lower

SOAK = bool(os.environ.get("EDGESDK_SOAK"))
COUNT = 4000 if SOAK else 150
WILD = (0, 1, -1, 2, 7, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 100_000)
NAMES = (
    "axis",
    "axes",
    "group",
    "perm",
    "to",
    "pads",
    "strides",
    "mode",
    "blocksize",
    "value",
    "kernel_shape",
    "auto_pad",
)
OPERATORS = (
    "Relu", "Conv", "Add", "MatMul", "Reshape", "Transpose", "Concat", "Slice", "Resize", "Pad", "Softmax", "ReduceMean", "Gather",
    "Split", "TopK", "LSTM", "If", "Loop", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "ConvTranspose", "MaxPool",
    "Expand", "Tile", "Cast", "Einsum", "ScatterND", "OneHot", "Range", "ConstantOfShape", "Where", "Clip", "Gemm", "CumSum",
    "DepthToSpace", "Constant", "Squeeze", "PRelu", "LRN", "Col2Im", "CenterCropPad", "QLinearConv", "MatMulInteger", "Mod", "DFT",
)  # fmt: skip


def _random_model() -> Any:
    spec = importlib.util.spec_from_file_location("random_graphs", Path(__file__).with_name("random_graphs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.random_model


def _mutate(model: onnx.ModelProto, source: random.Random) -> None:  # noqa: C901, PLR0912 - one branch per mutation
    graph = model.graph
    node = source.choice(graph.node)
    names = ["", "nowhere", *(o for n in graph.node for o in n.output), *(i.name for i in graph.input)]
    what = source.randrange(11)
    if what == 0 and node.input:
        del node.input[source.randrange(len(node.input))]
    elif what == 1 and node.input:
        node.input[source.randrange(len(node.input))] = source.choice(names)
    elif what == 2 and node.attribute:
        attribute = source.choice(node.attribute)
        if attribute.type == attribute.INTS and attribute.ints:
            attribute.ints[source.randrange(len(attribute.ints))] = source.choice(WILD)
        elif attribute.type == attribute.INT:
            attribute.i = source.choice(WILD)
        elif attribute.type == attribute.STRING:
            attribute.s = source.choice((b"", b"x", b"\xff\xfe"))
    elif what == 3:
        values: tuple[Any, ...] = (0, -1, 5, [1, 2], [-1], 1.5, "x", [2**62], 2**40)
        node.attribute.append(helper.make_attribute(source.choice(NAMES), source.choice(values)))
    elif what == 4:
        node.op_type = source.choice(OPERATORS)
    elif what == 5 and graph.initializer:
        tensor = source.choice(graph.initializer)
        if tensor.dims:
            tensor.dims[source.randrange(len(tensor.dims))] = source.choice((0, 1, 5, -1, 2**40))
    elif what == 6 and graph.initializer:
        source.choice(graph.initializer).data_type = source.choice((0, 1, 6, 8, 16, 22, 99))
    elif what == 7:
        kind = source.choice(graph.input).type.tensor_type
        if kind.shape.dim and source.random() < 0.5:
            kind.shape.dim[0].dim_value = source.choice((0, 9, -3, 2**33))
        else:
            kind.elem_type = source.choice((0, 3, 7, 8, 16, 99))
    elif what == 8:
        node.output.append(source.choice(names))
    elif what == 9:
        node.domain = source.choice(("com.microsoft", "custom", "ai.onnx.ml"))
    else:
        graph.output.add().name = source.choice(names)


def damaged(seed: int) -> onnx.ModelProto | None:
    """A small graph with a few things wrong; None where its bytes are no protobuf message any more."""
    source = random.Random(seed)
    model: onnx.ModelProto = _random_model()(source, source.choice((1, 2, 4)))
    if not model.graph.node:
        return None
    if source.random() < 0.3:
        raw = bytearray(model.SerializeToString())
        for _ in range(source.choice((1, 2, 6))):
            raw[source.randrange(len(raw))] ^= 1 << source.randrange(8)
        try:
            return onnx.ModelProto.FromString(bytes(raw))
        except Exception:  # noqa: BLE001 - protobuf's own type: the reader's business, tested there
            return None
    for _ in range(source.choice((1, 1, 2, 4))):
        try:
            _mutate(model, source)
        except (ValueError, TypeError):  # the protobuf library takes no such value
            return None
    return model


def _tried(first: int, last: int, results: Any) -> None:
    for seed in range(first, last):
        results.put((seed, "begun"))
        model = damaged(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # onnx warns of what it cannot read
                if model is not None:
                    lower(model)
        except EdgeSdkError as error:
            results.put((seed, f"fault: {error}" if "please report" in str(error) else "refused"))
        except BaseException as error:  # noqa: BLE001 - anything else is what this looks for
            results.put((seed, f"{type(error).__name__}: {error}"))
        else:
            results.put((seed, "lowered"))


def test_lower__of_damaged_graphs_raises_errors_of_edgesdk_only() -> None:
    # In a process of its own: an abort of onnx's C++ core would take the tests with it.
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    process = context.Process(target=_tried, args=(0, COUNT, results))
    process.start()
    said: dict[int, str] = {}
    while process.is_alive() or not results.empty():
        if results.empty():
            process.join(0.05)
            continue
        seed, word = results.get()
        said[seed] = word
    assert process.exitcode == 0, f"the process died of seed {max(said)}"
    assert {seed: word for seed, word in said.items() if word not in ("refused", "lowered")} == {}
    assert set(said.values()) == {"refused", "lowered"}


def _relu(onnx_graph: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return onnx_graph("g (float[2,3] x) => (float[2,3] y) { y = Add(x, c) }", {"c": np.ones(3, np.float32)})


def test_lower__of_an_initializer_with_too_few_bytes_says_so(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = _relu(onnx_graph)
    model.graph.initializer[0].dims[0] = 7
    with pytest.raises(
        NotExpressibleError, match=r"initializer 'c': its bytes are no tensor .*external data beside it"
    ):
        lower(model)


def test_lower__of_a_tensor_made_twice_says_so(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = _relu(onnx_graph)
    model.graph.node.add().CopyFrom(model.graph.node[0])
    with pytest.raises(NotExpressibleError, match=r"tensor 'y' is made twice.*onnx.checker"):
        lower(model)


def test_lower__of_a_tensor_beyond_32_bits_says_so(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph(
        "g (float[1,65536] x) => (float[65536,65536] y) <int64[2] s = {65536, 65536}> { y = Expand(x, s) }"
    )
    with pytest.raises(NotExpressibleError, match=r"more than 2,147,483,647 elements.*cut the model before it"):
        lower(model)


def test_lower__of_a_file_that_grows_beyond_two_gigabytes_says_so(
    onnx_graph: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx_graph(
        "g (float[64,64] x) => (float[64,64] y) <int64[2] s = {64, 64}> { c = ConstantOfShape(s) y = Add(x, c) }"
    )
    monkeypatch.setattr("edgesdk_converters.tflite.lower.importer.MAX_BYTES", 1000)
    with pytest.raises(NotExpressibleError, match=r"its constants take 16,\d+ bytes.*Quantize the weights or split"):
        lower(model)


def test_lower__of_a_fault_in_edgesdk_asks_for_a_report(
    onnx_graph: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any) -> None:
        raise KeyError("gone")

    monkeypatch.setattr("edgesdk_converters.tflite.lower.fusion.fuse", broken)
    with pytest.raises(ConversionError, match=r"failed with KeyError: 'gone'.*please report it with the model"):
        lower(_relu(onnx_graph))


def test_lower__of_a_fault_in_the_model_says_what_onnx_objects_to(
    onnx_graph: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any) -> None:
        raise KeyError("gone")

    monkeypatch.setattr("edgesdk_converters.tflite.lower.fusion.fuse", broken)
    model = _relu(onnx_graph)
    model.graph.node[0].input.append("nowhere")
    with pytest.raises(ModelFormatError, match=r"the ONNX graph is not valid: .*Export the model again"):
        lower(model)


def test_lower__of_weights_in_float_before_quantize_keeps_integers(
    onnx_graph: Callable[..., onnx.ModelProto],
) -> None:
    # As training with quantization exports them.
    rng = np.random.default_rng(0)
    text = """g (float[1,4,6,6] x) => (float[1,5,6,6] y) {
        xq = QuantizeLinear(x, xs, z) xd = DequantizeLinear(xq, xs, z)
        wq = QuantizeLinear<axis = 0>(w, ws, wz) wd = DequantizeLinear<axis = 0>(wq, ws, wz)
        c = Conv(xd, wd, b) cq = QuantizeLinear(c, ys, z) y = DequantizeLinear(cq, ys, z) }"""
    weights = {
        "xs": np.float32(0.02), "ys": np.float32(0.05), "z": np.int8(3), "w": rng.normal(0, 0.2, (5, 4, 1, 1)).astype(np.float32),
        "ws": rng.uniform(0.002, 0.004, 5).astype(np.float32), "wz": np.zeros(5, np.int8), "b": rng.normal(0, 1, 5).astype(np.float32),
    }  # fmt: skip
    from edgesdk_converters.tflite import describe

    operators = describe(lower(onnx_graph(text, {k: np.asarray(v) for k, v in weights.items()}))).compute
    assert [(one.input_type, one.weight_type, one.output_type) for one in operators] == [("int8", "int8", "int8")]
