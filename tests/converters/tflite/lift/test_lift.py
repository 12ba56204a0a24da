from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgesdk.errors import ConversionError, ModelFormatError, ZooError
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.tflite import normalize
from edgesdk_converters.tflite.lift import lift
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
