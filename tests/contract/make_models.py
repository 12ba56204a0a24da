"""Writes the tiny models of the contract suite into `tests/contract/models/`: our own, a few hundred bytes each.

They are kept in the repository, so that the suite also runs where neither onnx nor ai-edge-litert is installed (the
environment of tflite-runtime). `test_models.py` checks that this script still writes the same bytes. Run:

    python tests/contract/make_models.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from onnx import parser

FOLDER = Path(__file__).parent / "models"

# IR version 8 and opset 17 are read by every onnxruntime since 1.12.
ARITHMETIC = """
<ir_version: 8, opset_import: ["" : 17]>
arithmetic (float[1,4] a, float[1,4] b) => (float[1,4] difference, float[1,4] product) {
  difference = Sub(a, b)
  product = Mul(a, b)
}
"""
NULL = """
<ir_version: 8, opset_import: ["" : 17]>
null_model (float[1,4] a) => (float[1,4] y) {
  y = Relu(a)
}
"""
OPEN_BATCH = """
<ir_version: 8, opset_import: ["" : 17]>
open_batch (float[N,4] a) => (float[N,4] y) {
  y = Relu(a)
}
"""
FUTURE_OPSET = """
<ir_version: 8, opset_import: ["" : 99]>
future (float[1,4] a) => (float[1,4] y) {
  y = Relu(a)
}
"""
ONNX_MODELS = {
    "arithmetic": ARITHMETIC,
    "null": NULL,
    "open_batch": OPEN_BATCH,
    "future_opset": FUTURE_OPSET,
}


def onnx_model(text: str) -> bytes:
    """The serialized model of an ONNX text."""
    model: bytes = parser.parse_model(text).SerializeToString(deterministic=True)
    return model


def arithmetic_tflite(*, future: bool = False) -> bytes:
    """``difference = a - b`` and ``product = a * b`` on float32 (1, 4), with a signature.

    Args:
        future: Ask for a version of SUB that no runtime has, as a file from a newer converter would.
    """
    model = _model([tfl.BuiltinOperator.SUB, tfl.BuiltinOperator.MUL])
    if future:
        model.operatorCodes[0].version = 99
    graph = model.subgraphs[0]
    graph.tensors = [_tensor(name, (1, 4)) for name in ("in_a", "in_b", "out_difference", "out_product")]
    sub = _operator(0, (0, 1), (2,), tfl.BuiltinOptions.SubOptions, tfl.SubOptionsT())
    mul = _operator(1, (0, 1), (3,), tfl.BuiltinOptions.MulOptions, tfl.MulOptionsT())
    graph.operators = [sub, mul]
    graph.inputs, graph.outputs = _ints((0, 1)), _ints((2, 3))
    model.signatureDefs = [_signature({"a": 0, "b": 1}, {"difference": 2, "product": 3})]
    return _pack(model)


def quantized_tflite() -> bytes:
    """RELU on int8 (1, 4) with scale 0.5 and zero point -3, without a signature."""
    model = _model([tfl.BuiltinOperator.RELU])
    graph = model.subgraphs[0]
    graph.tensors = [_tensor(name, (1, 4), tfl.TensorType.INT8) for name in ("a", "y")]
    for tensor in graph.tensors:
        tensor.quantization = tfl.QuantizationParametersT()
        tensor.quantization.scale = np.array([0.5], np.float32)
        tensor.quantization.zeroPoint = np.array([-3], np.int64)
    graph.operators = [_operator(0, (0,), (1,))]
    graph.inputs, graph.outputs = _ints((0,)), _ints((1,))
    return _pack(model)


def null_tflite() -> bytes:
    """RELU on float32 (1, 4): as little work as a model can do."""
    model = _model([tfl.BuiltinOperator.RELU])
    graph = model.subgraphs[0]
    graph.tensors = [_tensor("a", (1, 4)), _tensor("y", (1, 4))]
    graph.operators = [_operator(0, (0,), (1,))]
    graph.inputs, graph.outputs = _ints((0,)), _ints((1,))
    return _pack(model)


def counter_tflite() -> bytes:
    """``total += a`` on float32 (1, 4), kept in a resource variable that CALL_ONCE sets to zero, as TF exports it."""
    op = tfl.BuiltinOperator
    model = _model([op.CALL_ONCE, op.VAR_HANDLE, op.READ_VARIABLE, op.ADD, op.ASSIGN_VARIABLE])
    zeros = tfl.BufferT()
    zeros.data = np.zeros(16, np.uint8)
    model.buffers.append(zeros)

    def handle() -> tfl.OperatorT:
        options = tfl.VarHandleOptionsT()
        options.container, options.sharedName = "", "total"
        return _operator(1, (), (1,), tfl.BuiltinOptions.VarHandleOptions, options)

    def assign(value: int) -> tfl.OperatorT:
        return _operator(4, (1, value), (), tfl.BuiltinOptions.AssignVariableOptions, tfl.AssignVariableOptionsT())

    once = tfl.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    main = model.subgraphs[0]
    main.tensors = [
        _tensor("a", (1, 4)),
        _tensor("handle", (), tfl.TensorType.RESOURCE),
        _tensor("before", (1, 4)),
        _tensor("total", (1, 4)),
    ]
    main.operators = [
        _operator(0, (), (), tfl.BuiltinOptions.CallOnceOptions, once),
        handle(),
        _operator(2, (1,), (2,), tfl.BuiltinOptions.ReadVariableOptions, tfl.ReadVariableOptionsT()),
        _operator(3, (2, 0), (3,), tfl.BuiltinOptions.AddOptions, tfl.AddOptionsT()),
        assign(3),
    ]
    main.inputs, main.outputs = _ints((0,)), _ints((3,))
    init = tfl.SubGraphT()
    init.name = "init"
    init.tensors = [_tensor("zeros", (1, 4)), _tensor("handle", (), tfl.TensorType.RESOURCE)]
    init.tensors[0].buffer = 1
    init.operators = [handle(), assign(0)]
    init.inputs = init.outputs = _ints(())
    model.subgraphs.append(init)
    return _pack(model)


def models() -> dict[str, bytes]:
    """File name -> content of every model."""
    made = {f"{name}.onnx": onnx_model(text) for name, text in ONNX_MODELS.items()}
    made["arithmetic.tflite"] = arithmetic_tflite()
    made["future_opset.tflite"] = arithmetic_tflite(future=True)
    made["quantized.tflite"] = quantized_tflite()
    made["null.tflite"] = null_tflite()
    made["counter.tflite"] = counter_tflite()
    return made


def _model(codes: Sequence[int]) -> tfl.ModelT:
    model = tfl.ModelT()
    model.version, model.description = 3, "edgesdk contract suite"
    model.operatorCodes = []
    for code in codes:
        entry = tfl.OperatorCodeT()
        # The old field holds codes below 127; later ones are in the new field alone, and readers take the larger.
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
        model.operatorCodes.append(entry)
    model.buffers = [tfl.BufferT()]  # buffer 0 is by convention empty
    graph = tfl.SubGraphT()
    graph.name = "main"
    model.subgraphs = [graph]
    return model


def _tensor(name: str, shape: tuple[int, ...], kind: int = tfl.TensorType.FLOAT32) -> tfl.TensorT:
    tensor = tfl.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, _ints(shape), kind, 0
    return tensor


def _operator(
    code: int, inputs: tuple[int, ...], outputs: tuple[int, ...], kind: int = 0, options: object = None
) -> tfl.OperatorT:
    made = tfl.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, _ints(inputs), _ints(outputs)
    made.builtinOptionsType, made.builtinOptions = kind, options
    return made


def _signature(inputs: dict[str, int], outputs: dict[str, int]) -> tfl.SignatureDefT:
    def maps(names: dict[str, int]) -> list[tfl.TensorMapT]:
        made = []
        for name, index in names.items():
            entry = tfl.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            made.append(entry)
        return made

    signature = tfl.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = maps(inputs), maps(outputs)
    return signature


def _ints(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def _pack(model: tfl.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, content in models().items():
        (FOLDER / file).write_bytes(content)
        print(f"{file}: {len(content)} bytes")  # noqa: T201  a script says what it wrote
    print(f"onnx {onnx.__version__}, flatbuffers {flatbuffers.__version__}")  # noqa: T201  same
