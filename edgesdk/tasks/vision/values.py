"""From the 8-bit pixels of a canvas to a model's input values, in as few passes as the layout allows.

``(pixel * scale - mean) / std`` is folded into one multiply-add. An integer input also folds its quantization, which makes
256 possible values per channel: a table. Measured on x86, one thread, 640x640x3: float NCHW 0.35 ms (split, then one pass
per plane), float NHWC 0.30 ms; the obvious ``pixels * scale`` with a three-element scale takes 6 ms, `blobFromImage` 4.5 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ImageInput, InputSpec
from edgesdk.errors import TaskError
from edgesdk.extras import import_extra

Array = NDArray[Any]
Pixels = NDArray[np.uint8]
Writer = Callable[[Pixels, bool], None]
"""Takes a canvas, (H, W, 3) or (H, W), and whether its first and last channel must be swapped; fills the input array."""

FLOATS = ("float32", "float16")
INTEGERS = ("uint8", "int8")


def channel_values(spec: InputSpec, image: ImageInput, name: str, channels: int) -> NDArray[np.float64]:
    """``image.mean`` or ``image.std`` as (channels,).

    Raises:
        TaskError: It has neither one number nor one per channel.
    """
    values = np.asarray(getattr(image, name), np.float64)
    if values.size not in {1, channels}:
        raise TaskError(
            f"input {spec.name!r}: {name} has {values.size} numbers, the input has {channels} channels. "
            f"Give one number for all channels, or {channels}."
        )
    return np.broadcast_to(values, (channels,))


def multiply_add(spec: InputSpec, image: ImageInput, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and summand per channel, float64 (channels,), so that ``value = pixel * factor + summand``.

    Raises:
        TaskError: A mean or std of the wrong length, or a std of zero.
    """
    mean, std = (channel_values(spec, image, name, channels) for name in ("mean", "std"))
    if not np.all(std):
        raise TaskError(f"input {spec.name!r}: std is {image.std}, a divisor of zero. Give the training's std, or 1.")
    return image.scale / std, -mean / std


def value_table(spec: InputSpec, image: ImageInput, channels: int) -> Array:
    """Input value of each pixel value, (channels, 256), in the input's integer dtype.

    Without quantization parameters an integer input takes the pixels themselves; scale, mean and std must then say so.

    Raises:
        TaskError: The contract scales the pixels, but the integer input has no quantization parameters.
    """
    factor, summand = multiply_add(spec, image, channels)
    dtype = np.dtype(spec.dtype)
    real = np.arange(256.0) * factor[:, None] + summand[:, None]
    if spec.quantization is not None:
        scale, zero_point = spec.quantization.scale, spec.quantization.zero_point
        if len(scale) != 1 or len(zero_point) != 1:
            raise TaskError(
                f"input {spec.name!r}: quantization has {len(scale)} scales, a picture input takes one. "
                "Quantize the input per tensor."
            )
        real = real / scale[0] + zero_point[0]
    elif dtype == np.int8 or np.any(factor != 1) or np.any(summand != 0):
        raise TaskError(
            f"input {spec.name!r} is {spec.dtype} without quantization, so pixels cannot be turned into "
            f"(pixel * {image.scale:.6g} - {image.mean}) / {image.std}. Give the input's scale and zero point, or make it "
            "uint8 with scale 1, mean 0 and std 1 (the pixels as they are)."
        )
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real), limits.min, limits.max).astype(dtype)


def make_writer(spec: InputSpec, image: ImageInput, out: Array) -> tuple[Writer, bool]:
    """The fastest way from a canvas to ``out``.

    Args:
        spec: Input of shape (1, C, H, W) or (1, H, W, C), C 1 or 3.
        image: Its ``source``.
        out: The input array, C-contiguous; the writer fills it.

    Returns:
        The writer, and whether it only copies (then a canvas may be ``out[0]`` itself, and nothing is left to do).

    Raises:
        TaskError: Values that do not fit, or a dtype that is no picture's.
    """
    planar = image.layout == "NCHW"
    channels = out.shape[1] if planar else out.shape[3]
    if spec.dtype in INTEGERS:
        table = value_table(spec, image, channels)
        copies = spec.dtype == "uint8" and bool(np.all(table == np.arange(256)))
        writer = _planar_table(table, out, copies=copies) if planar else _packed_table(table, out, copies=copies)
        return writer, copies and not planar
    if spec.dtype not in FLOATS:
        raise TaskError(
            f"input {spec.name!r} is {spec.dtype}; a picture goes into {', '.join((*FLOATS, *INTEGERS))}. "
            "Export the model with one of these, or make the input kind 'tensor'."
        )
    factor, summand = (values.astype(np.float32) for values in multiply_add(spec, image, channels))
    writer = _planar_float(factor, summand, out) if planar else _packed_float(factor, summand, out)
    return writer, False


def _planar_float(factor: Array, summand: Array, out: Array) -> Writer:
    cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
    channels, height, width = out.shape[1:]
    planes = np.empty((channels, height, width), np.uint8)
    views = list(planes)
    real = out[0] if out.dtype == np.float32 else np.empty((channels, height, width), np.float32)
    constant = bool(np.any(summand != 0))

    def write(canvas: Pixels, swap: bool) -> None:  # noqa: FBT001 - a private closure, called in one place
        if channels == 1:
            views[0] = canvas
        else:
            cv2.split(canvas, views)
        for channel in range(channels):
            plane = views[channels - 1 - channel] if swap else views[channel]
            # dtype=: numpy 1 would multiply uint8 by a float32 scalar in half precision.
            np.multiply(plane, factor[channel], out=real[channel], dtype=np.float32)
            if constant:
                np.add(real[channel], summand[channel], out=real[channel])
        if out.dtype != np.float32:
            out[0] = real

    return write


def _packed_float(factor: Array, summand: Array, out: Array) -> Writer:
    cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
    height, width, channels = out.shape[1:]
    swapped = np.empty((height, width, channels), np.uint8)
    rows = (height, width * channels)
    real = out.reshape(rows) if out.dtype == np.float32 else np.empty(rows, np.float32)
    # A row's worth of factors makes the inner loop long: with (3,) numpy's inner loop is three elements.
    multiplier = factor[0] if np.all(factor == factor[0]) else np.tile(factor, width)
    addend = summand[0] if np.all(summand == summand[0]) else np.tile(summand, width)
    constant = bool(np.any(summand != 0))

    def write(canvas: Pixels, swap: bool) -> None:  # noqa: FBT001 - a private closure, called in one place
        pixels = cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR, dst=swapped) if swap else canvas
        np.multiply(pixels.reshape(rows), multiplier, out=real, dtype=np.float32)
        if constant:
            np.add(real, addend, out=real)
        if out.dtype != np.float32:
            out.reshape(rows)[...] = real

    return write


def _planar_table(table: Array, out: Array, *, copies: bool) -> Writer:
    cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
    channels, height, width = out.shape[1:]
    views = list(np.empty((channels, height, width), np.uint8))

    def write(canvas: Pixels, swap: bool) -> None:  # noqa: FBT001 - a private closure, called in one place
        if channels == 1:
            views[0] = canvas
        else:
            cv2.split(canvas, views)
        for channel in range(channels):
            plane = views[channels - 1 - channel] if swap else views[channel]
            if copies:
                out[0, channel] = plane
            else:
                cv2.LUT(plane, table[channel], dst=out[0, channel])

    return write


def _packed_table(table: Array, out: Array, *, copies: bool) -> Writer:
    cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
    height, width, channels = out.shape[1:]
    swapped = np.empty((height, width, channels), np.uint8)
    shared = bool(np.all(table == table[0]))
    lookup = table[0] if shared else np.ascontiguousarray(table.T)[None]  # (256,), or (1, 256, C): one per channel
    target = out[0] if channels > 1 else out[0, :, :, 0]
    # int8 with scale 1/255 and zero point -128, what most TFLite files have, is the pixel with its top bit flipped: a
    # fifteenth of the time of a table.
    flips = out.dtype == np.int8 and bool(np.all(table == np.arange(256) - 128))
    bits = target.view(np.uint8)

    def write(canvas: Pixels, swap: bool) -> None:  # noqa: FBT001 - a private closure, called in one place
        if copies:
            if swap:
                cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR, dst=target)
            else:
                target[...] = canvas
            return
        pixels = cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR, dst=swapped) if swap else canvas
        if flips:
            np.bitwise_xor(pixels, 0x80, out=bits)
        else:
            cv2.LUT(pixels, lookup, dst=target)

    return write
