"""ONNX graphs of two architectures, built from their weights alone: no PyTorch, no exporter.

Both follow the published architecture; names of nodes are those of the layers, so that reports can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
Weights = Mapping[str, Array]

OPSET = 17

LITE0_BLOCKS = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))
"""Repeats, stride of the first, expansion; kernels and channels are the weights' own. Source: EfficientNet-Lite0, TensorFlow's TPU repository."""
LITE0_SIZE = 224
BATCH_NORM_EPSILON = 1e-3

BERT_HEADS = 12
BERT_EPSILON = 1e-12
MASKED = -10_000.0
"""Added to the attention scores of padding, as the first BERT did."""


class _Graph:
    """Collects nodes and initializers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.setdefault(name, np.array(value, dtype, order="C"))  # ascontiguousarray makes scalars 1-D
        return name

    def add(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node; its one output is called like it."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name, **attributes))
        return name

    def model(
        self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], about: Mapping[str, str]
    ) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, key) for key, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        made.producer_name = "edgesdk-converters"
        helper.set_model_props(made, dict(about))
        onnx.checker.check_model(made)
        return made


def efficientnet_lite0(weights: Weights) -> onnx.ModelProto:
    """EfficientNet-Lite0: ``input`` (1, 3, 224, 224) float32 to ``logits`` (1, 1000).

    Args:
        weights: State dict of `efficientnet-lite-pytorch`; batch normalisation is folded into the convolutions.
    """
    graph = _Graph()
    size = LITE0_SIZE

    def conv(
        x: str, name: str, layer: str, norm: str, *, stride: int = 1, group: bool = False, act: bool = True
    ) -> str:
        kernel = np.asarray(weights[f"{layer}.weight"], np.float64)
        scale = weights[f"{norm}.weight"] / np.sqrt(
            weights[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON
        )
        shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        out = -(-size // stride)
        pad = max((out - 1) * stride + kernel.shape[2] - size, 0)  # TensorFlow's SAME: the odd pixel goes to the end
        y = graph.add(
            "Conv",
            [
                x,
                graph.constant(f"{name}.weight", kernel * scale[:, None, None, None]),
                graph.constant(f"{name}.bias", shift),
            ],
            name,
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=[pad // 2, pad // 2, pad - pad // 2, pad - pad // 2],
            group=len(kernel) if group else 1,
        )
        if not act:
            return y
        return graph.add("Clip", [y, graph.constant("zero", 0.0), graph.constant("six", 6.0)], f"{name}.relu6")

    x = conv("input", "stem", "_conv_stem", "_bn0", stride=2)
    size = 112
    index = 0
    for repeats, first_stride, expansion in LITE0_BLOCKS:
        for repeat in range(repeats):
            layer, name, stride, before = f"_blocks.{index}", f"block{index}", first_stride if repeat == 0 else 1, x
            if expansion != 1:
                x = conv(x, f"{name}.expand", f"{layer}._expand_conv", f"{layer}._bn0")
            x = conv(x, f"{name}.depthwise", f"{layer}._depthwise_conv", f"{layer}._bn1", stride=stride, group=True)
            size = -(-size // stride)
            x = conv(x, f"{name}.project", f"{layer}._project_conv", f"{layer}._bn2", act=False)
            if repeat > 0:
                x = graph.add("Add", [x, before], f"{name}.add")
            index += 1
    x = conv(x, "head", "_conv_head", "_bn1")
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x], "pool")], "flat", axis=1)
    kernel, bias = graph.constant("fc.weight", weights["_fc.weight"]), graph.constant("fc.bias", weights["_fc.bias"])
    graph.add("Gemm", [x, kernel, bias], "logits", transB=1)
    return graph.model(
        "efficientnet-lite0",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, LITE0_SIZE, LITE0_SIZE])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, len(weights["_fc.bias"])])],
        {"license": "Apache-2.0"},
    )


def minilm(weights: Weights, *, tokens: int = 128) -> onnx.ModelProto:
    """A BERT encoder with masked mean pooling: one sentence to one vector of length 1.

    Args:
        weights: Safetensors of `all-MiniLM-L6-v2`.
        tokens: Static length of a sentence; shorter ones are padded with id 0 and mask 0.

    Returns:
        ``input_ids`` and ``attention_mask`` (1, tokens) int64 to ``embedding`` (1, 384) float32.
    """
    graph = _Graph()
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def norm(x: str, layer: str, name: str) -> str:
        scale = graph.constant(f"{name}.weight", weights[f"{layer}.LayerNorm.weight"])
        shift = graph.constant(f"{name}.bias", weights[f"{layer}.LayerNorm.bias"])
        return graph.add("LayerNormalization", [x, scale, shift], name, axis=-1, epsilon=BERT_EPSILON)

    def dense(x: str, layer: str, name: str) -> str:
        kernel = graph.constant(f"{name}.weight", weights[f"{layer}.weight"].T)
        y = graph.add("MatMul", [x, kernel], f"{name}.matmul")
        return graph.add("Add", [y, graph.constant(f"{name}.bias", weights[f"{layer}.bias"])], name)

    def heads(x: str, name: str, order: Sequence[int]) -> str:
        split = graph.constant("split", [1, tokens, BERT_HEADS, width // BERT_HEADS], np.int64)
        return graph.add(
            "Transpose", [graph.add("Reshape", [x, split], f"{name}.split")], f"{name}.heads", perm=list(order)
        )

    positions = (
        weights["embeddings.position_embeddings.weight"][:tokens]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    x = graph.add("Gather", [words, "input_ids"], "embed.words", axis=0)
    x = norm(graph.add("Add", [x, graph.constant("positions", positions[None])], "embed"), "embeddings", "embed.norm")

    mask = graph.add("Cast", ["attention_mask"], "mask", to=onnx.TensorProto.FLOAT)
    wide = graph.add("Unsqueeze", [mask, graph.constant("axes12", [1, 2], np.int64)], "mask.wide")
    absent = graph.add("Sub", [graph.constant("one", 1.0), wide], "mask.absent")
    penalty = graph.add("Mul", [absent, graph.constant("masked", MASKED)], "mask.penalty")
    for index in range(layers):
        layer, name = f"encoder.layer.{index}", f"layer{index}"
        query = heads(dense(x, f"{layer}.attention.self.query", f"{name}.query"), f"{name}.query", (0, 2, 1, 3))
        key = heads(dense(x, f"{layer}.attention.self.key", f"{name}.key"), f"{name}.key", (0, 2, 3, 1))
        value = heads(dense(x, f"{layer}.attention.self.value", f"{name}.value"), f"{name}.value", (0, 2, 1, 3))
        scores = graph.add("MatMul", [query, key], f"{name}.scores")
        root = graph.constant("root", float(np.sqrt(width // BERT_HEADS)))
        scores = graph.add("Div", [scores, root], f"{name}.scaled")
        scores = graph.add("Add", [scores, penalty], f"{name}.seen")
        share = graph.add("Softmax", [scores], f"{name}.attention", axis=-1)
        mixed = graph.add("MatMul", [share, value], f"{name}.mixed")
        mixed = graph.add("Transpose", [mixed], f"{name}.mixed.heads", perm=[0, 2, 1, 3])
        mixed = graph.add("Reshape", [mixed, graph.constant("join", [1, tokens, width], np.int64)], f"{name}.joined")
        mixed = dense(mixed, f"{layer}.attention.output.dense", f"{name}.output")
        x = norm(graph.add("Add", [mixed, x], f"{name}.residual"), f"{layer}.attention.output", f"{name}.norm")
        inner = _gelu(graph, dense(x, f"{layer}.intermediate.dense", f"{name}.intermediate"), f"{name}.gelu")
        inner = dense(inner, f"{layer}.output.dense", f"{name}.feed")
        x = norm(graph.add("Add", [inner, x], f"{name}.residual2"), f"{layer}.output", f"{name}.norm2")

    column = graph.add("Unsqueeze", [mask, graph.constant("axis2", [2], np.int64)], "mask.column")
    axis1 = graph.constant("axis1", [1], np.int64)
    total = graph.add("ReduceSum", [graph.add("Mul", [x, column], "pool.masked"), axis1], "pool.sum", keepdims=0)
    count = graph.add("ReduceSum", [mask, axis1], "pool.count", keepdims=1)
    mean = graph.add("Div", [total, graph.add("Max", [count, graph.constant("least", 1e-9)], "pool.safe")], "pool.mean")
    length = graph.add("ReduceL2", [mean], "pool.length", axes=[1], keepdims=1)
    graph.add("Div", [mean, graph.add("Max", [length, graph.constant("tiny", 1e-12)], "pool.length.safe")], "embedding")
    return graph.model(
        "all-minilm-l6-v2",
        [
            helper.make_tensor_value_info(key, onnx.TensorProto.INT64, [1, tokens])
            for key in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, width])],
        {"license": "Apache-2.0"},
    )


def _gelu(graph: _Graph, x: str, name: str) -> str:
    """``x * 0.5 * (1 + erf(x / sqrt 2))``, as exporters write it."""
    share = graph.add(
        "Erf", [graph.add("Div", [x, graph.constant("root2", float(np.sqrt(2)))], f"{name}.scaled")], f"{name}.erf"
    )
    share = graph.add("Add", [share, graph.constant("one", 1.0)], f"{name}.plus")
    return graph.add("Mul", [graph.add("Mul", [x, share], f"{name}.times"), graph.constant("half", 0.5)], name)
