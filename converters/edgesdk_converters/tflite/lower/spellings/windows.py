"""Windows that TFLite's pools do not have: dilated, of three axes, with another norm; and what puts windows back together."""

from __future__ import annotations

from itertools import product

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array
from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_MOST = 9
"""Elements of a window along one axis; each becomes a slice."""


class _Windows:
    """The windows of a pool along each spatial axis."""

    def __init__(self, s: Sketch) -> None:
        self.s = s
        self.size = s.shape()[2:]
        count = len(self.size)
        self.kernel = [int(v) for v in s.attribute("kernel_shape") or ()]
        if len(self.kernel) != count or count == 0:
            s.refuse("its kernel_shape does not fit its input", "Check the model with onnx.checker")
        self.strides = [int(v) for v in s.attribute("strides") or [1] * count]
        self.dilations = [int(v) for v in s.attribute("dilations") or [1] * count]
        known = s.graph.infos.get(s.node.outputs[0])
        if known is None:
            s.refuse("the shape of its output is not known", "Pin the shapes of the inputs")
        self.made = known.shape[2:]
        stated = [int(v) for v in s.attribute("pads") or [0] * (2 * count)]
        auto = s.attribute("auto_pad", "NOTSET")
        self.before, self.after, self.stated = [], [], []
        for axis in range(count):
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            last = (self.made[axis] - 1) * self.strides[axis] + reach
            begin = stated[axis]
            room = self.size[axis] + begin + stated[axis + count]
            if auto in ("NOTSET", "VALID", "") and reach > room:
                s.refuse(f"its window of {reach} is larger than the {room} it looks at", "Pad its input")
            behind = self.size[axis] + (begin if s.attribute("ceil_mode", 0) else reach)
            if auto.startswith("SAME"):
                total = max(last - self.size[axis], 0)
                begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            if min(stated) < 0 or last - reach >= behind or (auto.startswith("SAME") and last < self.size[axis]):
                s.refuse("runtimes make different windows of its pads and strides", "Export it with explicit pads")
            if max(self.kernel) > _MOST:
                s.refuse(f"its window of {max(self.kernel)} would be {max(self.kernel)} slices", "Use a smaller one")
            self.before.append(begin)
            self.after.append(max(last - self.size[axis] - begin, 0))
            self.stated.append(stated[axis + count] if auto in ("NOTSET", "") else self.after[-1])

    def padded(self, x: str, value: float) -> str:
        """The input with all that a window reaches."""
        if not any((*self.before, *self.after)):
            return x
        amounts = self.s.ints(0, 0, *self.before, 0, 0, *self.after)
        return self.s.op("Pad", x, amounts, self.s.like(value))

    def parts(self, x: str, axis: int) -> list[str]:
        """For each element of the window along an axis, what lies there for all windows."""
        found = []
        for element in range(self.kernel[axis]):
            start = element * self.dilations[axis]
            end = start + (self.made[axis] - 1) * self.strides[axis] + 1
            found.append(self.s.slice(x, axis + 2, start, end, self.strides[axis]))
        return found

    def over(self, code: str, x: str) -> str:
        """Max or Sum over each window, one axis after the other."""
        for axis in range(len(self.size)):
            x = self.s.op(code, *self.parts(x, axis)) if self.kernel[axis] > 1 else self.parts(x, axis)[0]
        return x

    def counts(self, *, padding: bool) -> Array:
        """How many elements each window averages over."""
        total: Array = np.ones((1, 1))
        for axis, size in enumerate(self.size):
            at = np.arange(self.made[axis])[:, None] * self.strides[axis] - self.before[axis]
            at = at + np.arange(self.kernel[axis]) * self.dilations[axis]
            low, high = (-self.before[axis], size + self.stated[axis]) if padding else (0, size)
            total = total[..., None] * ((at >= low) & (at < high)).sum(axis=1)
        return np.maximum(total, 1)


@spells("MaxPool", "AveragePool", "LpPool")
def pool(s: Sketch) -> None:
    """By slices: the largest, the mean, or the norm of what each window holds."""
    if s.used(1):
        s.refuse("its second output (indices) has no TFLite counterpart", "Do not use the indices")
    if s.dtype() not in ("float32", "float16"):
        s.refuse(f"it pools {s.dtype()} by windows that TFLite lacks", "Cast to float32 before it")
    windows = _Windows(s)
    if s.node.op_type == "MaxPool":
        s.result(windows.over("Max", windows.padded(s.x, float(np.finfo(s.dtype()).min))))
    elif s.node.op_type == "AveragePool":
        share = 1 / windows.counts(padding=bool(s.attribute("count_include_pad", 0)))
        s.result(s.op("Mul", windows.over("Sum", windows.padded(s.x, 0.0)), s.like(share)))
    else:
        power = int(s.attribute("p", 2))
        size = s.op("Abs", s.x)
        raised = {1: size, 2: s.op("Mul", s.x, s.x)}.get(power) or s.op("Pow", size, s.like(power))
        total = windows.over("Sum", windows.padded(raised, 0.0))
        s.result({1: total, 2: s.op("Sqrt", total)}.get(power) or s.op("Pow", total, s.like(1 / power)))


@spells("GlobalLpPool")
def global_lp_pool(s: Sketch) -> None:
    """A norm over the spatial axes."""
    power, axes = int(s.attribute("p", 2)), s.ints(*range(2, len(s.shape())))
    if power in (1, 2):
        s.result(s.op(f"ReduceL{power}", s.x, axes, keepdims=1))
        return
    total = s.op("ReduceSum", s.op("Pow", s.op("Abs", s.x), s.like(power)), axes, keepdims=1)
    s.result(s.op("Pow", total, s.like(1 / power)))


@spells("Col2Im")
def col2im(s: Sketch) -> None:
    """A scatter that adds up: every element of a block goes to its place in the picture."""
    image, block = s.constant(1, "picture's shape"), s.constant(2, "block's shape")
    assert image is not None
    assert block is not None
    size, kernel = [int(v) for v in image.reshape(-1)], [int(v) for v in block.reshape(-1)]
    count = len(size)
    strides, dilations = (list(s.attribute(key) or [1] * count) for key in ("strides", "dilations"))
    pads = list(s.attribute("pads") or [0] * (2 * count))
    batch, rows, blocks = s.shape()
    area, pixels = int(np.prod(kernel)), int(np.prod(size))
    steps = [
        (size[a] + pads[a] + pads[a + count] - (dilations[a] * (kernel[a] - 1) + 1)) // strides[a] + 1
        for a in range(count)
    ]
    if int(np.prod(steps)) != blocks or rows % area:
        s.refuse("its blocks do not fit its picture", "Check the model with onnx.checker")
    places = []
    for element in product(*(range(k) for k in kernel)):
        for step in product(*(range(n) for n in steps)):
            at = [step[a] * strides[a] - pads[a] + element[a] * dilations[a] for a in range(count)]
            inside = all(0 <= p < n for p, n in zip(at, size, strict=True))
            places.append(int(np.ravel_multi_index(at, size)) if inside else pixels)
    channels = rows // area
    moved = s.op("Transpose", s.reshape(s.x, batch * channels, area * blocks), perm=[1, 0])
    where = s.const(np.asarray(places, np.int32).reshape(-1, 1))
    put = s.own("ScatterSum", where, moved, shape=(pixels + 1, batch * channels), dtype=s.dtype())
    whole = s.op("Transpose", s.slice(put, 0, 0, pixels), perm=[1, 0])
    s.result(s.reshape(whole, batch, channels, *size))


@spells("MaxUnpool")
def max_unpool(s: Sketch) -> None:
    """A scatter of the largest to where they were found."""
    shape, count = s.shape(), len(s.shape()) - 2
    kernel = [int(v) for v in s.attribute("kernel_shape")]
    strides = [int(v) for v in s.attribute("strides") or [1] * count]
    pads = [int(v) for v in s.attribute("pads") or [0] * (2 * count)]
    if any(step < size for step, size in zip(strides, kernel, strict=True)):
        s.refuse("its windows overlap", "Export it with strides as large as its windows")
    spatial = [(shape[a + 2] - 1) * strides[a] + kernel[a] - pads[a] - pads[a + count] for a in range(count)]
    whole = (*shape[:2], *spatial)
    total, given = int(np.prod(whole)), int(np.prod(shape))
    where = s.reshape(s.cast(s.input(1), "int32"), given, 1)
    put = s.own("ScatterSum", where, s.reshape(s.x, given, 1), shape=(total, 1), dtype=s.dtype())
    made = s.reshape(put, *whole)
    wanted = s.constant(2, "shape")
    if wanted is not None:
        more = [int(size) - have for size, have in zip(wanted.reshape(-1), whole, strict=True)]
        made = s.op("Pad", made, s.ints(*[0] * len(whole), *more))
    s.result(made)


@spells("CenterCropPad")
def center_crop_pad(s: Sketch) -> None:
    """A Slice where an axis is too long, a Pad where it is too short."""
    wanted, rank = s.constant(1, "shape"), len(s.shape())
    assert wanted is not None
    axes = [int(axis) % rank for axis in s.attribute("axes") or range(rank)]
    x, before, after = s.x, [0] * rank, [0] * rank
    for axis, size in zip(axes, wanted.reshape(-1), strict=True):
        have, want = s.shape()[axis], int(size)
        if have > want:
            start = (have - want) // 2
            x = s.slice(x, axis, start, start + want)
        before[axis] = max(want - have, 0) // 2
        after[axis] = max(want - have, 0) - before[axis]
    s.result(s.op("Pad", x, s.ints(*before, *after)) if any((*before, *after)) else x)


@spells("DynamicQuantizeLinear")
def dynamic_quantize(s: Sketch) -> None:
    """Scale and zero point from the smallest and the largest number."""
    zero, levels = s.const(np.float32(0)), s.const(np.float32(255))
    axes = s.ints(*range(len(s.shape())))
    low = s.op("Min", s.op("ReduceMin", s.x, axes, keepdims=0), zero)
    high = s.op("Max", s.op("ReduceMax", s.x, axes, keepdims=0), zero)
    span = s.op("Sub", high, low)
    scale = s.op("Div", s.op("Where", s.op("Greater", span, zero), span, levels), levels)
    point = s.op("Clip", s.op("Round", s.op("Neg", s.op("Div", low, scale))), zero, levels)
    moved = s.op("Add", s.op("Round", s.op("Div", s.x, scale)), point)
    s.result(s.cast(s.op("Clip", moved, zero, levels), "uint8"), scale, s.cast(point, "uint8"))
