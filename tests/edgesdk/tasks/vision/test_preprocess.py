from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ImageInput, InputSpec, Quantization, TensorInput
from edgesdk.errors import TaskError
from edgesdk.samples import Colour, Picture
from edgesdk.tasks.vision.placement import Placement
from edgesdk.tasks.vision.preprocess import ImagePreprocessor, region_around

HEIGHT, WIDTH = 24, 40
PER_CHANNEL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VALUES: dict[str, tuple[str, dict[str, Any], Quantization | None]] = {
    "float32": ("float32", {}, None),
    "float32 per channel": ("float32", PER_CHANNEL, None),
    "float16": ("float16", {"scale": 1 / 127.5, "mean": (1.0,)}, None),
    "uint8 pixels": ("uint8", {"scale": 1.0}, None),
    "int8 flip": ("int8", {}, Quantization(scale=(1 / 255,), zero_point=(-128,))),
    "int8 per channel": ("int8", PER_CHANNEL, Quantization(scale=(0.02,), zero_point=(-3,))),
    "uint8 scaled": ("uint8", {"mean": (0.5,), "std": (0.5,)}, Quantization(scale=(0.01,), zero_point=(120,))),
}


def _spec(
    layout: str, colour: Colour, fit: str, dtype: str, how: dict[str, Any], quantization: Quantization | None
) -> InputSpec:
    channels = 1 if colour == "GREY" else 3
    shape = (1, channels, HEIGHT, WIDTH) if layout == "NCHW" else (1, HEIGHT, WIDTH, channels)
    how = {key: value[:channels] if isinstance(value, tuple) else value for key, value in how.items()}
    source = ImageInput(layout=layout, colour=colour, fit=fit, **how)  # type: ignore[arg-type]  # literals from tables
    return InputSpec(name="image", shape=shape, dtype=dtype, source=source, quantization=quantization)


def _reference(spec: InputSpec, picture: Picture, placement: Placement) -> NDArray[np.float64]:
    """The definition, step by step, in float64."""
    image = spec.source
    assert isinstance(image, ImageInput)
    left, top, right, bottom = placement.source
    pixels: NDArray[Any] = np.ascontiguousarray(picture.pixels[top:bottom, left:right])
    left, top, right, bottom = placement.target
    pixels = cv2.resize(pixels, (right - left, bottom - top))
    canvas: NDArray[Any] = np.full((HEIGHT, WIDTH, *pixels.shape[2:]), image.pad_value, np.uint8)
    canvas[top:bottom, left:right] = pixels
    if picture.colour == "GREY" and image.colour != "GREY":
        canvas = cv2.cvtColor(canvas, cv2.COLOR_GRAY2RGB)
    elif picture.colour != "GREY" and image.colour == "GREY":
        canvas = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY if picture.colour == "RGB" else cv2.COLOR_BGR2GRAY)
    elif picture.colour != image.colour:
        canvas = canvas[..., ::-1]
    values: NDArray[np.float64] = (canvas.reshape(HEIGHT, WIDTH, -1) * image.scale - np.array(image.mean)) / image.std
    if spec.quantization:
        limits = np.iinfo(spec.dtype)
        values = np.rint(values / spec.quantization.scale[0] + spec.quantization.zero_point[0])
        values = np.clip(values, limits.min, limits.max)
    return (values.transpose(2, 0, 1) if image.layout == "NCHW" else values)[None]


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "centre-crop", "pad-right"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("values", list(VALUES))
def test_preprocess__equals_its_definition(values: str, layout: str, fit: str) -> None:
    """Every colour order in and out, several picture sizes in turn through one preprocessor."""
    random = np.random.default_rng(0)
    colours: tuple[Colour, ...] = ("RGB", "BGR", "GREY")
    for wanted in colours:
        spec = _spec(layout, wanted, fit, *VALUES[values])
        preprocess = ImagePreprocessor(spec)
        for given, (height, width) in itertools.product(colours, ((50, 60), (HEIGHT, WIDTH), (100, 20), (30, 200))):
            shape = (height, width) if given == "GREY" else (height, width, 3)
            picture = Picture(pixels=random.integers(0, 256, shape, dtype=np.uint8), colour=given)
            array, placement = preprocess(picture)
            assert (array.shape, str(array.dtype)) == (spec.shape, spec.dtype)
            tolerance = 2e-3 if spec.dtype == "float16" else 1e-5
            np.testing.assert_allclose(array, _reference(spec, picture, placement), atol=tolerance, rtol=tolerance)


def _preprocessor(**how: Any) -> ImagePreprocessor:
    return ImagePreprocessor(_spec("NHWC", "RGB", "letterbox", "uint8", {"scale": 1.0} | how, None))


def test_preprocess__array_is_reused() -> None:
    preprocess = _preprocessor()
    first, _ = preprocess(Picture(pixels=np.zeros((9, 9, 3), np.uint8)))
    second, _ = preprocess(Picture(pixels=np.full((9, 9, 3), 7, np.uint8)))
    assert first is second


def test_preprocess__picture_is_not_touched() -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
    array, _ = _preprocessor()(Picture(pixels=pixels, colour="BGR"))
    array[...] = 0
    assert (pixels == 9).all()


def test_preprocess__a_spot_is_found_where_the_placement_says() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[100:132, 200:232] = 255
    array, placement = _preprocessor()(Picture(pixels=pixels))
    x, y = placement.to_model(np.array([216.0, 116.0]))
    assert array[0, int(y), int(x), 0] > 200
    rows, columns = np.nonzero((array[0, :, :, 0] > 120) & (array[0, :, :, 1] != 114))
    centre = placement.to_picture(np.array([columns.mean() + 0.5, rows.mean() + 0.5]))
    np.testing.assert_allclose(centre, [216, 116], atol=10)


def test_preprocess__region_is_a_crop() -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (80, 90, 3), dtype=np.uint8)
    array, placement = _preprocessor()(Picture(pixels=pixels), (10, 20, 50, 44))
    np.testing.assert_array_equal(array[0], pixels[20:44, 10:50])
    np.testing.assert_allclose(placement.to_picture(np.array([[0, 0]])), [[10, 20]])


@pytest.mark.parametrize("region", [(0, 0, 0, 5), (5, 5, 4, 9), (0, 0, 91, 5), (-1, 0, 5, 5)])
def test_preprocess__region_outside_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(TaskError, match=r"empty or outside the picture of 90 x 80 pixels\. Clip it first"):
        _preprocessor()(Picture(pixels=np.zeros((80, 90, 3), np.uint8)), region)


@pytest.mark.parametrize(
    "view",
    [
        lambda pixels: pixels[::-1],
        lambda pixels: pixels[:, ::-1],
        lambda pixels: pixels[..., ::-1],
        lambda pixels: pixels[::2, ::2],
        lambda pixels: pixels.transpose(1, 0, 2),
    ],
    ids=["upside down", "mirrored", "channels", "every other", "transposed"],
)
def test_preprocess__any_strides(view: Any) -> None:
    pixels = view(np.random.default_rng(2).integers(0, 256, (60, 70, 3), dtype=np.uint8))
    expected = _preprocessor()(Picture(pixels=pixels.copy()))[0].copy()
    np.testing.assert_array_equal(_preprocessor()(Picture(pixels=pixels))[0], expected)


@pytest.mark.parametrize(
    ("pixels", "colour", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "RGB", r"uint8 \(4, 4, 4\).*Drop the transparency: pixels\[\.\.\., :3\]"),
        (np.zeros((4, 4, 3), np.uint16), "RGB", r"uint16 \(4, 4, 3\).*pixels >> 8"),
        (np.zeros((4, 4), np.uint8), "RGB", r"Say Picture\(colour='GREY'\)"),
        (np.zeros((4, 4, 3), np.uint8), "GREY", r"expected uint8 \(H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "RGB", "The picture is empty"),
    ],
    ids=["four channels", "16 bits", "grey as RGB", "RGB as grey", "empty"],
)
def test_preprocess__unusable_pixels_are_refused(pixels: NDArray[Any], colour: Colour, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        _preprocessor()(Picture(pixels=pixels, colour=colour))


def _input(shape: tuple[int, ...], dtype: str = "float32", **how: Any) -> InputSpec:
    return InputSpec(name="image", shape=shape, dtype=dtype, source=ImageInput(**({"layout": "NCHW"} | how)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_input((1, 24, 40, 3)), r"shape \(1, 24, 40, 3\), expected \(1, 3, H, W\) for layout NCHW.*Correct layout"),
        (_input((2, 3, 24, 40)), r"expected \(1, 3, H, W\)"),
        (_input((1, 3, 24, 40), colour="GREY"), r"expected \(1, 1, H, W\) for layout NCHW and colour GREY"),
        (_input((1, 3, 24)), r"pin the dynamic dimensions"),
        (_input((1, 3, 24, 40), mean=(0.1, 0.2)), "mean has 2 numbers, the input has 3 channels"),
        (_input((1, 3, 24, 40), std=(1.0, 0.0, 1.0)), "a divisor of zero"),
        (_input((1, 3, 24, 40), pad_value=300), r"pad_value is 300, expected 0\.\.255"),
        (_input((1, 3, 24, 40), "int8"), "int8 without quantization.*Give the input's scale and zero point"),
        (_input((1, 3, 24, 40), "uint8"), "uint8 without quantization.*uint8 with scale 1"),
        (_input((1, 3, 24, 40), "int64"), "is int64; a picture goes into float32"),
        (InputSpec(name="x", shape=(1, 3), dtype="float32", source=TensorInput()), "needs kind 'image'"),
    ],
)
def test_preprocess__contract_that_does_not_fit_is_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        ImagePreprocessor(spec)


@pytest.mark.parametrize(
    ("xyxy", "region"),
    [((1.2, 2.7, 3.1, 4.0), (1, 2, 4, 4)), ((-5, -5, 50, 50), (0, 0, 20, 10)), ((30, 0, 40, 5), None)],
)
def test_region_around__is_inside_the_picture(xyxy: Any, region: Any) -> None:
    assert region_around(xyxy, (20, 10)) == region
