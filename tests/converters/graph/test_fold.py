from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import ImageInput, InputSpec, TensorInput
from edgesdk.errors import ConversionError, PassError
from edgesdk.samples import Picture
from edgesdk.tasks.vision.preprocess import ImagePreprocessor
from edgesdk_converters.graph.fold import fold_input, source_input
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]
SIZE = 12


def image_model(
    layout: str = "NCHW",
    *,
    channels: int = 3,
    group: int = 1,
    pads: tuple[int, ...] = (1, 1, 1, 1),
    stride: int = 1,
    auto_pad: str = "",
    inside: tuple[tuple[str, tuple[float, ...]], ...] = (),
    head: str = "conv",
    seed: int = 0,
) -> onnx.ModelProto:
    """One or two first convolutions (or none), behind the normalisation `inside` and, for NHWC, the Transpose of a TensorFlow export."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], {"w": rng.normal(0, 0.4, (6, channels // group, 3, 3)), "b": rng.normal(0, 0.3, 6)}
    at = "x"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [at], ["t"], "turn", perm=[0, 3, 1, 2]))
        at = "t"
    for index, (op_type, values) in enumerate(inside):
        constants[f"k{index}"] = np.asarray(values).reshape((1, -1, 1, 1) if len(values) > 1 else ())
        nodes.append(helper.make_node(op_type, [at, f"k{index}"], [f"n{index}"], f"norm{index}"))
        at = f"n{index}"
    padding: dict[str, Any] = {"auto_pad": auto_pad} if auto_pad else {"pads": list(pads)}
    if head == "pool":
        nodes.append(helper.make_node("GlobalAveragePool", [at], ["y"], "pool"))
    else:
        nodes.append(
            helper.make_node("Conv", [at, "w", "b"], ["c"], "first", group=group, strides=[stride] * 2, **padding)
        )
        if head == "two":
            constants["w2"] = rng.normal(0, 0.4, (6, channels // group, 3, 3))
            nodes.append(
                helper.make_node("Conv", [at, "w2"], ["c2"], "second", group=group, strides=[stride] * 2, **padding)
            )
            nodes.append(helper.make_node("Add", ["c", "c2"], ["y"], "sum"))
        else:
            nodes.append(helper.make_node("Relu", ["c"], ["y"], "relu"))
    shape = [1, channels, SIZE, SIZE] if layout == "NCHW" else [1, SIZE, SIZE, channels]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, [1, channels if head == "pool" else 6, "h", "w"])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spec_of(model: onnx.ModelProto, image: ImageInput) -> InputSpec:
    value = model.graph.input[0]
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return InputSpec(name=value.name, shape=shape, dtype="float32", source=image)


def folded_error(model: onnx.ModelProto, spec: InputSpec, *, colour: Any = "BGR") -> tuple[float, Any, InputSpec]:
    """Largest difference between the folded model on pixels and the original on what the board would make of them."""
    folded, now = fold_input(model, spec, colour=colour)
    onnx.checker.check_model(folded, full_check=True)
    image = spec.source
    assert isinstance(image, ImageInput)
    grey = image.colour == "GREY"
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (SIZE, SIZE) if grey else (SIZE, SIZE, 3), np.uint8)
    picture = Picture(pixels=pixels, colour="GREY" if grey else "BGR")
    (before,), (after,) = ImagePreprocessor(spec)(picture)[:1], ImagePreprocessor(now)(picture)[:1]
    assert after.dtype == np.uint8
    (expected,), (got,) = OnnxRunner(model).run([before]), OnnxRunner(folded).run([after])
    np.testing.assert_allclose(
        source_input(spec, now, after), before, atol=2e-5 * max(1.0, float(np.abs(before).max()))
    )
    # A mean over the picture may cancel to nearly nothing: rounding is that of the values it was made of.
    size = max(float(np.abs(expected).max()), float(np.abs(before).max()))
    return float(np.abs(expected - got).max()) / size, folded, now


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def first(value: Any, count: int) -> tuple[float, ...]:
    return value[:count] if isinstance(value, tuple) else (value,)


number = st.floats(0.05, 1.0).map(lambda value: round(value, 4))
triple = st.tuples(number, number, number)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    layout=st.sampled_from(["NCHW", "NHWC"]),
    colour=st.sampled_from(["RGB", "BGR", "GREY"]),
    scale=st.sampled_from([1 / 255, 1.0, 1 / 127.5]),
    mean=triple | number | st.sampled_from([0.0, 0.5, -0.25]),
    std=triple | number,
    pads=st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1)]),
    grouped=st.booleans(),
    head=st.sampled_from(["conv", "two", "pool"]),
    inside=st.sampled_from(
        [(), (("Sub", (0.1, 0.2, 0.3)), ("Div", (0.5, 0.6, 0.7))), (("Mul", (2.0,)), ("Add", (-1.0,)))]
    ),
)
def test_fold__computes_the_same(
    layout: Any, colour: Any, scale: float, mean: Any, std: Any, pads: Any, grouped: bool, head: str, inside: Any
) -> None:
    channels = 1 if colour == "GREY" else 3
    inside = tuple((op, values[:channels]) for op, values in inside)
    model = image_model(
        layout, channels=channels, group=channels if grouped else 1, pads=pads, head=head, inside=inside
    )
    factor = scale * 255
    image = ImageInput(
        layout=layout,
        colour=colour,
        scale=scale,
        mean=tuple(m * factor for m in first(mean, channels)),
        std=tuple(s * factor for s in first(std, channels)),
    )
    error, _, spec = folded_error(model, spec_of(model, image))
    assert error < 1e-5
    assert spec.shape == (1, SIZE, SIZE, channels)
    assert spec.quantization is None
    made = spec.source
    assert isinstance(made, ImageInput)
    assert (made.layout, made.scale, made.mean, made.std) == ("NHWC", 1.0, (0.0,), (1.0,))


def test_fold__yolo_is_a_transpose_and_a_dequantize() -> None:
    model = image_model()
    error, folded, spec = folded_error(model, spec_of(model, ImageInput(layout="NCHW", fit="letterbox")))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Conv", "Relu"]
    assert spec.source == ImageInput(layout="NHWC", colour="BGR", scale=1.0, fit="letterbox")
    point = next(t for t in folded.graph.initializer if t.name == folded.graph.node[1].input[2])
    assert int(numpy_helper.to_array(point)) == 0


def test_fold__whole_zero_is_the_zero_point() -> None:
    model = image_model()
    image = ImageInput(layout="NCHW", scale=1.0, mean=(127.0,), std=(128.0,))
    error, folded, _ = folded_error(model, spec_of(model, image))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Conv", "Relu"]
    names = folded.graph.node[1].input
    values = {t.name: numpy_helper.to_array(t) for t in folded.graph.initializer}
    assert (float(values[names[1]]), int(values[names[2]])) == (1 / 128, 127)


@pytest.mark.parametrize("auto_pad", ["", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2])
def test_fold__half_zero_becomes_a_border(auto_pad: str, stride: int) -> None:
    model = image_model(auto_pad=auto_pad, stride=stride)
    image = ImageInput(layout="NCHW", mean=(0.5,), std=(0.5,))
    error, folded, _ = folded_error(model, spec_of(model, image))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Pad", "Conv", "Relu"]


def test_fold__mean_goes_into_the_bias_without_padding() -> None:
    model = image_model(pads=(0, 0, 0, 0))
    image = ImageInput(layout="NCHW", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    error, folded, _ = folded_error(model, spec_of(model, image))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Conv", "Relu"]


def test_fold__mean_per_channel_stays_before_padding() -> None:
    model = image_model()
    image = ImageInput(layout="NCHW", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    error, folded, _ = folded_error(model, spec_of(model, image))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Sub", "Conv", "Relu"]


def test_fold__takes_up_what_the_model_does_itself() -> None:
    model = image_model("NHWC", inside=(("Mul", (1 / 127.5,)), ("Sub", (1.0,))), pads=(0, 0, 0, 0))
    error, folded, _ = folded_error(model, spec_of(model, ImageInput(layout="NHWC", scale=1.0)))
    assert error < 1e-5
    assert ops(folded) == ["Transpose", "DequantizeLinear", "Conv", "Relu"]


def test_fold__colour_stays_where_it_would_cost() -> None:
    model = image_model(head="pool")
    _, _, spec = folded_error(model, spec_of(model, ImageInput(layout="NCHW", colour="RGB")))
    assert isinstance(spec.source, ImageInput)
    assert spec.source.colour == "RGB"


def test_fold__leaves_the_model_and_other_inputs_alone(small: onnx.ModelProto) -> None:
    content = small.SerializeToString()
    spec = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=TensorInput())
    assert fold_input(small, spec) == (small, spec)
    fold_input(small, InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW")))
    assert small.SerializeToString() == content


def test_fold__wrong_shape(small: onnx.ModelProto) -> None:
    spec = InputSpec(name="x", shape=(1, 3, 8, 8), dtype="float32", source=ImageInput(layout="NCHW"))
    with pytest.raises(
        ConversionError, match=r"\[1, 3, 16, 16\] in the model and \[1, 3, 8, 8\].*Pin the shapes first"
    ):
        fold_input(small, spec)


def test_fold__mean_that_does_not_fit(small: onnx.ModelProto) -> None:
    spec = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW", mean=(0.1, 0.2)))
    with pytest.raises(ConversionError, match=r"mean has 2 numbers, the input has 3 channels.*--spec"):
        fold_input(small, spec)


def test_fold__old_opset(make_conv: Callable[..., onnx.ModelProto]) -> None:
    spec = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW"))
    with pytest.raises(PassError, match=r"(?s)requires opset >= 13.*it is 11\. Run the pass.*in pass .fold input x"):
        fold_input(make_conv(opset=11), spec)


def test_fold__leaves_the_board_one_resize(small: onnx.ModelProto) -> None:
    """The resize of a source's picture (BGR) writes into the input array itself."""
    before = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW"))
    _, spec = fold_input(small, before)
    preprocess = ImagePreprocessor(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    array, _ = preprocess(Picture(pixels=pixels, colour="BGR"))
    assert preprocess._direct is not None
    assert np.shares_memory(array, preprocess._direct.pixels)


def test_fold__tensor_that_a_branch_takes_from_outside() -> None:
    """What is behind the Transpose of a TensorFlow export goes into an If, too."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 12, 12, 3] x, bool fast) => (float[1, 3, 12, 12] y) {
          t = Transpose <perm = [0, 3, 1, 2]> (x)
          y = If (fast) <then_branch = a () => (float[1, 3, 12, 12] b) { b = Relu (t) },
                         else_branch = c () => (float[1, 3, 12, 12] d) { d = Neg (t) }>
        }"""
    )
    spec = spec_of(model, ImageInput(layout="NHWC", scale=1 / 255))
    folded, now = fold_input(model, spec)
    assert now.dtype == "uint8"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3), np.uint8)
    before = OnnxRunner(model).run([source_input(spec, now, pixels), np.asarray(False)])
    np.testing.assert_allclose(OnnxRunner(folded).run([pixels, np.asarray(False)])[0], before[0], atol=1e-6)


def test_fold__result_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the folding is an error, not a model that sees other colours."""
    model = image_model()
    spec = spec_of(model, ImageInput(layout="NCHW", mean=(0.45, 0.4, 0.35), std=(0.2, 0.2, 0.2)))
    monkeypatch.setattr("edgesdk_converters.graph.fold._SNAP_PX", 300.0)
    with pytest.raises(
        ConversionError, match=r"computes something else \(-?\d+\.\d dB, expected 40.*'fold_input: false' in the model"
    ):
        fold_input(model, spec)


@pytest.mark.parametrize(
    ("distance", "own", "passes"),
    [(41.0, 120.0, True), (39.0, 120.0, False), (39.0, 39.1, True), (32.0, 39.1, False), (24.0, 10.0, False)],
)
def test_fold__is_not_held_to_more_than_the_models_own_rounding(
    monkeypatch: pytest.MonkeyPatch, distance: float, own: float, passes: bool
) -> None:
    # PP-OCR's detector answers noise with a map of 0.0001, and is 39.1 dB from itself without ONNX Runtime's fusions.
    module = importlib.import_module("edgesdk_converters.graph.simplify")  # the package has a function of that name
    monkeypatch.setattr(module, "closeness", lambda *_: distance)
    monkeypatch.setattr(module, "own_rounding", lambda *_: own)
    model = image_model()
    spec = spec_of(model, ImageInput(layout="NCHW", scale=1 / 255))
    with contextlib.nullcontext() if passes else pytest.raises(ConversionError, match="computes something else"):
        fold_input(model, spec)
