from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower import lower

Edit = Callable[[Any], None]


@pytest.fixture
def change(tmp_path: Path, make_conv: Callable[..., onnx.ModelProto]) -> Callable[[Edit], Path]:
    """A file of three convolutions, changed."""

    def _change(edit: Edit) -> Path:
        model = fb.read(lower(make_conv(channels=4)))
        edit(model)
        (tmp_path / "m.tflite").write_bytes(fb.write(model))
        return tmp_path / "m.tflite"

    return _change


def weights(model: Any) -> Any:
    """The tensor that holds the weights of the first convolution."""
    graph = model.subgraphs[0]
    conv = next(o for o in graph.operators if fb.code_name(fb.code_of(model, o)) == "CONV_2D")
    return graph.tensors[fb.ids(conv.inputs)[1]]


@pytest.mark.parametrize(("value", "label"), [(np.nan, "NaN"), (-np.inf, "infinite")])
def test_tflite__weights_that_are_no_numbers(change: Callable[[Edit], Path], value: float, label: str) -> None:
    def edit(model: Any) -> None:
        tensor = weights(model)
        values = np.frombuffer(fb.constant(model, tensor) or b"", np.float32).copy()
        values[3:5] = value
        fb.set_constant(model, tensor, values)

    with pytest.raises(
        ModelFormatError,
        match=rf"m\.tflite: operator \d+ \(CONV_2D\) takes '.*', in which 2 of 108 values are {label}\..*export a checkpoint",
    ):
        read_source(change(edit), ModelSpec())


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_tflite__scale_that_is_none(change: Callable[[Edit], Path], scale: float) -> None:
    def edit(model: Any) -> None:
        weights(model).quantization = fb.schema().QuantizationParametersT()
        weights(model).quantization.scale, weights(model).quantization.zeroPoint = [0.5, scale], [0, 0]

    with pytest.raises(ModelFormatError, match=r"\(CONV_2D\) takes '.*', whose quantization has a scale of .*export a"):
        read_source(change(edit), ModelSpec())


def test_tflite__string_input(change: Callable[[Edit], Path]) -> None:
    def edit(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[fb.ids(graph.inputs)[0]].type = fb.schema().TensorType.STRING

    with pytest.raises(ModelFormatError, match=r"input 'x' takes strings; .*Cut the graph behind its tokenizer"):
        read_source(change(edit), ModelSpec())


def test_tflite__with_a_state_dict(change: Callable[[Edit], Path], tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"already holds its weights\. Leave --state-dict out"):
        read_source(change(lambda _: None), ModelSpec(), state_dict=tmp_path / "w.pth")


def _bytes_as_name(model: Any) -> None:
    model.subgraphs[0].tensors[0].name = b"\xff\xfe"


def _signature_elsewhere(model: Any) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = 99


def _vast(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = [1, 2**20, 2**20, 3]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_bytes_as_name, "codec can't decode"),
        (_signature_elsewhere, "tensor 99 of a signature does not exist"),
        (_vast, "has an impossible size"),
    ],
)
def test_tflite__contradicts_itself(change: Callable[[Edit], Path], edit: Edit, message: str) -> None:
    with pytest.raises(ModelFormatError, match=rf"truncated or damaged.*{message}.*Copy or download the file again"):
        read_source(change(edit), ModelSpec())
