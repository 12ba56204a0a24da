"""Looks for the fewest nodes that must stay float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgesdk_converters.guard.budget import Budget

Margin = Callable[[frozenset[str]], float]
"""Distance to the limit in dB with these nodes float and all others quantized; negative is below."""

MAX_QUESTIONS = 32
"""Trials in which a node that was put in float is quantized again; each costs as many inferences as there are tuning samples."""
MOST_FLOAT = 0.5
"""Share of the nodes that may stay float at most: beyond it, the float model is the better answer."""


def rank(errors: Mapping[str, Mapping[str, float]], costs: Mapping[str, float], budget: Budget) -> list[str]:
    """Nodes in the order in which they should become float: most error taken away per cost first.

    Args:
        errors: Node -> branch -> error power over signal power, of this node alone.
        costs: Node -> what leaving it in float costs (:func:`edgesdk_converters.auto.work.float_costs`).
        budget: An error counts in units of what its limit allows.
    """
    allowed = 10 ** (-budget.min_snr_db / 10)
    worst = {name: max(branches.values(), default=0.0) / allowed for name, branches in errors.items()}
    order = {name: index for index, name in enumerate(errors)}
    # Three digits: what the last bits of a float sum say must not decide which plan is made.
    return sorted(errors, key=lambda name: (-float(f"{worst[name] / costs[name]:.3g}"), order[name]))


def fewest(order: Sequence[str], margin: Margin, target: float) -> frozenset[str] | None:
    """The nodes to keep in float, or None where half of them do not do.

    First the shortest part of the ranking that reaches the target, then without those of it that turn out not to be needed: unless the
    questions run out, none of what is kept could be left out. That is no proof that no other set is smaller; where the ranking is right,
    none is.

    Args:
        order: Best candidates first.
        margin: Asked with sets of names; answers must not depend on time.
        target: DB that must be reached.
    """
    most = max(1, int(len(order) * MOST_FLOAT))
    if margin(frozenset()) >= target:
        return frozenset()
    count = 1
    while margin(frozenset(order[:count])) < target:
        if count == most:
            return None
        count = min(2 * count, most)
    low, high = count // 2, count
    while high - low > 1:
        middle = (low + high) // 2
        if margin(frozenset(order[:middle])) >= target:
            high = middle
        else:
            low = middle
    return _pruned(list(order[:high]), margin, target)


def _pruned(kept: list[str], margin: Margin, target: float) -> frozenset[str]:
    """Quantize again what is not needed in float, the least important first; groups are halved where they are."""
    questions = 0
    groups = [kept[::-1]] if len(kept) > 1 else []
    while groups and questions < MAX_QUESTIONS:
        group = groups.pop(0)
        rest = [name for name in kept if name not in set(group)]
        questions += 1
        if rest and margin(frozenset(rest)) >= target:
            kept = rest
        elif len(group) > 1:
            middle = len(group) // 2
            groups[:0] = [group[:middle], group[middle:]]
    return frozenset(kept)
