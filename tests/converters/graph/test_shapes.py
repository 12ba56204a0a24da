from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from edgesdk.errors import ConversionError
from edgesdk_converters.frontends.api import SourceModel, Tensor
from edgesdk_converters.frontends.onnx import describe
from edgesdk_converters.graph import pin_shapes
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.view import shape_of
from edgesdk_converters.spec import InputHint, ModelSpec


@pytest.fixture
def dynamic(make_conv: Callable[..., onnx.ModelProto]) -> SourceModel:
    return describe(make_conv(dynamic=True), file="m.onnx", sha256="0" * 64)


def test_shapes__spec_decides(dynamic: SourceModel) -> None:
    spec = ModelSpec(inputs={"x": InputHint(shape=(1, 3, 48, 320))})
    assert resolve_shapes(dynamic, spec) == ({"x": (1, 3, 48, 320)}, [])


@pytest.mark.parametrize(("imgsz", "size"), [("[320, 640]", (320, 640)), ("256", (256, 256))])
def test_shapes__metadata_imgsz(make_conv: Callable[..., onnx.ModelProto], imgsz: str, size: tuple[int, int]) -> None:
    model = make_conv(dynamic=True)
    onnx.helper.set_model_props(model, {"imgsz": imgsz})
    shapes, notes = resolve_shapes(describe(model, file="m.onnx", sha256=""), ModelSpec())
    assert shapes == {"x": (1, 3, *size)}
    assert "dynamic batch size is taken as 1" in notes[0]


def test_shapes__all_dynamic_sizes_at_once_with_the_spec_lines(dynamic: SourceModel) -> None:
    with pytest.raises(ConversionError) as caught:
        resolve_shapes(dynamic, ModelSpec())
    text = str(caught.value)
    assert "input 'x' has a dynamic size at position 2 (height) of [batch, 3, height, width]" in text
    assert "at position 3 (width)" in text
    assert "--spec" in text
    assert "inputs:\n  x: {shape: [1, 3, <height>, <width>]}" in text


def test_shapes__contradiction(dynamic: SourceModel) -> None:
    spec = ModelSpec(inputs={"x": InputHint(shape=(1, 4, 48, 320))})
    with pytest.raises(
        ConversionError, match=r"the spec says \[1, 4, 48, 320\]\. Give positive sizes, and change only"
    ):
        resolve_shapes(dynamic, spec)


def test_shapes__unknown_input(dynamic: SourceModel) -> None:
    spec = ModelSpec(inputs={"image": InputHint(shape=(1, 3, 8, 8)), "x": InputHint(shape=(1, 3, 8, 8))})
    with pytest.raises(ConversionError, match=r"inputs name 'image', which the model does not have\. It has: x"):
        resolve_shapes(dynamic, spec)


def test_pin_shapes__leaves_the_source_alone(make_conv: Callable[..., onnx.ModelProto]) -> None:
    model = make_conv(dynamic=True)
    before = model.SerializeToString()
    pinned = pin_shapes(model, {"x": (1, 3, 16, 16)})
    assert shape_of(pinned.graph.input[0]) == (1, 3, 16, 16)
    assert model.SerializeToString() == before


def source_of(**shapes: tuple[int | str | None, ...]) -> SourceModel:
    inputs = tuple(Tensor(name=name, shape=shape, dtype="int64") for name, shape in shapes.items())
    return SourceModel(content=b"", format="onnx", file="m.onnx", sha256="", inputs=inputs, outputs=())


def test_shapes__size_of_one_name_is_one_size() -> None:
    """What the spec says of one input holds for the others, too; the batch among it."""
    source = source_of(input_ids=("batch", "seq"), attention_mask=("batch", "seq"))
    spec = ModelSpec(inputs={"input_ids": InputHint(shape=(4, 128))})
    assert resolve_shapes(source, spec) == ({"input_ids": (4, 128), "attention_mask": (4, 128)}, [])


def test_shapes__name_that_the_spec_gives_two_sizes_says_nothing() -> None:
    source = source_of(a=(1, "n"), b=(1, "n"), c=(1, "n"))
    spec = ModelSpec(inputs={"a": InputHint(shape=(1, 2)), "b": InputHint(shape=(1, 3))})
    with pytest.raises(ConversionError, match=r"input 'c' has a dynamic size at position 1 \(n\)"):
        resolve_shapes(source, spec)


@pytest.mark.parametrize("shape", [("samples",), (None,), ("seq_len", 4), ("time", 1, 80), ("num_frames", 3, 8, 8)])
def test_shapes__first_size_that_is_no_batch_is_not_guessed(shape: tuple[str | int | None, ...]) -> None:
    with pytest.raises(
        ConversionError, match=r"(?s)input 'x' has a dynamic size at position 0 .*--spec.*inputs:\n  x: \{shape: \[<"
    ):
        resolve_shapes(source_of(x=shape), ModelSpec())


@pytest.mark.parametrize("shape", [("batch",), ("N", 4), (None, 4), ("unk__12", 3, 8, 8)])
def test_shapes__batch_is_one(shape: tuple[str | int | None, ...]) -> None:
    shapes, notes = resolve_shapes(source_of(x=shape), ModelSpec())
    assert shapes["x"][0] == 1
    assert "dynamic batch size is taken as 1" in notes[0]


def test_shapes__type_that_contradicts_the_file() -> None:
    spec = ModelSpec(inputs={"x": InputHint(shape=(1, 4), dtype="float32")})
    with pytest.raises(ConversionError, match=r"input 'x' is int64, but the spec says float32\. Leave dtype out"):
        resolve_shapes(source_of(x=(1, 4)), spec)
