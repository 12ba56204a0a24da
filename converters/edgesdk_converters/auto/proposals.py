"""Proposes plans for the guard: the simple thing first, help only where it is needed.

1. everything int8; 2. channels equalized, with ranges by extremes or 3. by least error; 4. where matrix products do the work,
their inputs smoothed and ranges found at run time, the fewest of them computed in float; 5. weights rounded by what the layers
read; 6. the fewest nodes in float that reach the budget, with more and more to spare.

Whether a plan is proposed is decided on calibration samples alone; the held-out ones are asked for a yes or a no, a handful of
times. No clock is looked at: equal inputs make equal plans on any machine. That a plan is too slow is for the guard to say, and its
answer is that float is better there, never another plan: a plan chosen by a stopwatch could not be made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import onnx

from edgesdk.bundle.manifest import Contract, OutputSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.auto.api import Feeds, Proposal, Quantizes
from edgesdk_converters.auto.mixed import fewest, rank
from edgesdk_converters.auto.running import SMOOTH, mostly_products, rank_running
from edgesdk_converters.auto.sensitivity import as_rows, solo, switchboard
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.auto.work import float_costs
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize.recipe import Plan, Recipe, Scheme
from edgesdk_converters.quantize.units import met
from edgesdk_converters.report.record import NodeCost

FIRST = "everything int8"
ROUNDED = "weights rounded by what the layers read (GPTQ)"
OUTLIERS_CUT = "percentile:99.999"
"""Ranges without the few values that only one sample in hundreds shows."""
FLOAT: Scheme = "float"
NEAR_DB = 6.0
"""Another way of choosing ranges that comes this near to the best one on calibration samples is tried, too."""
SPARE_DB = (1.0, 2.0, 3.5, 6.0)
"""What a mixed plan must have to spare on calibration samples, one try after the other: held-out samples are others."""
FEW = 0.1
"""Share of the nodes: where so few in float reach the budget, that is tried before weights are rounded by what the layers read."""
EARLY = 0.5
"""Share of the int8 nodes that may come after one in float, where two formats are to be alike."""
SHORT_DB = 2.0
"""Rounded weights are shown to the guard although they miss the limit by so little on calibration samples: without nodes in float, both
formats compute the same, and a class vote more or less is worth half a dB."""
LATE_DB = 0.1
"""What each late node must bring to become float: in float it is slower, too."""
LEAST_GAIN_DB = 1.0
"""That rounding by what layers read must bring before it is combined with nodes in float."""
ROUNDED_SPARE_DB = (1.0, 3.5)
"""The same where weights are rounded by what the layers read: each try takes long."""
RUNNING_SPARE_DB = (2.0, 3.5, 6.0, 8.0, 10.0)
"""The same where ranges are found at run time."""


def proposals(
    quantizer: Quantizes,
    model: onnx.ModelProto,
    outputs: Sequence[OutputSpec],
    feeds: Feeds,
    *,
    recipe: Recipe,
    keep_float: frozenset[str] = frozenset(),
    budget: Budget | None = None,
    progress: Progress | None = None,
    contract: Contract | None = None,
    tuning: Feeds | None = None,
    instead: Scheme = "float",
    alike: bool = False,
) -> Iterator[Proposal]:
    """Propose quantized models, best guess first; the caller stops when the guard is content.

    Args:
        quantizer: Of ``model``.
        model: Float, prepared: what the proposals are compared with.
        outputs: Its branches.
        feeds: Calibration inferences; held-out ones must not be among them.
        tuning: Inferences that the search compares on, best of all some that the quantizer did not take its ranges from; by default
            those of ``feeds``. Never held-out ones.
        recipe: Anything but ``auto`` makes one proposal: its plan.
        keep_float: Nodes that the spec keeps in float.
        budget: Limits.
        progress: Where to say what is being done.
        contract: With it the task's own figure counts as well (F1 of boxes).
        instead: What nodes become that must not be int8: ``w8a16`` for accelerators that have no float arithmetic, ``w8`` where size
            is what matters; those that cannot have it stay float, and all of them do where it does not help.
        alike: The plan is written in two formats, which must take the same decisions: what is float before most of the int8 nodes is the
            last resort then.

    Raises:
        CalibrationError: No samples, or the float model makes NaN of one.
        ModelFormatError: A weight is NaN.
        ConfigError: A rule of the recipe meets no node, or the recipe quantizes nothing.
    """
    progress = progress or Quiet()
    pinned: dict[str, Scheme] = dict.fromkeys(sorted(keep_float), "float")
    if recipe.scheme != "auto":
        plan = quantizer.plan(recipe, schemes=pinned)
        if recipe.scheme != "float16" and set(plan.schemes.values()) == {"float"}:
            problem = (
                f"recipe '{recipe.name}' leaves all {len(plan.schemes)} nodes in float, so that nothing is quantized. "
                "Take out what keeps them there (its rules, the spec's float_nodes), or say --recipe float16."
            )
            raise ConfigError([problem])
        yield Proposal(plan=plan, model=quantizer.apply(plan), recipe=recipe.name)
        return
    tuner = Tuner(model, outputs, feeds if tuning is None else tuning, budget=budget or Budget(), contract=contract)
    yield from _Search(quantizer, model, tuner, recipe, pinned, instead, progress, alike=alike).run()


class _Ranking(NamedTuple):
    order: tuple[str, ...]
    """Nodes, the first to become float first; empty where none may."""
    rows: tuple[NodeCost, ...]


class _Search:
    def __init__(
        self,
        quantizer: Quantizes,
        model: onnx.ModelProto,
        tuner: Tuner,
        recipe: Recipe,
        pinned: Mapping[str, Scheme],
        instead: Scheme,
        progress: Progress,
        *,
        alike: bool = False,
    ) -> None:
        self._alike = alike
        self._quantizer, self._model, self._tuner, self._progress = quantizer, model, tuner, progress
        self._name, self._recipe = recipe.name, msgspec.structs.replace(recipe, scheme="w8a8")
        self._pinned, self._instead = pinned, instead
        self._fixed = set(pinned) | _ruled(recipe, quantizer)
        self._proposed: list[Plan] = []
        self._mixers: dict[tuple[str, Scheme], _Mixer] = {}

    def run(self) -> Iterator[Proposal]:
        bases: list[tuple[float, Plan, str]] = []
        for words, plan in self._simple():
            self._progress.say(f"int8: {words}")
            margin = self.margin(plan)
            # The first one always goes to the guard: its figures are what the engineer would have got without help.
            if margin >= 0 or words == FIRST:
                yield self._proposal(plan, words)
            bases.append((margin, plan, words))
        yield from self._running()
        bases.sort(key=lambda base: -base[0])
        # Extremes never clip what held-out samples have more of, least error is closer where they look like the others: both are tried.
        best = bases[0]
        near = [best, *[one for one in bases[1:] if one[0] > best[0] - NEAR_DB][:1]]
        ranking = self._ranking(best[1])
        if self._recipe.rounding != "nearest" or self._few_do(best, ranking):
            # A few nodes in float do: to learn how to round would take longer.
            yield from self._mixed(near, ranking)
            if self._recipe.rounding == "nearest":
                yield self._proposal(*self._rounded(*best[1:])[1:])
            return
        rounded = self._rounded(*best[1:])
        if rounded[0] >= -SHORT_DB:
            yield self._proposal(*rounded[1:])
        if self._alike:
            yield from self._late_rounded(*rounded, ranking)
        yield from self._mixed_rounded(*rounded, ranking)
        yield from self._mixed(near, ranking)
        if rounded[1] not in self._proposed:
            yield self._proposal(*rounded[1:])

    def _simple(self) -> Iterator[tuple[str, Plan]]:
        recipe = self._recipe
        options = {
            (recipe.calibrator, recipe.equalize): FIRST,
            ("minmax", True): "channels equalized",
            (recipe.calibrator, True): f"channels equalized, {_ranges(recipe.calibrator)}",
            (OUTLIERS_CUT, True): f"channels equalized, {_ranges(OUTLIERS_CUT)}",
        }
        for (calibrator, equalize), words in options.items():
            yield words, self._plan(msgspec.structs.replace(recipe, calibrator=calibrator, equalize=equalize))

    def _running(self) -> Iterator[Proposal]:
        """Plans for transformers, whose activations change more from input to input than 8 bits of one range stand."""
        if self._instead == "w8a16" or not mostly_products(self._quantizer.nodes):
            return
        plan = self._plan(
            msgspec.structs.replace(self._recipe, scheme="dynamic", coverage="compute", equalize=False, smooth=SMOOTH)
        )
        words = "ranges found at run time, channels smoothed"
        mixer = _Mixer(self, plan, words, "w8")
        order: list[str] = []
        rows: tuple[NodeCost, ...] = ()
        for spare in RUNNING_SPARE_DB:
            if not order and mixer.margin(frozenset()) < spare:
                order, errors = rank_running(self._tuner, self._quantizer, plan, self._fixed, self._progress)
                rows = as_rows(self._quantizer, errors, plan)
            self._progress.say(f"int8: {words}, {spare:g} dB to spare")
            found = mixer.find(order, spare) if order or mixer.margin(frozenset()) >= spare else None
            if found is not None and found not in self._proposed:
                kept = sum(found.schemes[name] != scheme for name, scheme in plan.schemes.items())
                yield self._proposal(found, words + (f", {kept} nodes in w8" if kept else ""), costs=rows)

    def _rounded(self, base: Plan, words: str) -> tuple[float, Plan, str]:
        """A plan with weights rounded by what the layers read."""
        words = f"{words}, {ROUNDED}"
        self._progress.say(f"int8: {words}")
        plan = msgspec.structs.replace(base, rounding="gptq")
        return self.margin(plan), plan, words

    def _plan(self, recipe: Recipe) -> Plan:
        plan = self._quantizer.plan(recipe, schemes=self._pinned)
        return msgspec.structs.replace(plan, recipe=self._name)

    def _few_do(self, base: tuple[float, Plan, str], ranking: _Ranking) -> bool:
        found = self._mixer(base, self._instead).find(ranking.order, SPARE_DB[0]) if ranking.order else None
        if found is None:
            return False
        moved = [name for name in ranking.order if found.schemes[name] != base[1].schemes[name]]
        return len(moved) <= max(1, int(FEW * len(ranking.order))) and not (self._alike and self._early(found, moved))

    def _early(self, plan: Plan, moved: Sequence[str]) -> bool:
        """Whether most int8 nodes come after the first of these.

        The last bit of a float result differs from runtime to runtime; behind it, values tip over to the next step, and each layer makes more of that.
        """
        names = [node.name for node in self._quantizer.nodes]
        integer = [index for index, name in enumerate(names) if plan.schemes.get(name) == "w8a8"]
        first = min((names.index(name) for name in moved), default=len(names))
        return sum(index > first for index in integer) > EARLY * len(integer)

    def _mixer(self, base: tuple[float, Plan, str], instead: Scheme) -> _Mixer:
        """The one of this base, which knows what was asked already."""
        key = base[2], instead
        if key not in self._mixers:
            self._mixers[key] = _Mixer(self, base[1], base[2], instead)
        return self._mixers[key]

    def _ranking(self, plan: Plan) -> _Ranking:
        """Which nodes should become float first, and what each costs."""
        board = switchboard(self._quantizer, plan, [name for name, scheme in plan.schemes.items() if scheme == "w8a8"])
        free = [name for name in board.names if name not in self._fixed]
        if not free:
            return _Ranking((), ())
        errors = solo(self._tuner, board, free, self._progress)
        order = rank(errors, float_costs(self._model, self._quantizer.nodes), self._tuner.budget)
        return _Ranking(tuple(order), as_rows(self._quantizer, errors, plan))

    def _mixed(self, bases: Sequence[tuple[float, Plan, str]], ranking: _Ranking) -> Iterator[Proposal]:
        """Plans with nodes in float."""
        order, rows = ranking.order, ranking.rows
        if not order:
            return
        closest: list[_Mixer] = []
        for instead in dict.fromkeys((self._instead, FLOAT)):
            mixers = [self._mixer(base, instead) for base in bases]
            for spare in SPARE_DB:
                for mixer in mixers:
                    self._progress.say(f"int8: fewest nodes in {instead}, {mixer.words}, {spare:g} dB to spare")
                    found = mixer.find(order, spare)
                    if found is not None and found not in self._proposed:
                        yield self._proposal(found, _words(mixer.words, found), costs=rows)
            closest.append(max(mixers, key=lambda mixer: mixer.closest[0]))
            if closest[-1].closest[0] >= SPARE_DB[0]:
                return
        # None came near on the calibration samples: what came closest is shown all the same.
        nearest = max(closest, key=lambda mixer: mixer.closest[0])
        if nearest.closest[1] not in self._proposed:
            yield self._proposal(nearest.closest[1], _words(nearest.words, nearest.closest[1]), costs=rows)

    def _mixed_rounded(self, margin: float, plan: Plan, words: str, ranking: _Ranking) -> Iterator[Proposal]:
        """Nodes in float, and the weights of the others rounded by what they then read.

        To learn that takes as long as dozens of questions, so which nodes is asked of the plan without; what rounding gained when all
        was int8 is taken off the limit.
        """
        plain = _Mixer(self, msgspec.structs.replace(plan, rounding=self._recipe.rounding), words, self._instead)
        gain = margin - plain.margin(frozenset())
        if gain < LEAST_GAIN_DB or not ranking.order:
            return
        for spare in ROUNDED_SPARE_DB:
            kept = fewest(ranking.order, plain.margin, spare - gain)
            if kept is None:
                return
            found = self.with_(plan, kept, self._instead)
            if not kept or found in self._proposed:
                continue
            self._progress.say(f"int8: {words}, {len(kept)} nodes in {self._instead}")
            if self.margin(found) >= 0:
                yield self._proposal(found, _words(words, found), costs=ranking.rows)

    def _late_rounded(self, margin: float, plan: Plan, words: str, ranking: _Ranking) -> Iterator[Proposal]:
        """The same with few nodes in float, none of them early: both formats stay alike, and most stages were learnt already."""
        late = [name for name in ranking.order if not self._early(plan, [name])][: int(FEW * len(ranking.order))]
        plain = msgspec.structs.replace(plan, rounding=self._recipe.rounding)
        count, reached = 0, self.margin(plain)
        for name in late:
            before, reached = reached, self.margin(self.with_(plain, frozenset({*late[:count], name}), FLOAT))
            if reached < before + LATE_DB:
                break
            count += 1
        if not count:
            return
        found = self.with_(plan, frozenset(late[:count]), FLOAT)
        self._progress.say(f"int8: {words}, {count} late nodes in float")
        if self.margin(found) > max(margin, -SHORT_DB):
            yield self._proposal(found, _words(words, found), costs=ranking.rows)

    def margin(self, plan: Plan) -> float:
        """DB to the limit, of the real graph."""
        return self._tuner.check(self._quantizer.apply(plan, half=False)).margin

    def too_large(self, plan: Plan) -> bool:
        """Whether its file is larger than the budget allows."""
        most = self._tuner.budget.max_size_bytes
        return most is not None and self._quantizer.apply(plan).ByteSize() > most

    def with_(self, plan: Plan, kept: frozenset[str], instead: Scheme) -> Plan:
        """The plan with these nodes in ``instead``, or float where they cannot have it."""
        able = {node.name for node in self._quantizer.nodes if instead in node.schemes}
        schemes: dict[str, Scheme] = {
            name: (instead if name in able else FLOAT) if name in kept else scheme
            for name, scheme in plan.schemes.items()
        }
        return self._quantizer.settled(plan.with_schemes(schemes))

    def _proposal(self, plan: Plan, words: str, costs: tuple[NodeCost, ...] = ()) -> Proposal:
        self._proposed.append(plan)
        rows = tuple(msgspec.structs.replace(row, scheme=plan.schemes.get(row.node, "float")) for row in costs)
        plan = msgspec.structs.replace(plan, costs={row.node: row.error for row in rows})
        return Proposal(plan=plan, model=self._quantizer.apply(plan), recipe=words, costs=rows)


class _Mixer:
    """Moves nodes of one plan to a higher precision."""

    def __init__(self, search: _Search, plan: Plan, words: str, instead: Scheme) -> None:
        self._search, self._plan, self._instead = search, plan, instead
        self.words = words
        self._known: dict[frozenset[str], float] = {}

    def find(self, order: Sequence[str], spare: float) -> Plan | None:
        """The plan with the fewest nodes moved that has so much to spare, or the best there is; None where that misses the limit."""
        kept = fewest(order, self.margin, spare)
        if kept is None:
            kept = max(self._known, key=lambda one: (self._known[one], -len(one)))
            if self._known[kept] < 0:
                return None
        found = self._search.with_(self._plan, kept, self._instead)
        if self._search.too_large(found):
            smaller = self._search.with_(self._plan, kept, "w8")
            if self._search.margin(smaller) >= 0:
                return smaller
        return found

    @property
    def closest(self) -> tuple[float, Plan]:
        """The largest margin so far, with the fewest nodes, and its plan."""
        if not self._known:
            return -math.inf, self._plan
        kept = max(self._known, key=lambda one: (self._known[one], -len(one)))
        return self._known[kept], self._search.with_(self._plan, kept, self._instead)

    def margin(self, kept: frozenset[str]) -> float:
        """DB to the limit with these nodes moved."""
        if kept not in self._known:
            self._known[kept] = self._search.margin(self._search.with_(self._plan, kept, self._instead))
        return self._known[kept]


def _ruled(recipe: Recipe, quantizer: Quantizes) -> set[str]:
    """Nodes that a rule of the recipe pins; the search leaves them alone."""
    return {node.name for rule in recipe.rules for node in met(rule, quantizer.nodes)}


def _ranges(calibrator: str) -> str:
    return "least-error ranges" if calibrator == "mse" else f"{calibrator} ranges"


def _words(base: str, plan: Plan) -> str:
    kept = [scheme for scheme in plan.schemes.values() if scheme != "w8a8"]
    parts = [f"{kept.count(scheme)} in {scheme}" for scheme in dict.fromkeys(kept)]
    how = base.removeprefix(FIRST).removeprefix(", ")
    return ", ".join(([how] if how else []) + [f"{len(plan.schemes) - len(kept)} nodes int8", *parts])
