"""Second moments of what layers read, summed over calibration samples and positions: all that rounding weights needs.

Their size depends on the layer only, never on the number of samples. The values are put on a grid of powers of two first, so
that every product and sum is an integer below 2**53: floating-point addition is then exact, and the order in which threads
add cannot change a bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgesdk_converters.graph.view import GraphView, attribute, captured
from edgesdk_converters.quantize.units import weight_axis
from edgesdk_converters.quantize.weights import Matrix
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]

WIDEST = 2304
"""Products per output (K) beyond which a layer's moments are not collected: 256 channels of 3x3; 85 MB."""
_GRID_BITS = 12
"""Steps from zero to the largest value: products have 24 bits, so 2**29 of them add up exactly."""
_MOST_POSITIONS = 1024
"""Positions per inference that enter the moments of a convolution; neighbours say nearly the same."""
_HELD_BYTES = 4 << 20
"""Rows of a layer that are held until they are summed."""
_ROWS = 96 << 10
"""Positions over all inferences that are enough for any layer: forty times the widest one's K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of one layer's input x in the float model and x' in the partly quantized one."""

    second: Matrix
    """(G, K, K): mean of x' x'^T."""
    cross: Matrix | None
    """(G, K, K): mean of x x'^T; None where x is taken to be x': nothing before the layer is to be repaired."""
    mean: Matrix
    """(G, K) of x."""
    mean_quantized: Matrix
    """(G, K) of x'."""

    def centred(self) -> Moments:
        """Without the means: for layers whose bias takes up what the mean output loses."""
        cross = None if self.cross is None else self.cross - self.mean[:, :, None] * self.mean_quantized[:, None, :]
        return Moments(
            second=self.second - self.mean_quantized[:, :, None] * self.mean_quantized[:, None, :],
            cross=cross,
            mean=self.mean,
            mean_quantized=self.mean_quantized,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """How a node's products are arranged."""

    node: Any
    groups: int
    outputs: int
    """O."""
    width: int
    """K, products per output."""
    dims: tuple[int, ...]
    """Of the weights."""
    kernel: tuple[int, ...] = ()
    """Spatial; empty for matrix products."""

    def positions(self, inferences: int) -> int:
        """Of each of so many inferences, how many are enough."""
        return min(_MOST_POSITIONS, -(-_ROWS // max(inferences, 1)))

    def rows(self, value: Array, most: int = _MOST_POSITIONS) -> Array:
        """What the outputs multiply their weights with: (G, positions, K), in the order of the weights; about ``most`` positions."""
        if not self.kernel:
            return value.reshape(1, -1, self.width)
        padded = np.pad(value, [(0, 0), (0, 0), *_pads(self.node, value.shape[2:], self.kernel)])
        dilations = attribute(self.node, "dilations", [1] * len(self.kernel))
        strides = attribute(self.node, "strides", [1] * len(self.kernel))
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, dilations, strict=True))
        spatial = tuple(range(2, value.ndim))
        windows = sliding_window_view(padded, reach, axis=spatial)
        step = tuple(slice(None, None, s) for s in strides)
        inner = tuple(slice(None, None, d) for d in dilations)
        windows = windows[(slice(None), slice(None), *step, *inner)]
        # (batch, channels, positions ..., kernel ...) -> (positions, channels, kernel)
        count = len(self.kernel)
        windows = np.moveaxis(windows, 1, count + 1)
        positions = int(np.prod(windows.shape[: count + 1]))
        every = max(1, positions // most) | 1  # an odd step walks through all columns
        at = np.unravel_index(np.arange(0, positions, every), windows.shape[: count + 1])
        chosen = windows[at]
        return np.moveaxis(chosen.reshape(len(chosen), self.groups, self.width), 1, 0)


def layer_of(view: GraphView, node: Any) -> Layer | None:
    """The arrangement of a node's products; None where moments are of no help or would be too large."""
    weight = view.constants.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None:
        return None
    dims = tuple(weight.dims)
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        layer = Layer(node=node, groups=groups, outputs=dims[0], width=math.prod(dims[1:]), dims=dims, kernel=dims[2:])
    elif node.op_type in ("Gemm", "MatMul") and len(dims) == 2:
        axis = weight_axis(node)
        layer = Layer(node=node, groups=1, outputs=dims[axis], width=dims[1 - axis], dims=dims)
    else:
        return None
    return layer if 0 < layer.width <= WIDEST else None


def collect(
    layers: Mapping[str, Layer],
    reference: onnx.ModelProto,
    quantized: onnx.ModelProto | None,
    feeds: Sequence[Sequence[Array]],
    largest: Mapping[str, float],
    *,
    repairing: AbstractSet[str] = frozenset(),
) -> dict[str, Moments]:
    """Run both models over the samples once.

    Args:
        layers: By name of node.
        reference: Float model.
        quantized: The same nodes behind quantized ones; None where nothing before them is.
        feeds: Samples, one after the other.
        largest: Magnitude that each node's input is clipped to.
        repairing: Nodes that are to make up for what was lost before them; the others are shown x' only.
    """
    inputs = {node.name: node.input[0] for node in reference.graph.node if node.name in layers}
    # Layers that multiply the same rows (query, key and value) share their sums.
    leaders: dict[tuple[object, ...], str] = {}
    leader = {
        name: leaders.setdefault((inputs[name], name) if layer.kernel else (inputs[name], name in repairing), name)
        for name, layer in layers.items()
    }
    names = list(leaders.values())
    sums = {name: _Sums(layers[name], largest[name], layers[name].positions(len(feeds))) for name in names}
    repaired = [name for name in names if name in repairing] if quantized is not None else []
    plain = _Watch(reference, repaired) if quantized is not None else None
    seen = _Watch(quantized or reference, names)
    for feed in feeds:
        exact = dict(zip(repaired, plain(feed), strict=True)) if plain is not None and repaired else {}
        for name, value in zip(names, seen(feed), strict=True):
            sums[name].add(value, exact.get(name))
    found = {name: one.result() for name, one in sums.items()}
    return {name: found[leader[name]] for name in layers}


class _Sums:
    """Adds up products of rows, many inferences at a time: a K by K matrix is written once for all of them."""

    def __init__(self, layer: Layer, largest: float, positions: int) -> None:
        self._layer, self._positions = layer, positions
        self._step = 2.0 ** (math.ceil(math.log2(largest)) - _GRID_BITS) if largest > 0 else 1.0
        groups, width = layer.groups, layer.width
        self._second, self._mean_seen = np.zeros((groups, width, width)), np.zeros((groups, width))
        self._cross: Matrix | None = None
        self._mean = np.zeros((groups, width))
        self._count = 0
        self._seen: list[NDArray[np.int16]] = []
        self._exact: list[NDArray[np.int16]] = []

    def add(self, seen: Array, exact: Array | None) -> None:
        """Take in one inference: what the layer reads, and what it would read in the float model."""
        self._seen.append(self._on_grid(seen))
        if exact is not None:
            self._exact.append(self._on_grid(exact))
        if sum(rows.nbytes for rows in (*self._seen, *self._exact)) >= _HELD_BYTES:
            self._sum()

    def _sum(self) -> None:
        if not self._seen:
            return
        rows = np.concatenate(self._seen, axis=1).astype(np.float64)
        self._count += rows.shape[1]
        self._mean_seen += rows.sum(axis=1)
        self._second += _products(rows, rows)
        if self._exact:
            others = np.concatenate(self._exact, axis=1).astype(np.float64)
            self._mean += others.sum(axis=1)
            product = _products(others, rows)
            self._cross = product if self._cross is None else self._cross + product
        self._seen, self._exact = [], []

    def _on_grid(self, value: Array) -> NDArray[np.int16]:
        most = 1 << _GRID_BITS
        rows = self._layer.rows(value, self._positions)
        # A step is a power of two, so that dividing is exact in float32, too.
        return np.clip(np.rint(rows / np.float32(self._step)), -most, most).astype(np.int16)

    def result(self) -> Moments:
        self._sum()
        count = max(self._count, 1)
        squared, once = self._step**2 / count, self._step / count
        mean_seen = self._mean_seen * once
        return Moments(
            second=self._second * squared,
            cross=None if self._cross is None else self._cross * squared,
            mean=mean_seen if self._cross is None else self._mean * once,
            mean_quantized=mean_seen,
        )


def _products(a: Matrix, b: Matrix) -> Matrix:
    """Sums over positions (G, K, K). A BLAS does half of the work where both are one matrix, but only for matrices, not stacks."""
    if a.shape[0] == 1:
        return np.asarray(a[0].T @ b[0])[None]
    return np.asarray(a.transpose(0, 2, 1) @ b)


class _Watch:
    """Runs what the inputs of the nodes ``names`` need, and nothing behind them."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        nodes = {node.name: node for node in model.graph.node}
        self._wanted = [nodes[name].input[0] for name in names]
        self._inputs = list(GraphView(model).inputs)
        computed = [name for name in dict.fromkeys(self._wanted) if name not in self._inputs]
        # A graph without outputs does not load: the first layer reads the model's input itself.
        self._runner = OnnxRunner(upstream(model, computed), wanted=computed, threads=WORKERS) if computed else None
        self._computed = computed

    def __call__(self, feed: Sequence[Array]) -> list[Array]:
        values = dict(zip(self._inputs, feed, strict=True))
        if self._runner is not None:
            values.update(zip(self._computed, self._runner.run_wanted(feed), strict=True))
        return [values[name] for name in self._wanted]


def upstream(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The part of a model that makes ``tensors``, which become its outputs."""
    view = GraphView(model)
    needed: set[str] = set()
    queue = list(tensors)
    while queue:
        name = queue.pop()
        if name in needed:
            continue
        needed.add(name)
        node = view.producer.get(name)
        if node is not None:
            queue += [one for one in (*node.input, *captured(node)) if one]
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:], part.graph.initializer[:]
    part.graph.node.extend(node for node in model.graph.node if any(name in needed for name in node.output))
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in dict.fromkeys(tensors)
        if name not in view.inputs
    )
    return part


def _pads(node: Any, size: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Zeros before and after along each spatial axis."""
    mode = attribute(node, "auto_pad", b"NOTSET")
    count = len(kernel)
    if mode in (b"NOTSET", b""):
        pads = attribute(node, "pads", [0] * (2 * count))
        return [(pads[i], pads[i + count]) for i in range(count)]
    if mode == b"VALID":
        return [(0, 0)] * count
    strides = attribute(node, "strides", [1] * count)
    dilations = attribute(node, "dilations", [1] * count)
    result = []
    for length, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-length // s) - 1) * s + (k - 1) * d + 1 - length, 0)
        small = total // 2
        result.append((small, total - small) if mode == b"SAME_UPPER" else (total - small, small))
    return result
