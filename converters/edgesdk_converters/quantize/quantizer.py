"""Quantizes one float model in as many ways as asked for; what calibration found is kept from one to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError, ConfigError, ConversionError
from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize import equalize, qdq, smoothing
from edgesdk_converters.quantize.half import halve
from edgesdk_converters.quantize.histogram import Statistics
from edgesdk_converters.quantize.ranges import Observer, Range
from edgesdk_converters.quantize.recipe import Plan, Recipe, Rule, Scheme
from edgesdk_converters.quantize.recipes import nearest as nearest_word
from edgesdk_converters.quantize.rounding import NOT_LEARNED, Learnt, Rounder, learn, plain_means, with_shifts
from edgesdk_converters.quantize.units import INTEGER, Quantizable, Unit, effective, find_units, met
from edgesdk_converters.quantize.weights import WeightQuantizer, demand_finite, nearest
from edgesdk_converters.report.record import TensorHistogram

Array = NDArray[Any]
Vector = NDArray[np.float64]
Feeds = Sequence[Sequence[Array]]

MOST_SAMPLES = 256
"""That rounding looks at, spread evenly over all: it runs the model some thirty times on each."""
_Options = tuple[bool, float]
"""What was done to the float model: whether channels were equalized, and how much matrix products were smoothed."""
_PLAIN: _Options = (False, 0.0)
_INSTEAD: dict[Scheme, tuple[Scheme, ...]] = {
    "w4a8": ("w8a8",),
    "dynamic": ("w8",),
    "w4": ("w8",),
}
"""What a node gets that cannot have the recipe's scheme, before it stays float."""
_TABLE_IN: frozenset[Scheme] = frozenset({"w8a8", "w8a16", "w4a8", "dynamic", "w4"})
"""Schemes of a model whose tables of embeddings become ``w8``, the one scheme that a table can have."""


class Quantizer:
    """Quantizes one float model by plans.

    The calibration samples are run once for all plans that agree on equalization; rounding with samples runs them again.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Feeds = (),
        *,
        reduce_range: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Look at the model; nothing is run yet.

        Args:
            model: Opset >= 13, static shapes, unique node names.
            samples: Input arrays in the graph's order, one list per inference; walked through front to back. May be empty
                for plans that need none (``w8``, ``dynamic`` ...).
            reduce_range: 7-bit weights, for x86-64 CPUs without VNNI.
            progress: Where to say what is being done.

        Raises:
            ConversionError: Nothing in the model can be quantized, or a weight is NaN or infinite (names the first node).
        """
        self.nodes: tuple[Quantizable, ...] = qdq.quantizable(model)
        """What can be something else than float, in graph order."""
        self._units = units = find_units(model)
        if not any(node.weight_elements for node in self.nodes):
            raise ConversionError(_nothing(model))
        _demand_finite_weights(GraphView(model), units)
        self._model, self._samples, self._reduce_range = model, samples, reduce_range
        self._progress = progress or Quiet()
        self._sha256 = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        self._bases: dict[_Options, onnx.ModelProto] = {_PLAIN: model}
        self._observers: dict[_Options, Observer] = {}
        self._rounders: dict[bytes, Rounder] = {}
        self._learnt: dict[bytes, Learnt] = {}
        self._said: set[str] = set()

    def plan(self, recipe: Recipe, *, schemes: Mapping[str, Scheme] | None = None) -> Plan:
        """What a recipe means for this model.

        Args:
            recipe: ``auto`` is planned as ``w8a8``: whoever searches changes it afterwards.
            schemes: By name of node, stronger than the recipe's rules.

        Raises:
            ConfigError: Rules or ``schemes`` name no node of the model, or ask for what a node cannot be; all at once.
        """
        chosen = {node.name: self._default(node, recipe) for node in self.nodes}
        problems: list[str] = []
        for number, rule in enumerate(recipe.rules, start=1):
            self._follow(rule, f"recipe '{recipe.name}', rule {number}", chosen, problems)
        for name, scheme in (schemes or {}).items():
            self._follow(Rule(nodes=name, scheme=scheme), "schemes", chosen, problems)
        if problems:
            raise ConfigError(problems)
        plan = Plan(
            recipe=recipe.name,
            model_sha256=self._sha256,
            schemes=chosen,
            calibrator=recipe.calibrator,
            equalize=recipe.equalize,
            smooth=recipe.smooth,
            bias_correction=recipe.bias_correction,
            rounding=recipe.rounding,
            per_channel=recipe.per_channel,
            block_size=recipe.block_size,
        )
        settled = self.settled(plan)
        self._say_undone(recipe, plan, settled)
        return settled

    def settled(self, plan: Plan) -> Plan:
        """The plan that says of every node what it really becomes: what no integers surround stays float.

        Both make the same bytes.
        """
        real = effective(self._model, plan.schemes, self._units)
        return plan.with_schemes({name: real[name] for name in plan.schemes})

    def apply(self, plan: Plan, *, half: bool = True) -> onnx.ModelProto:
        """A quantized copy of the model; the same plan and samples make the same bytes.

        Args:
            plan: Of this model.
            half: Whether to store the weights of what stays float as float16; a search that tries many copies saves the time.

        Raises:
            ConversionError: The plan belongs to another graph.
            CalibrationError: The plan needs calibration samples, and there are none.
        """
        self._demand_own(plan)
        base = self._base(options=_options(plan))
        rounding = plan.rounding != "nearest" and not NOT_LEARNED.issuperset(plan.schemes.values())
        if rounding and not len(self._samples):
            raise CalibrationError(
                f"no calibration samples: rounding '{plan.rounding}' of recipe '{plan.recipe}' needs some. "
                f"Give a folder with --calibration, or a recipe with 'rounding: nearest'."
            )
        ranges = self.ranges(plan) if rounding or _needs_ranges(plan) else {}
        self._say_strange(plan)
        # Without samples there is nothing to correct by; plans of integer activations were refused above.
        corrects = plan.bias_correction and len(self._samples) and set(plan.schemes.values()) != {"float"}
        means: Mapping[str, Vector] = self._observer(options=_options(plan)).means if corrects else {}
        weights: WeightQuantizer = nearest
        if rounding:
            units = find_units(base)
            weights = rounder = self._rounder(plan, base, ranges)
            means = plain_means(units, rounder.shifts, means)
            base = with_shifts(base, units, rounder.shifts)
        made = qdq.insert(base, plan, ranges, weights=weights, reduce_range=self._reduce_range, means=means)
        return halve(made) if half else made

    def ranges(self, plan: Plan) -> Mapping[str, Range]:
        """Range of every activation that may become integer.

        Raises:
            CalibrationError: No samples, or NaN in a tensor.
        """
        observer = self._observer(options=_options(plan))
        ranges = dict(observer.ranges(plan.calibrator))
        wide = {name: scheme for name, scheme in plan.schemes.items() if scheme == "w8a16"}
        if wide:
            finer = observer.ranges(plan.calibrator, levels=65536)
            for name in qdq.activations(self._base(options=_options(plan)), wide):
                ranges[name] = finer[name]
        return ranges

    def histograms(self, plan: Plan) -> tuple[TensorHistogram, ...]:
        """What the integer activations took over the samples, and the ranges they got; empty where there are none."""
        if not _needs_ranges(plan):
            return ()
        shown = qdq.activations(self._base(options=_options(plan)), plan.schemes)
        ranges = {name: span for name, span in self.ranges(plan).items() if name in shown}
        return self._observer(options=_options(plan)).histograms(ranges)

    def observer(self, plan: Plan) -> Observer | None:
        """What the samples' activations were seen by for a plan; None where it needed no samples."""
        return self._observer(options=_options(plan)) if _needs_ranges(plan) else None

    def weight_bytes(self) -> dict[str, int]:
        """Elements of each node's weights, which is their size in int8; 0 for nodes without."""
        return {node.name: node.weight_elements for node in self.nodes}

    def idle(self, plan: Plan) -> tuple[str, ...]:
        """Tensors that the plan makes integers and that no calibration sample ever made other than zero, in graph order.

        Whatever they take on the board would be cut to zero: the samples lack a case, or the branch is dead.
        """
        return tuple(name for name, seen in self._seen(plan).items() if seen.low == 0 == seen.high)

    def _seen(self, plan: Plan) -> dict[str, Statistics]:
        """What calibration saw of the tensors that the plan makes integers, in graph order."""
        if not _needs_ranges(plan):
            return {}
        shown = qdq.activations(self._base(options=_options(plan)), plan.schemes)
        seen = self._observer(options=_options(plan)).statistics
        return {name: one for name, one in seen.items() if name in shown}

    def _say_undone(self, recipe: Recipe, asked: Plan, settled: Plan) -> None:
        """Say which nodes stay float although a rule pins them, by name, to integers."""
        pinned = {rule.nodes for rule in recipe.rules}
        for name, scheme in asked.schemes.items():
            if name in pinned and scheme != settled.schemes[name] and f"rule {name}" not in self._said:
                self._said.add(f"rule {name}")
                self._progress.say(
                    f"warning: recipe '{recipe.name}' asks for {scheme} of '{name}', which stays float: it lies between layers, and no "
                    f"integers come in, or nobody behind takes any. Quantize its neighbours, too, or remove the rule."
                )

    def _say_strange(self, plan: Plan) -> None:
        """Warn, once, of tensors that the samples never excite or make infinite."""
        seen = self._seen(plan)
        idle = [name for name, one in seen.items() if one.low == 0 == one.high and name not in self._said]
        infinite = [name for name, one in seen.items() if one.infinite and name not in self._said]
        self._said.update(idle, infinite)
        if idle:
            self._progress.say(
                f"warning: no calibration sample makes {_some(idle)} other than zero, so the integer model cuts it to zero always. "
                f"Add samples that excite it, or keep the node before it in float."
            )
        if infinite:
            self._progress.say(
                f"warning: calibration samples make {_some(infinite)} infinite, where integers end at the largest finite value seen. "
                f"Keep the node before it in float, or take out what divides by zero or overflows there."
            )

    def _default(self, node: Quantizable, recipe: Recipe) -> Scheme:
        if recipe.scheme == "float16" or (recipe.coverage == "compute" and not node.is_compute):
            return "float"
        return _possible(node, "w8a8" if recipe.scheme == "auto" else recipe.scheme)

    def _follow(self, rule: Rule, where: str, chosen: dict[str, Scheme], problems: list[str]) -> None:
        """Change ``chosen`` as a rule says, or note why it cannot be followed."""
        if rule.op is not None:
            chosen.update({node.name: _possible(node, rule.scheme) for node in met(rule, self.nodes)})
            return
        found = met(rule, self.nodes)
        if not found:
            problems.append(f"{where}: {self._no_node(rule.nodes or '')}")
        elif all(rule.scheme not in node.schemes for node in found):
            first = found[0]
            problems.append(
                f"{where}: node '{first.name}' ({first.op_type}) cannot be '{rule.scheme}'. It can be {', '.join(first.schemes)}."
            )
        else:
            chosen.update({node.name: _possible(node, rule.scheme) for node in found})

    def _no_node(self, pattern: str) -> str:
        names = [node.name for node in self.nodes]
        float_only = {node.name for node in self._model.graph.node} - set(names)
        if pattern in float_only:
            return f"node '{pattern}' can only be float: there is no integer kernel for it here. Remove the rule."
        shown = ", ".join(names[:12]) + (f" ... ({len(names)} in all)" if len(names) > 12 else "")
        return f"no node is called '{pattern}'.{nearest_word(pattern, names)} Nodes that can be quantized: {shown}."

    def _demand_own(self, plan: Plan) -> None:
        if plan.model_sha256 != self._sha256:
            known = {node.name for node in self.nodes}
            strange = [name for name in plan.schemes if name not in known]
            raise ConversionError(
                f"plan '{plan.recipe}' was made for another graph (sha256 {plan.model_sha256[:12]}, this one is {self._sha256[:12]}"
                + (f"; it names '{strange[0]}', which is not here" if strange else "")
                + "). Convert the same source with the same options, or convert again without the plan."
            )

    def _base(self, *, options: _Options) -> onnx.ModelProto:
        if options not in self._bases:
            equalized, smooth = options
            observer = self._observer(options=_PLAIN)
            base = self._model
            if equalized:
                base = equalize.equalize(base, {name: observer.channel_maxima[name] for name in equalize.inputs(base)})
            if smooth:
                # Equalization leaves matrix products alone, so that what went into them is what was seen without it.
                seen = {name: observer.channel_maxima[name] for name in smoothing.inputs(self._model)}
                base = smoothing.smooth(base, seen, smooth)
            self._bases[options] = base
        return self._bases[options]

    def _observer(self, *, options: _Options) -> Observer:
        if options not in self._observers:
            if not len(self._samples):
                raise CalibrationError(
                    "no calibration samples: static int8 needs some. Give a folder with --calibration."
                )
            base = self._base(options=options)
            tensors = qdq.activations(base)
            if options == _PLAIN:
                tensors |= {*equalize.inputs(base), *smoothing.inputs(base)}
            self._observers[options] = Observer(base, self._samples, tensors, progress=self._progress)
        return self._observers[options]

    def _rounder(self, plan: Plan, base: onnx.ModelProto, ranges: Mapping[str, Range]) -> Rounder:
        key = _rounding_options(plan) + msgspec.json.encode(plan.schemes)
        if key not in self._rounders:
            rounder = Rounder(plan.rounding, bias_correction=plan.bias_correction)
            units = find_units(base)

            def build(schemes: Mapping[str, Scheme]) -> onnx.ModelProto:
                part = msgspec.structs.replace(plan, schemes=dict(schemes))
                shifted = with_shifts(base, units, rounder.shifts)
                return qdq.insert(shifted, part, ranges, weights=rounder, reduce_range=self._reduce_range)

            largest = {name: max(-span.low, span.high) for name, span in ranges.items()}
            learn(
                base,
                units,
                plan.schemes,
                _spread(self._samples, MOST_SAMPLES),
                largest,
                rounder=rounder,
                build=build,
                progress=self._progress,
                known=self._learnt.setdefault(_rounding_options(plan), {}),
            )
            self._rounders = {key: rounder}
        return self._rounders[key]


def _possible(node: Quantizable, scheme: Scheme) -> Scheme:
    """The scheme, or the nearest that the node can have."""
    if node.op_type == "Gather" and node.weight_elements and scheme in _TABLE_IN:
        return "w8"
    return next((one for one in (scheme, *_INSTEAD.get(scheme, ())) if one in node.schemes), "float")


def _needs_ranges(plan: Plan) -> bool:
    return any(scheme in INTEGER for scheme in plan.schemes.values())


def _options(plan: Plan) -> _Options:
    return plan.equalize, plan.smooth


def _rounding_options(plan: Plan) -> bytes:
    """All that learnt rounding depends on beside the model, the samples and the schemes."""
    return msgspec.json.encode(msgspec.structs.replace(plan, recipe="", schemes={}, costs={}))


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _spread(samples: Feeds, most: int) -> Feeds:
    """Evenly over all of them."""
    return samples if len(samples) <= most else samples[:: -(-len(samples) // most)]


def _demand_finite_weights(view: GraphView, units: Sequence[Unit]) -> None:
    for unit in units:
        if unit.info.weight_elements and unit.row.weight is not None:
            weight = view.constant(unit.node.input[unit.row.weight])
            if weight is not None:
                demand_finite(unit.info.name, weight)


def _nothing(model: onnx.ModelProto) -> str:
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return (
        "nothing in this model can be quantized: it has no Conv, Gemm or MatMul with constant float32 weights at its top level"
        + (". Its weights are float16: export it again in float32 (without half=True)" if half else "")
    )
