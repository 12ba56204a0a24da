"""From a picture of any size to a model's input array; shared by the board (inference) and the converters (calibration)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ImageInput, InputSpec
from edgesdk.errors import TaskError
from edgesdk.extras import import_extra
from edgesdk.samples import Colour, Picture
from edgesdk.tasks.vision.placement import Placement, Region, place
from edgesdk.tasks.vision.values import make_writer

Array = NDArray[Any]


class _Canvas:
    """Pixels of the model's size, and the region whose surroundings carry the pad value."""

    __slots__ = ("painted", "pixels")

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.painted: Region | None = None


class ImagePreprocessor:
    """Fits pictures onto a model's input, and says where they lie on it.

    The array is reused: it is valid until the next call. Copy it to keep it. One thread at a time may call.

    The picture is resized (bilinear, OpenCV) straight into its place on a canvas whose border was painted before; only the
    small canvas is then converted to the model's colour order, layout and values.
    """

    def __init__(self, spec: InputSpec) -> None:
        """Check the input and allocate the arrays.

        Args:
            spec: An input whose source is an `ImageInput`: shape (1, C, H, W) or (1, H, W, C) with C 3, or 1 where the
                colour is GREY; dtype float32, float16, uint8 or int8.

        Raises:
            TaskError: The shape, dtype, mean, std, pad value or quantization do not fit each other.
            MissingExtraError: OpenCV is not installed.
        """
        image = spec.source
        if not isinstance(image, ImageInput):
            raise TaskError(f"input {spec.name!r} is of kind {type(image).__name__}, a picture needs kind 'image'.")
        channels = 1 if image.colour == "GREY" else 3
        axis = 1 if image.layout == "NCHW" else 3
        if len(spec.shape) != 4 or spec.shape[0] != 1 or spec.shape[axis] != channels or min(spec.shape) < 1:
            expected = f"(1, {channels}, H, W)" if axis == 1 else f"(1, H, W, {channels})"
            raise TaskError(
                f"input {spec.name!r} has shape {spec.shape}, expected {expected} for layout {image.layout} and colour "
                f"{image.colour}. Correct layout or colour in the model spec, or pin the dynamic dimensions."
            )
        if not 0 <= image.pad_value <= 255:
            raise TaskError(f"input {spec.name!r}: pad_value is {image.pad_value}, expected 0..255 (a pixel value).")
        self.spec = spec
        self.image = image
        height, width = (spec.shape[2], spec.shape[3]) if axis == 1 else (spec.shape[1], spec.shape[2])
        self.size_wh = (width, height)
        """Width and height of the model's picture, pixels."""
        self._cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
        self._out: Array = np.zeros(spec.shape, spec.dtype)
        self._write, self._copies = make_writer(spec, image, self._out)
        # One canvas per number of channels that pictures come with, and the array itself where pixels are only copied.
        self._grey = _Canvas(np.empty((height, width), np.uint8))
        self._colour = _Canvas(np.empty((height, width, 3), np.uint8))
        shape = (height, width) if channels == 1 else (height, width, 3)
        self._direct = _Canvas(self._out.reshape(shape)) if self._copies else None
        self._placement: Placement | None = None

    def __call__(self, picture: Picture, region: Region | None = None) -> tuple[Array, Placement]:
        """Fit a picture.

        Args:
            picture: Pixels uint8 (H, W, 3), or (H, W) where its colour is GREY; any strides.
            region: Left, top, right, bottom in picture pixels: only this part is taken. None takes all of it.

        Returns:
            The input array in the spec's shape and dtype, **valid until the next call**, and the way back.

        Raises:
            TaskError: The pixels are empty, of another dtype or number of channels, or the region is outside.
        """
        pixels = picture.pixels
        self._check(picture)
        placement = self._place(picture.size_wh, region)
        left, top, right, bottom = placement.source
        pixels = pixels[top:bottom, left:right]
        if pixels.strides[-1] != 1 if pixels.ndim == 2 else pixels.strides[1:] != (3, 1):
            pixels = np.ascontiguousarray(pixels)  # flipped, or every other pixel: OpenCV only steps over rows

        model, grey = self.image.colour, pixels.ndim == 2
        swap = not grey and model not in {"GREY", picture.colour}
        if self._direct is not None and not swap and grey == (model == "GREY"):
            self._resize(pixels, self._direct, placement)
            return self._out, placement

        canvas = self._grey if grey else self._colour
        self._resize(pixels, canvas, placement)
        if grey != (model == "GREY"):
            canvas = self._convert(canvas, picture.colour)
        self._write(canvas.pixels, swap)
        if self._direct is not None:
            self._direct.painted = None  # its border has just been written over
        return self._out, placement

    def _convert(self, canvas: _Canvas, colour: Colour) -> _Canvas:
        """Grey to three channels or back, on the small canvas; the other canvas loses its border."""
        cv2 = self._cv2
        codes = {"GREY": cv2.COLOR_GRAY2RGB, "RGB": cv2.COLOR_RGB2GRAY, "BGR": cv2.COLOR_BGR2GRAY}
        other = self._colour if canvas is self._grey else self._grey
        cv2.cvtColor(canvas.pixels, codes[colour], dst=other.pixels)
        other.painted = None
        return other

    def _check(self, picture: Picture) -> None:
        pixels = picture.pixels
        grey = picture.colour == "GREY"
        fits = pixels.ndim == 2 if grey else pixels.ndim == 3 and pixels.shape[2] == 3
        if pixels.dtype == np.uint8 and fits and pixels.size:
            return
        got = f"{picture.uri or 'picture'}: pixels are {pixels.dtype} {pixels.shape}, colour {picture.colour}"
        expected = "expected uint8 " + ("(H, W)" if grey else "(H, W, 3)")
        if not pixels.size:
            fix = "The picture is empty; check the crop or the source."
        elif pixels.dtype != np.uint8:
            fix = "Bring it to 8 bits: (pixels >> 8).astype(np.uint8) for 16-bit pixels."
        elif pixels.ndim == 3 and pixels.shape[2] == 4:
            fix = "Drop the transparency: pixels[..., :3]."
        elif pixels.ndim == 2:
            fix = "Say Picture(colour='GREY') for one channel."
        else:
            fix = "One channel is (H, W) with colour GREY, three are (H, W, 3) with colour RGB or BGR."
        raise TaskError(f"{got}, {expected}. {fix}")

    def _place(self, picture_size_wh: tuple[int, int], region: Region | None) -> Placement:
        last = self._placement
        if region is None and last is not None and last.picture_size_wh == picture_size_wh:
            return last
        if region is not None:
            left, top, right, bottom = region
            if not (0 <= left < right <= picture_size_wh[0] and 0 <= top < bottom <= picture_size_wh[1]):
                raise TaskError(
                    f"region {region} is empty or outside the picture of {picture_size_wh[0]} x {picture_size_wh[1]} "
                    "pixels. Clip it first: left, top, right, bottom in whole picture pixels."
                )
        placement = place(self.image.fit, picture_size_wh, self.size_wh, region)
        if region is None:
            self._placement = placement
        return placement

    def _resize(self, pixels: NDArray[np.uint8], canvas: _Canvas, placement: Placement) -> None:
        left, top, right, bottom = placement.target
        if canvas.painted != placement.target:
            if (right - left, bottom - top) != self.size_wh:
                canvas.pixels[...] = self.image.pad_value
            canvas.painted = placement.target
        spot = canvas.pixels[top:bottom, left:right]
        if pixels.shape == spot.shape:
            spot[...] = pixels
        else:
            self._cv2.resize(pixels, (right - left, bottom - top), dst=spot)


def region_around(xyxy: tuple[float, float, float, float], picture_size_wh: tuple[int, int]) -> Region | None:
    """The smallest region of whole pixels that holds a box, cut off at the picture; None if nothing is left."""
    width, height = picture_size_wh
    left, top = max(0, math.floor(xyxy[0])), max(0, math.floor(xyxy[1]))
    right, bottom = min(width, math.ceil(xyxy[2])), min(height, math.ceil(xyxy[3]))
    return (left, top, right, bottom) if left < right and top < bottom else None
