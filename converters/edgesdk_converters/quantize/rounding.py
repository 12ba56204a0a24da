"""Rounds the weights of a whole model with calibration samples, front to back.

Each layer is rounded for what it will really read: the results of the layers before it with their weights and activations
quantized already. Its target is not the float weights but those that come closest to the float layer's output when they
read that; so a layer also repairs what was lost before it. `python tests/benchmarks/rounding.py` says what that brings.

Source of the target: GPTAQ, Li et al. (arXiv 2504.02692), there for GPTQ; the bias takes up the mean (Nagel et al., arXiv 1906.04721).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.adaround import adaround
from edgesdk_converters.quantize.gptq import damped, gptq
from edgesdk_converters.quantize.linear import product, solve
from edgesdk_converters.quantize.moments import Layer, Moments, collect, layer_of
from edgesdk_converters.quantize.recipe import Rounding, Scheme
from edgesdk_converters.quantize.units import Quantizable, Unit, weight_axis
from edgesdk_converters.quantize.weights import (
    Matrix,
    as_matrix,
    as_scale,
    demand_finite,
    from_matrix,
    nearest,
    scales,
    to_nearest,
)

Array = NDArray[Any]
Build = Callable[[Mapping[str, Scheme]], onnx.ModelProto]
"""Quantizes those nodes of the float model that the mapping names; the others stay float."""

_Key = tuple[str, int, int, bool, bool]
"""Node, bits, limit, one scale for all, in blocks."""
_Integers = tuple[NDArray[np.int8], NDArray[np.float32]]
Found = tuple[dict[_Key, _Integers], dict[str, Matrix]]
"""Integers and scales, and what biases have to take up, of some nodes."""
Learnt = dict[str, Found]
"""What was learnt stage by stage, by all that it depends on: what a layer reads hangs on all that became of the nodes before it."""

NOT_LEARNED: frozenset[Scheme] = frozenset({"float", "w8", "dynamic"})
"""8-bit weights before float activations: rounding them to nearest loses too little to look for better."""
STAGES = 16
"""Most passes over the calibration samples; layers of one stage do not see each other's rounding."""
FEWEST_STAGES = 4
COPIED_BYTES = 256 << 20
"""Every stage copies and loads the model twice, which takes longer than the samples do: large models get fewer."""
STAGE_BYTES = 256 << 20
"""Most memory for the moments of one stage."""


class Rounder:
    """A :class:`~edgesdk_converters.quantize.weights.WeightQuantizer` that has seen what the layers read.

    Nodes whose moments it does not have are rounded to nearest.
    """

    def __init__(self, method: Rounding, *, bias_correction: bool) -> None:
        self._method = method
        self._bias_correction = bias_correction
        self._moments: dict[str, tuple[Layer, Moments]] = {}
        self._done: dict[_Key, _Integers] = {}
        self.shifts: dict[str, Matrix] = {}
        """By node, what its bias has to take up (O,); known once its weights were rounded."""

    def show(self, name: str, layer: Layer, moments: Moments) -> None:
        """Give the moments of a node's input; they are forgotten when its weights have been rounded."""
        self._moments[name] = (layer, moments)

    def __call__(
        self, node: Quantizable, weight: Array, *, bits: int, axis: int | None, limit: int, blocks: bool = False
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round, or give what was found before; see the protocol."""
        key = (node.name, bits, limit, axis is None, blocks)
        if key not in self._done:
            demand_finite(node.name, weight)
            known = self._moments.pop(node.name, None)
            if known is None:
                self._done[key] = nearest(node, weight, bits=bits, axis=axis, limit=limit)
            else:
                self._done[key] = self._round(
                    node.name, *known, weight, bits, limit, per_channel=axis is not None, blocks=blocks
                )
        return self._done[key]

    def found(self, names: Collection[str]) -> Found:
        """What was found for these nodes."""
        return (
            {key: value for key, value in self._done.items() if key[0] in names},
            {name: shift for name, shift in self.shifts.items() if name in names},
        )

    def take(self, found: Found) -> None:
        """What was found before, for the same weights that read the same."""
        self._done |= found[0]
        self.shifts |= found[1]

    def _round(
        self,
        name: str,
        layer: Layer,
        moments: Moments,
        weight: Array,
        bits: int,
        limit: int,
        *,
        per_channel: bool,
        blocks: bool,
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        axis = weight_axis(layer.node)
        # Blocks come as rows: (O * blocks, block size), the last block of an output filled up with zeros.
        matrix = as_matrix(weight, axis) if not blocks else weight.reshape(layer.outputs, -1)[:, : layer.width]
        matrix = matrix.astype(np.float64)
        seen = moments.centred() if self._bias_correction else moments
        target = best_weights(matrix, seen)
        if blocks:
            steps, scale = _block_scales(target, seen.second, weight, limit)
        else:
            steps = scales(target, limit, seen.second, per_channel=per_channel, search=bits < 8)
            scale = as_scale(steps, per_channel=per_channel)
        q = round_matrix(self._method, target, steps, seen.second, limit)
        if self._bias_correction:
            rounded = q * (steps if steps.ndim > 1 else steps[:, None])
            self.shifts[name] = _means(matrix, moments.mean) - _means(rounded, moments.mean_quantized)
        if blocks:
            filled = np.zeros((layer.outputs, weight.size // layer.outputs), np.int8)
            filled[:, : layer.width] = q
            return filled.reshape(weight.shape), scale
        return from_matrix(q, weight, axis), scale


def _block_scales(target: Matrix, moments: Matrix, blocks: Array, limit: int) -> tuple[Matrix, NDArray[np.float32]]:
    """Scale of every weight (O, K), and of every block in the order of the rows of ``blocks``."""
    outputs, width = target.shape
    size = blocks.shape[1]
    count = blocks.shape[0] // outputs
    filled, seen = np.zeros((outputs, count * size)), np.zeros((count * size, count * size))
    filled[:, :width], seen[:width, :width] = target, moments[0]
    # All outputs of a block share the moments of its inputs, as the outputs of a convolution's group do.
    within = np.stack([seen[i : i + size, i : i + size] for i in range(0, count * size, size)])
    steps = scales(filled.reshape(outputs, count, size).transpose(1, 0, 2).reshape(-1, size), limit, within)
    rows = steps.reshape(count, outputs).T
    return np.repeat(rows, size, axis=1)[:, :width], as_scale(rows.reshape(-1), per_channel=True)


def round_matrix(method: Rounding, matrix: Matrix, steps: Matrix, moments: Matrix, limit: int) -> Matrix:
    """Integers (O, K) as float64 by one of the methods; arguments as for :func:`gptq`."""
    if method == "gptq":
        return gptq(matrix, steps, moments, limit)
    if method == "adaround":
        return adaround(matrix, steps, moments, limit)
    return to_nearest(matrix, steps, limit)


def best_weights(matrix: Matrix, moments: Moments) -> Matrix:
    """Float weights (O, K) that come closest to the float layer's output when they read the quantized layers' results.

    The damping draws them to ``matrix``: they answer to what calibration showed, and to nothing else.
    """
    if moments.cross is None:
        return matrix
    parts = matrix.reshape(moments.second.shape[0], -1, matrix.shape[1])
    full = damped(moments.second)
    toward = product(parts, moments.cross + (full - moments.second))
    return solve(full, toward).reshape(matrix.shape)


def learn(
    base: onnx.ModelProto,
    units: Sequence[Unit],
    schemes: Mapping[str, Scheme],
    feeds: Sequence[Sequence[Array]],
    largest: Mapping[str, float],
    *,
    rounder: Rounder,
    build: Build,
    progress: Progress,
    known: Learnt,
) -> None:
    """Show ``rounder`` what every layer reads, and let it round them stage by stage.

    Args:
        base: Float model.
        units: Of it.
        schemes: What the nodes become.
        feeds: Calibration samples.
        largest: Magnitude of every layer's input, by tensor.
        rounder: Knows all of them afterwards.
        build: Quantizes ``base`` with ``rounder`` and :func:`with_shifts`.
        progress: Where to say how far it is.
        known: What was learnt before, with the same options, for other schemes; what is learnt now is added. Plans that begin alike share
            their first stages.
    """
    view = GraphView(base)
    # All layers, whatever they become, so that the stages of two plans are the same ones.
    layers = {
        unit.info.name: layer
        for unit in units
        if unit.info.weight_elements and unit.row.weight is not None
        if (layer := layer_of(view, unit.node)) is not None
    }
    order = [unit.info.name for unit in units]
    chosen = {name: schemes.get(name, "float") for name in order}
    most = min(STAGES, max(FEWEST_STAGES, COPIED_BYTES // max(base.ByteSize(), 1)))
    stages = split(layers, most)
    starts = [order.index(next(iter(stage))) for stage in stages]
    with progress.bar("rounding weights", len(stages)) as bar:
        for index, every in enumerate(stages):
            stage = {name: layer for name, layer in every.items() if chosen[name] not in NOT_LEARNED}
            # No stage before the first: nothing in front of its layers has lost anything worth repairing.
            before = {name: chosen[name] for name in order[: starts[index]] if chosen[name] != "float"}
            own = {name: chosen[name] for name in stage}
            key = hashlib.sha256(repr((index, before, own)).encode()).hexdigest()
            if stage and key not in known:
                # What a layer leaves to its bias is known once its weights are rounded, so the graph is built with all that is known by now.
                quantized = build(before) if index else None
                limits = {name: largest[layer.node.input[0]] for name, layer in stage.items()}
                seen = collect(stage, base, quantized, feeds, limits, repairing=foremost(view, stage))
                for name, moments in seen.items():
                    rounder.show(name, stage[name], moments)
                build(before | own)
                known[key] = rounder.found(stage)
            if stage:
                rounder.take(known[key])
            bar.advance()


def plain_means(
    units: Sequence[Unit], shifts: Mapping[str, Matrix], means: Mapping[str, Matrix]
) -> Mapping[str, Matrix]:
    """Means of the tensors that no layer reads whose bias :func:`with_shifts` has corrected already."""
    done = {unit.node.input[0] for unit in units if unit.info.name in shifts}
    return {name: mean for name, mean in means.items() if name not in done}


def split(layers: Mapping[str, Layer], most: int = STAGES) -> list[dict[str, Layer]]:
    """Layers that are looked at in one pass over the samples, in graph order; about ``most`` groups of them."""
    each = -(-len(layers) // most)
    stages: list[dict[str, Layer]] = []
    size = 0
    for name, layer in layers.items():
        needs = 16 * layer.groups * layer.width**2
        if not stages or len(stages[-1]) >= each or size + needs > STAGE_BYTES:
            stages.append({})
            size = 0
        stages[-1][name] = layer
        size += needs
    return stages


def foremost(view: GraphView, stage: Mapping[str, Layer]) -> set[str]:
    """Layers of a stage that none of the others is before: they repair what was lost in earlier stages.

    The others would repair it once more, which on MiniLM lost more than rounding to nearest does.
    """
    made = {output for layer in stage.values() for output in layer.node.output}
    found: set[str] = set()
    clean: set[str] = set()
    for name, layer in stage.items():
        queue, seen, behind = [layer.node.input[0]], set[str](), False
        while queue and not behind:
            tensor = queue.pop()
            if tensor in made:
                behind = True
            elif tensor not in seen and tensor not in clean and tensor in view.producer:
                seen.add(tensor)
                queue += view.producer[tensor].input
        if not behind:
            clean |= seen
            found.add(name)
    return found


def with_shifts(base: onnx.ModelProto, units: Sequence[Unit], shifts: Mapping[str, Matrix]) -> onnx.ModelProto:
    """A copy whose biases are larger by ``shifts``; convolutions and Gemm without a bias get one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(base)
    view = GraphView(copy)
    nodes = {node.name: node for node in copy.graph.node}
    for unit in units:
        shift = shifts.get(unit.info.name)
        if shift is None:
            continue
        node, at = nodes[unit.node.name], 2
        if node.op_type == "MatMul":
            if unit.bias_add is None:
                continue  # nowhere to put it: the shift is lost, as without bias correction
            node = next(one for one in copy.graph.node if one.output[:1] == unit.bias_add.output[:1])
            at = 0 if node.input[0] in view.constants else 1
        old = view.constant(node.input[at]) if len(node.input) > at and node.input[at] else None
        flat = np.zeros(shift.shape) if old is None else np.broadcast_to(old.reshape(-1), shift.shape)
        value = (flat + shift).astype(np.float32)
        name = f"{unit.info.name}_corrected_bias"
        copy.graph.initializer.append(
            numpy_helper.from_array(
                value.reshape(old.shape) if old is not None and old.size == value.size else value, name
            )
        )
        if len(node.input) > at:
            node.input[at] = name
        else:
            node.input.append(name)
    return copy


def _means(matrix: Matrix, mean: Matrix) -> Matrix:
    """Mean output (O,) of weights (O, K) that read inputs of mean (G, K)."""
    groups, width = mean.shape
    return np.asarray((matrix.reshape(groups, -1, width) * mean[:, None]).sum(axis=2).reshape(-1))
