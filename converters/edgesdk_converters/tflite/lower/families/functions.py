"""Functions that TFLite writes as a few operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgesdk_converters.tflite.lower.families.elementwise import operands
from edgesdk_converters.tflite.lower.families.norms import standardized
from edgesdk_converters.tflite.lower.families.reductions import reduced_axes
from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.layout import drop
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import lowers

_ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV"})


class _Formula:
    """Arithmetic on tensors of one shape, so that formulas read like formulas."""

    def __init__(self, ctx: Lowering, node: Node) -> None:
        self.ctx, self.node = ctx, node
        self.value = ctx.value(node.inputs[0])
        self.x = self.value.tensor
        if self.x.dtype != "float32":
            ctx.refuse(f"it takes {ctx.info(node.inputs[0]).dtype}", "Cast to float32 before it")

    def __call__(self, code: str, first: Tensor | float, second: Tensor | float | None = None) -> Tensor:
        inputs = [
            item if isinstance(item, Tensor) else self.ctx.const(np.float32(item))
            for item in (first, second)
            if item is not None
        ]
        options = {"fusedActivationFunction": "NONE"} if code in _ARITHMETIC else {}
        made = self.ctx.op(code, inputs, self.x.shape)
        self.ctx.operators[-1].options = dict(options)
        return made

    def finish(self, made: Tensor) -> None:
        self.ctx.rename(made, self.ctx.out(self.node.outputs[0], self.value.layout))


def _softplus(f: _Formula, x: Tensor) -> Tensor:
    """Formula: max(x, 0) + log(1 + exp(-|x|)): exp never overflows."""
    falling = f("EXP", f("NEG", f("ABS", x)))
    return f("ADD", f("RELU", x), f("LOG", f("ADD", falling, 1.0)))


def _mish(f: _Formula) -> Tensor:
    """The product x * tanh(log(1 + e)), e = exp(x), as x * n / (n + 2) with n = e * (e + 2): exact for small e as well."""
    raised = f("EXP", f("MINIMUM", f.x, 20.0))
    n = f("MUL", raised, f("ADD", raised, 2.0))
    return f("MUL", f.x, f("DIV", n, f("ADD", n, 2.0)))


def _selu(f: _Formula) -> Tensor:
    alpha, gamma = float(f.node.attribute("alpha", 1.67326319217681884765625)), float(f.node.attribute("gamma", 1.05070102214813232421875))  # fmt: skip
    low = f("MUL", f("ELU", f("MINIMUM", f.x, 0.0)), alpha * gamma)
    return f("ADD", low, f("MUL", f("RELU", f.x), gamma))


def _celu_scaled(f: _Formula) -> Tensor:
    alpha = float(f.node.attribute("alpha", 1.0))
    low = f("MUL", f("ELU", f("MUL", f("MINIMUM", f.x, 0.0), 1 / alpha)), alpha)
    return f("ADD", f("RELU", f.x), low)


def _hyperbolic(sign: str) -> Callable[[_Formula], Tensor]:
    return lambda f: f("MUL", f(sign, f("EXP", f.x), f("EXP", f("NEG", f.x))), 0.5)


_FORMULAS: dict[str, Callable[[_Formula], Tensor]] = {
    "Softplus": lambda f: _softplus(f, f.x),
    "Mish": _mish,
    "Softsign": lambda f: f("DIV", f.x, f("ADD", f("ABS", f.x), 1.0)),
    "Selu": _selu,
    "Celu": _celu_scaled,
    "Tan": lambda f: f("DIV", f("SIN", f.x), f("COS", f.x)),
    "Sinh": _hyperbolic("SUB"),
    "Cosh": _hyperbolic("ADD"),
}


@lowers(*_FORMULAS)
def formula(ctx: Lowering, node: Node) -> None:
    """A formula of one tensor."""
    writer = _Formula(ctx, node)
    writer.finish(_FORMULAS[node.op_type](writer))


@lowers("Sign")
def sign(ctx: Lowering, node: Node) -> None:
    """SIGN; integers are held between -1 and 1."""
    value = ctx.value(node.inputs[0])
    made = ctx.out(node.outputs[0], value.layout)
    if value.tensor.dtype == "float32":
        ctx.emit("SIGN", [value.tensor], [made])
        return
    one = ctx.const(np.ones((), value.tensor.dtype))
    below = ctx.op("MINIMUM", [value.tensor, one], made.shape, made.dtype)
    lowest = ctx.const(np.asarray(0 if made.dtype.startswith("u") else -1, made.dtype))
    ctx.emit("MAXIMUM", [below, lowest], [made])


@lowers("ThresholdedRelu")
def thresholded_relu(ctx: Lowering, node: Node) -> None:
    """The input where it is above alpha, else 0."""
    f = _Formula(ctx, node)
    above = ctx.op("GREATER", [f.x, ctx.const(np.float32(node.attribute("alpha", 1.0)))], f.x.shape, "bool")
    f.finish(f("MUL", f.x, ctx.op("CAST", [above], f.x.shape)))


def _real(ctx: Lowering, node: Node) -> None:
    if ctx.dtype(node.inputs[0]) != "float32":
        ctx.refuse(f"it takes {ctx.info(node.inputs[0]).dtype}", "Cast to float32 before it")


@lowers("IsNaN")
def is_nan(ctx: Lowering, node: Node) -> None:
    """Only NaN differs from itself."""
    value = ctx.value(node.inputs[0])
    ctx.emit("NOT_EQUAL", [value.tensor, value.tensor], [ctx.out(node.outputs[0], value.layout)])


@lowers("Xor")
def exclusive_or(ctx: Lowering, node: Node) -> None:
    """NOT_EQUAL of truth values."""
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    ctx.emit("NOT_EQUAL", tensors, [ctx.out(node.outputs[0], layout)])


@lowers("Mod")
def modulo(ctx: Lowering, node: Node) -> None:
    """FLOOR_MOD, which has the sign of the divisor as ONNX's integers have."""
    if node.attribute("fmod", 0):
        ctx.refuse("it takes the sign of the dividend (fmod=1)", "Export it with fmod=0")
    if ctx.dtype(node.inputs[0]) not in ("float32", "int32"):
        ctx.refuse(f"it divides {ctx.info(node.inputs[0]).dtype}", "Cast to int32 before it")
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    ctx.emit("FLOOR_MOD", tensors, [ctx.out(node.outputs[0], layout)])


@lowers("Mean")
def mean(ctx: Lowering, node: Node) -> None:
    """The mean of several tensors."""
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    so_far = tensors[0]
    for tensor in tensors[1:]:
        shape = np.broadcast_shapes(so_far.shape, tensor.shape)
        so_far = ctx.op("ADD", [so_far, tensor], shape, fusedActivationFunction="NONE")
    share = ctx.const(np.float32(1 / len(tensors)))
    ctx.emit("MUL", [so_far, share], [ctx.out(node.outputs[0], layout)], fusedActivationFunction="NONE")


@lowers("ReduceLogSumExp")
def log_sum_exp(ctx: Lowering, node: Node) -> None:
    """Formula: log(sum(exp(x - max))) + max."""
    _real(ctx, node)
    value = ctx.value(node.inputs[0])
    axes = reduced_axes(ctx, node)
    if not axes:
        ctx.refuse("its axes are computed or empty", "Make them constant")
    places = ctx.ints(sorted(value.layout.index(axis) for axis in axes))
    small = [1 if axis in axes else size for axis, size in zip(value.layout, value.tensor.shape, strict=True)]
    high = ctx.op("REDUCE_MAX", [value.tensor, places], small, keepDims=True)
    centred = ctx.op("SUB", [value.tensor, high], value.tensor.shape, fusedActivationFunction="NONE")
    total = ctx.op("SUM", [ctx.op("EXP", [centred], centred.shape), places], small, keepDims=True)
    found = ctx.op("ADD", [ctx.op("LOG", [total], small), high], small, fusedActivationFunction="NONE")
    keep = bool(node.attribute("keepdims", 1))
    made = ctx.out(node.outputs[0], value.layout if keep else drop(value.layout, axes))
    if not ctx.rename(found, made):
        ctx.emit("RESHAPE", [found, ctx.ints(made.shape)], [made], newShape=list(made.shape))


@lowers("LpNormalization")
def lp_normalization(ctx: Lowering, node: Node) -> None:
    """The input divided by its norm along an axis; zeros stay zeros."""
    _real(ctx, node)
    value = ctx.value(node.inputs[0])
    axis = int(node.attribute("axis", -1)) % len(value.layout)
    place = value.layout.index(axis)
    small = [1 if at == place else size for at, size in enumerate(value.tensor.shape)]
    code = "SQUARE" if int(node.attribute("p", 2)) == 2 else "ABS"
    parts = ctx.op(code, [value.tensor], value.tensor.shape)
    norm = ctx.op("SUM", [parts, ctx.ints([place])], small, keepDims=True)
    if code == "SQUARE":
        norm = ctx.op("SQRT", [norm], small)
    norm = ctx.op("MAXIMUM", [norm, ctx.const(np.float32(1e-30))], small)  # nothing divided by nothing is nothing
    ctx.emit("DIV", [value.tensor, norm], [ctx.out(node.outputs[0], value.layout)], fusedActivationFunction="NONE")


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(ctx: Lowering, node: Node) -> None:
    """Over the axes that it names (batch and space where it names none)."""
    _real(ctx, node)
    value = ctx.value(node.inputs[0])
    axes = [int(axis) % len(value.layout) for axis in node.attribute("axes") or (0, 2, 3)]
    places = sorted(value.layout.index(axis) for axis in axes)
    made = standardized(ctx, value.tensor, places, 1e-9)
    ctx.rename(made, ctx.out(node.outputs[0], value.layout))
