"""Folds an image's pre-processing into the graph: uint8 NHWC pixels go in, and the board does one resize and nothing else.

``value = (pixel * scale - mean) / std`` is ``factor * (pixel - zero)``, which is what DequantizeLinear computes; so it is a
Transpose of bytes and a DequantizeLinear, and what differs from channel to channel goes into the weights of the first
convolution. An int8 graph then takes the pixels themselves: the parameters of DequantizeLinear are those of its input.

Bytes are turned before they become numbers, because that moves a quarter of the memory; the same work in numpy on the board costs more
than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import ImageInput, InputSpec
from edgesdk.errors import ConversionError, TaskError
from edgesdk.tasks.vision.values import multiply_add
from edgesdk_converters.graph.affine import Affine, absorb
from edgesdk_converters.graph.conditions import NO_WEIGHT_INPUTS, SORTED, opset_at_least
from edgesdk_converters.graph.opset import QDQ_OPSET
from edgesdk_converters.graph.passes import Step, run_passes
from edgesdk_converters.graph.view import GraphView, attribute, captured, dtype_of, inputs_of, shape_of

Array = NDArray[Any]

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_SNAP_PX = 1e-4
"""A zero this close to a whole pixel value is one: six decimals in a training script leave that much."""
_EQUAL_DB = 40.0
"""What is folded wrongly (a mean, the colour order) is far below; rounding, on a model that answers noise with next to nothing, is not."""
_LEAST_DB = 25.0
"""What is asked even of a model whose own rounding is louder than that."""


@dataclass(slots=True)
class _Conv:
    """A first convolution whose weights can take up factors, and what it adds around the picture."""

    node: Any
    weight: Array
    """float32 (O, C/group, kh, kw)."""
    bias: Array
    """float32 (O,)."""
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""

    @property
    def group(self) -> int:
        return int(attribute(self.node, "group", 1))

    def per_channel(self, values: Array) -> Array:
        """``values`` of (C,), arranged to multiply the weights."""
        outputs, inputs = self.weight.shape[:2]
        group = np.arange(outputs) // (outputs // self.group)
        channel = group[:, None] * inputs + np.arange(inputs)[None, :]
        return np.asarray(np.take(values, channel)[:, :, None, None])


def fold_input(
    model: onnx.ModelProto, spec: InputSpec, *, colour: Literal["RGB", "BGR"] | None = "BGR"
) -> tuple[onnx.ModelProto, InputSpec]:
    """A copy of ``model`` whose picture input is uint8 (1, H, W, C), pixels as they are; and the spec of that input.

    Args:
        model: Float, opset >= 13, node names free. The input keeps its name.
        spec: Of the input as the model has it: float32, NCHW or NHWC, static.
        colour: Channel order that the new input should have: that of the board's sources (OpenCV's BGR), so that nothing is
            left to swap there. Followed only where it costs nothing (a first convolution takes it up); None keeps the model's.

    Returns:
        Model and spec; both as they were where the input is no picture, not float32, or used in a way that cannot be folded
        (inside the branches of an If, or as an output).

    Raises:
        ConversionError: The model has no such input, another shape than the spec's, or too old an opset (`PassError`); or mean and std do
            not fit the channels; or the folded model computes something else.
    """
    image = spec.source
    if not isinstance(image, ImageInput) or spec.dtype != "float32":
        return model, spec
    _check(model, spec)
    view = GraphView(model)
    if spec.name in view.outputs or any(spec.name in captured(node) for node in view.consumers.get(spec.name, [])):
        return model, spec
    made: list[InputSpec] = []

    def run(given: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        copy = onnx.ModelProto()
        copy.CopyFrom(given)
        made.append(_fold(copy, spec, image, colour))
        return copy, ()

    step = Step(
        name=f"fold input {spec.name}",
        run=run,
        requires=(opset_at_least(QDQ_OPSET), SORTED),
        ensures=(SORTED, NO_WEIGHT_INPUTS),
    )
    folded = run_passes(model, [step])
    _prove(model, folded, spec, made[0])
    return folded, made[0]


def _fold(
    model: onnx.ModelProto, spec: InputSpec, image: ImageInput, colour: Literal["RGB", "BGR"] | None
) -> InputSpec:
    """Rewrite ``model`` in place; the spec of its new input."""
    folding = _Folding(model, spec, image)
    swapped = folding.run(swap=colour is not None and image.colour in {"RGB", "BGR"} and image.colour != colour)
    height, width = _size_hw(spec, image)
    source = msgspec.structs.replace(
        image,
        layout="NHWC",
        colour=(colour or image.colour) if swapped else image.colour,
        scale=1.0,
        mean=(0.0,),
        std=(1.0,),
    )
    return msgspec.structs.replace(spec, shape=(1, height, width, folding.channels), dtype="uint8", source=source)


def _prove(model: onnx.ModelProto, folded: onnx.ModelProto, spec: InputSpec, now: InputSpec) -> None:
    """Run both on random pixels.

    Raises:
        ConversionError: They do not compute the same, or the folded one does not run.
    """
    from edgesdk_converters.graph.simplify import closeness, own_rounding, random_feed
    from edgesdk_converters.runner import OnnxRunner

    values = inputs_of(model)
    shapes = [tuple(size if isinstance(size, int) else 1 for size in shape_of(value)) for value in values]
    feed = random_feed([(shape, dtype_of(value), None) for shape, value in zip(shapes, values, strict=True)])
    at = [value.name for value in values].index(spec.name)
    pixels = np.random.default_rng(0).integers(0, 256, now.shape, np.uint8)
    feed[at] = source_input(spec, now, pixels)
    reference = OnnxRunner(model)
    expected = reference.run(feed)
    given = list(feed)
    feed[at] = pixels
    runner = OnnxRunner(folded)
    distance = min(closeness(a, b) for a, b in zip(expected, runner.run(feed), strict=True))
    # Text detectors answer noise with a map of 0.0001, of which rounding alone makes 39 dB.
    if distance < _EQUAL_DB and distance < max(own_rounding(model, reference, given) - 6.0, _LEAST_DB):
        raise ConversionError(
            f"input {spec.name!r}: with its pre-processing folded in, the model computes something else ({distance:.1f} dB, expected "
            f"{_EQUAL_DB:.0f} or more). That is a fault of edgesdk, not of the model: please report it. 'fold_input: false' in the model "
            "spec goes without."
        )


def source_input(spec: InputSpec, folded: InputSpec, pixels: Array) -> Array:
    """What the model took before folding, from what the folded one takes.

    Args:
        spec: The input as it was.
        folded: As :func:`fold_input` returned it.
        pixels: uint8 (1, H, W, C) in ``folded``'s colour order.

    Returns:
        float32 in ``spec``'s shape; ``pixels`` where nothing was folded.
    """
    image, now = spec.source, folded.source
    if folded == spec or not isinstance(image, ImageInput) or not isinstance(now, ImageInput):
        return pixels
    if image.colour != now.colour:
        pixels = pixels[..., ::-1]
    factor, summand = multiply_add(spec, image, pixels.shape[3])
    values = (pixels * factor + summand).astype(np.float32)
    return np.ascontiguousarray(values.transpose(_TO_NCHW) if image.layout == "NCHW" else values)


class _Folding:
    """The work on one copy of a model."""

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, image: ImageInput) -> None:
        self.model, self.spec, self.image = model, spec, image
        self.channels = spec.shape[1] if image.layout == "NCHW" else spec.shape[3]
        try:
            factor, summand = multiply_add(spec, image, self.channels)
        except TaskError as error:
            raise ConversionError(f"{error} It is said in the model spec (--spec).") from error
        self.affine = Affine(factor.copy(), summand.copy())
        self.names = {name for node in model.graph.node for name in (node.name, *node.input, *node.output)}
        self.names |= {t.name for t in model.graph.initializer} | {v.name for v in model.graph.input}
        self.begin: list[Any] = []
        """New nodes, to go in front of all others."""

    def run(self, *, swap: bool) -> bool:
        """Rewrite; whether the channels were swapped."""
        graph, name = self.model.graph, self.spec.name
        axis = 1 if self.image.layout == "NCHW" else 3
        tensor, view = name, GraphView(self.model)
        # A TensorFlow export turns its NHWC input itself; turning bytes instead is a quarter of the work.
        follower = view.only_consumer(name)
        turned = axis == 1
        if (
            axis == 3
            and follower is not None
            and follower.op_type == "Transpose"
            and tuple(attribute(follower, "perm", ())) == _TO_NCHW
        ):
            graph.node.remove(follower)
            tensor, axis, turned = follower.output[0], 1, True
        self.affine, tensor, gone = absorb(GraphView(self.model), tensor, self.affine, axis, self.channels)
        for node in gone:
            graph.node.remove(node)
        view = GraphView(self.model)
        takers = view.consumers.get(tensor, [])
        convs = [self._conv(view, node, tensor) for node in takers] if axis == 1 and tensor not in view.outputs else []
        ready = [conv for conv in convs if conv is not None]
        foldable = bool(ready) and len(ready) == len(takers)
        swap = swap and foldable and all(conv.group == 1 for conv in ready)

        value = next(value for value in graph.input if value.name == name)
        height, width = _size_hw(self.spec, self.image)
        value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [1, height, width, self.channels]))
        pixels = self._add("Transpose", [name], "nchw", perm=_TO_NCHW) if turned else name
        if foldable:
            self._into_convs(ready, takers, pixels, tensor, swap=swap)
        else:
            self._before(takers, pixels, tensor, axis)
        nodes = [*self.begin, *graph.node]
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        self._drop_unused()
        return swap

    def _into_convs(self, convs: list[_Conv], takers: Sequence[Any], pixels: str, tensor: str, *, swap: bool) -> None:
        """Factors into the weights, and the zero where it is exact: zero point, bias, border, or a Sub."""
        factor, zero = self.affine.factor, self.affine.zero
        scale = float(np.exp(np.log(np.abs(factor)).mean()))
        ratio = factor / scale  # 1 where all channels share a factor
        point = _zero_point(zero)
        rest = np.where(np.abs(zero - point) < _SNAP_PX, 0.0, zero - point)  # pixels
        for conv in convs:
            conv.weight = conv.weight * conv.per_channel(ratio)
        current = self._dequantize(pixels, scale, point)
        if rest.any() and not any(any(conv.pads) for conv in convs):
            for conv in convs:
                conv.bias = conv.bias - (conv.weight * conv.per_channel(rest * scale)).sum(axis=(1, 2, 3))
        elif rest.any() and np.all(np.abs(rest - rest[0]) < _SNAP_PX):
            # Zero is no whole pixel value, the same for all channels: written out, the border is one number, and the pixels
            # reach the convolution as the integers that they are.
            border = float(rest[0] * scale)
            for conv in convs:
                conv.bias = conv.bias - conv.weight.sum(axis=(1, 2, 3)) * border
        elif rest.any():
            ordered = rest[::-1] if swap else rest
            zeros = self._constant("zero", (ordered * scale).reshape(1, self.channels, 1, 1))
            current = self._add("Sub", [current, zeros], "centred")
            rest = np.zeros_like(rest)
        for conv, node in zip(convs, takers, strict=True):
            source = current
            if rest.any() and any(conv.pads):
                top, left, bottom, right = conv.pads
                pads = self._constant("pads", np.asarray([0, 0, top, left, 0, 0, bottom, right], np.int64))
                source = self._add(
                    "Pad", [current, pads, self._constant("border", np.float32(rest[0] * scale))], "padded"
                )
                _set_pads(node, (0, 0, 0, 0))
            self._write(node, conv, source, tensor, swap=swap)

    def _write(self, node: Any, conv: _Conv, source: str, tensor: str, *, swap: bool) -> None:
        weight = conv.weight[:, ::-1] if swap else conv.weight
        label = node.name or node.output[0]
        inputs = [source if name == tensor else name for name in node.input]
        inputs[1] = self._constant(f"{label}_weight", weight.astype(np.float32), exact=True)
        if len(inputs) > 2 or conv.bias.any():
            inputs[2:] = [self._constant(f"{label}_bias", conv.bias.astype(np.float32), exact=True)]
        del node.input[:]
        node.input.extend(inputs)

    def _before(self, takers: Sequence[Any], pixels: str, tensor: str, axis: int) -> None:
        """No convolution takes it up: one DequantizeLinear, and a Mul or Sub where channels differ."""
        factor, zero = self.affine.factor, self.affine.zero
        same = bool(np.all(factor == factor[0]))
        scale = float(factor[0]) if same and factor[0] > 0 else 1.0
        point = _zero_point(zero)
        rest = np.where(np.abs(zero - point) < _SNAP_PX, 0.0, zero - point)
        shape = [1, 1, 1, 1]
        shape[axis] = self.channels
        current = self._dequantize(pixels, scale, point)
        if rest.any():
            current = self._add("Sub", [current, self._constant("zero", (rest * scale).reshape(shape))], "centred")
        if np.any(factor != scale):
            current = self._add("Mul", [current, self._constant("factor", (factor / scale).reshape(shape))], "scaled")
        for node in takers:
            inputs = [current if name == tensor else name for name in node.input]
            del node.input[:]
            node.input.extend(inputs)
        named = any(value.name == tensor for value in self.model.graph.output)
        if tensor != self.spec.name and (named or any(tensor in captured(node) for node in takers)):
            self.begin.append(helper.make_node("Identity", [current], [tensor], self._free(f"{tensor}_same")))

    def _conv(self, view: GraphView, node: Any, tensor: str) -> _Conv | None:
        if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or list(node.input).count(tensor) != 1:
            return None
        weight = view.constant(node.input[1])
        bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if node.input[0] != tensor or weight is None or weight.dtype != np.float32 or weight.ndim != 4:
            return None
        if bias is None and len(node.input) > 2 and node.input[2]:
            return None
        pads = _pads_of(node, weight.shape[2:], _size_hw(self.spec, self.image))
        if pads is None:
            return None
        start = np.zeros(weight.shape[0]) if bias is None else bias
        return _Conv(node, weight.astype(np.float64), start.astype(np.float64), pads)

    def _dequantize(self, pixels: str, scale: float, point: int) -> str:
        inputs = [pixels, self._constant("scale", np.float32(scale)), self._constant("zero_point", np.uint8(point))]
        return self._add("DequantizeLinear", inputs, "real")

    def _add(self, op_type: str, inputs: list[str], label: str, **attributes: Any) -> str:
        name = self._free(f"{self.spec.name}_{label}")
        self.begin.append(
            helper.make_node(op_type, inputs, [name], self._free(f"{self.spec.name}/{label}"), **attributes)
        )
        return name

    def _constant(self, label: str, value: Any, *, exact: bool = False) -> str:
        name = self._free(label if exact else f"{self.spec.name}_{label}")
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.model.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        )
        return name

    def _free(self, name: str) -> str:
        found, count = name, 1
        while found in self.names:
            count += 1
            found = f"{name}_{count}"
        self.names.add(found)
        return found

    def _drop_unused(self) -> None:
        graph = self.model.graph
        used = {name for node in graph.node for name in (*node.input, *captured(node))}
        used |= {value.name for value in graph.output}
        for group in (graph.initializer, graph.value_info):
            kept = [item for item in group if item.name in used]
            if len(kept) < len(group):
                copies = [type(item).FromString(item.SerializeToString()) for item in kept]
                del group[:]
                group.extend(copies)


def _zero_point(zero: Array) -> int:
    """The whole pixel value nearest to the zeros of all channels."""
    return int(np.clip(np.rint(zero.mean()), 0, 255))


def _check(model: onnx.ModelProto, spec: InputSpec) -> None:
    inputs = {value.name: value for value in model.graph.input}
    value = inputs.get(spec.name)
    if value is None:
        raise ConversionError(f"input {spec.name!r} is not in the model. It has: {', '.join(inputs)}.")
    image = spec.source
    assert isinstance(image, ImageInput)
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    axis = 1 if image.layout == "NCHW" else 3
    if shape != spec.shape or len(shape) != 4 or shape[0] != 1 or min(shape) < 1 or shape[axis] not in (1, 3):
        raise ConversionError(
            f"input {spec.name!r} is {list(shape)} in the model and {list(spec.shape)} in its spec, expected the same static "
            f"{'[1, C, H, W]' if axis == 1 else '[1, H, W, C]'} with 1 or 3 channels ({image.layout}). Pin the shapes first, "
            "or correct the layout in the model spec."
        )


def _size_hw(spec: InputSpec, image: ImageInput) -> tuple[int, int]:
    return (spec.shape[2], spec.shape[3]) if image.layout == "NCHW" else (spec.shape[1], spec.shape[2])


def _pads_of(node: Any, kernel: Sequence[int], size_hw: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Top, left, bottom, right; None for a value of ``auto_pad`` that is not known."""
    mode = attribute(node, "auto_pad", b"NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode in {"NOTSET", ""}:
        top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
        return int(top), int(left), int(bottom), int(right)
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in {"SAME_UPPER", "SAME_LOWER"}:
        return None
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    before, after = [], []
    for size, length, stride, dilation in zip(size_hw, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def _set_pads(node: Any, pads: tuple[int, int, int, int]) -> None:
    kept = [item for item in node.attribute if item.name not in {"pads", "auto_pad"}]
    copies = [onnx.AttributeProto.FromString(item.SerializeToString()) for item in kept]
    del node.attribute[:]
    node.attribute.extend([*copies, helper.make_attribute("pads", list(pads))])
