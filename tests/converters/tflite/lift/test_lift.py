from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from edgesdk.errors import ConversionError, ModelFormatError, ZooError
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite import normalize
from edgesdk_converters.tflite.lift import lift
from edgesdk_converters.tflite.lift.builder import HANDLERS, Builder, Op
from edgesdk_converters.tflite.lower import lower
from edgesdk_converters.variants.open import open_tflite
from edgesdk_converters.zoo import fetch

FLOAT_MODELS = ("blazeface-short", "blazeface-back", "blazeface-full", "blazeface-full-sparse", "face-landmark", "iris")


def _zoo(name: str) -> bytes:
    try:
        return fetch(name).read_bytes()
    except ZooError as error:
        pytest.skip(f"needs the zoo's {name}: {error}")


@pytest.mark.zoo
@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_lift__computes_what_the_file_computes(name: str) -> None:
    content = normalize(_zoo(name), name=name)
    model = lift(content, name=name)
    onnx.checker.check_model(model, full_check=True)
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input]
    rng = np.random.default_rng(0)
    feed = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    for a, b in zip(open_tflite(content, name, (), ()).run(feed), OnnxRunner(model).run(feed), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


@pytest.mark.zoo
@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_lift__transposes_only_at_the_boundary(name: str) -> None:
    model = lift(normalize(_zoo(name), name=name), name=name)
    inputs = {value.name for value in model.graph.input}
    inputs |= {node.output[0] for node in model.graph.node if node.op_type == "Pad" and node.input[0] in inputs}
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    inner = [
        node
        for node in model.graph.node
        if node.op_type == "Transpose"
        and node.input[0] not in inputs
        and readers[node.output[0]] not in ("Reshape", "Identity")
    ]
    assert not inner


@pytest.mark.zoo
def test_lift__variables_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConversionError, match=r"has 2 subgraphs \(control flow or variables\).*can be run as it is"):
        lift(_zoo("microwakeword-okay-nabu"), name="okay-nabu")


def test_lift__what_is_no_flatbuffer() -> None:
    with pytest.raises(ModelFormatError, match=r"x\.tflite: not a TFLite file"):
        lift(b"not a model at all", name="x.tflite")


def changed(make_conv: Callable[..., onnx.ModelProto], edit: Callable[[Any], None]) -> bytes:
    model = fb.read(lower(make_conv(channels=4)))
    edit(model)
    return bytes(fb.write(model))


def operator(model: Any, kind: str) -> Any:
    return next(one for one in model.subgraphs[0].operators if fb.code_name(fb.code_of(model, one)) == kind)


def _quantized_weights(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[fb.ids(operator(model, "CONV_2D").inputs)[1]]
    tensor.type, tensor.quantization = fb.schema().TensorType.INT8, fb.schema().QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1], [0]
    fb.set_constant(model, tensor, np.ones(fb.ids(tensor.shape), np.int8))


def _without_input(model: Any) -> None:
    one = operator(model, "CONV_2D")
    one.inputs = [-1, *fb.ids(one.inputs)[1:]]


def _weights_of_another_size(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[fb.ids(operator(model, "CONV_2D").inputs)[1]]
    fb.set_constant(model, tensor, np.ones(7, np.float32))


def _sparse_nonsense(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[fb.ids(operator(model, "CONV_2D").inputs)[1]]
    tensor.sparsity = fb.schema().SparsityParametersT()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_quantized_weights, r"CONV_2D \(operator \d+\): its constant '.*' is quantized already"),
        (_without_input, r"CONV_2D \(operator \d+\): it lacks an input or output"),
        (_weights_of_another_size, r"CONV_2D \(operator \d+\): cannot reshape array of size 7"),
        (_sparse_nonsense, r"CONV_2D \(operator \d+\): its sparse dimensions are not those of its shape"),
    ],
)
def test_lift__what_cannot_be_lifted_is_listed(
    make_conv: Callable[..., onnx.ModelProto], edit: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(
        ConversionError, match=rf"(?s)operators cannot be written as ONNX:.*{message}.*can be run as it is"
    ):
        lift(changed(make_conv, edit))


def test_lift__output_that_is_an_input(make_conv: Callable[..., onnx.ModelProto]) -> None:
    def edit(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = [*fb.ids(graph.outputs), fb.ids(graph.inputs)[0]]

    with pytest.raises(ConversionError, match=r"an input or output twice.*with a copy \(Identity\) in between"):
        lift(changed(make_conv, edit))


def test_lift__graph_that_computes_something_else_is_refused(
    make_conv: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HANDLERS["CONV_2D"]

    def wrong(graph: Builder, op: Op) -> None:
        whole(graph, op)
        graph.set_first(op.outputs[0], graph.node("Neg", [graph.first(op.outputs[0])]))

    monkeypatch.setitem(HANDLERS, "CONV_2D", wrong)
    with pytest.raises(
        ConversionError, match=r"output 'y' differs from the file's own \(-?\d+\.\d dB, expected 40.*please report it"
    ):
        lift(changed(make_conv, lambda _: None))


def test_lift__select_of_rows_by_a_vector() -> None:
    """The first SELECT takes a vector for whole rows, unlike ONNX' Where."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (bool[3, 1] c, float[3, 4] x, float[3, 4] z) => (float[3, 4] y) { y = Where (c, x, z) }"""
    )
    made = fb.read(lower(model))
    schema = fb.schema()
    code = made.operatorCodes[operator(made, "SELECT_V2").opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SELECT
    operator(made, "SELECT").builtinOptionsType = schema.BuiltinOptions.SelectOptions
    operator(made, "SELECT").builtinOptions = schema.SelectOptionsT()
    made.subgraphs[0].tensors[fb.ids(operator(made, "SELECT").inputs)[0]].shape = [3]
    lifted = OnnxRunner(lift(fb.write(made)))
    x, z = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(lifted.run([np.asarray([True, False, True]), x, z])[0][:, 0], [1, 0, 1])
