"""Which classes the samples are of, or which groups they fall into, and which branches they leave asleep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.registry import TASKS, load_plugin
from edgesdk.tasks.options import read_options
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.calibration.labels import TEXT, characters_of, unreadable
from edgesdk_converters.calibration_report.quality import LISTED
from edgesdk_converters.calibration_report.survey import BranchSurvey, Survey
from edgesdk_converters.report.record import Finding

_PER_CLASS = 2
"""Samples per class from which every class can be expected to be there."""
_THIN = 0.1
"""Of the average share: a class with less is thin."""
_GROUPS = 8
_PER_GROUP = 12
_ONE_SIDED = 0.85
_FAR = 0.9
"""Quantile of the distances at which the next group begins."""
_ODD = 2.0
"""Standard deviations from which a feature counts as that far and no further."""
_SCORES = ("score", "conf", "class", "prob", "object", "logit")
"""Parts of names by which score branches are known where nothing else says so."""
_FEW_EXCITED = 0.1


def coverage(calibration: CalibrationSet, found: Survey, contract: Contract) -> tuple[dict[str, int], list[Finding]]:
    """Samples per class or cluster, and what is missing."""
    given = [label for label in calibration.labels if label is not None]
    if given and contract.task == TEXT:
        return _characters(given, contract)
    vector = next((branch for branch in found.branches if branch.count), None)
    if given:
        counts = Counter(given)
        names = contract.labels or tuple(sorted(counts))
        return {name: counts[name] for name in names if counts[name]}, _classes(counts, names, "labelled")
    if vector is not None and vector.count:
        known = contract.labels if len(contract.labels) == vector.count else ()
        names = known or tuple(f"class {number}" for number in range(vector.count))
        counts = Counter({names[number]: count for number, count in vector.classes.items()})
        groups = {name: counts[name] for name in names if counts[name]}
        return groups, _classes(counts, names, "that the model takes for it")
    return _clusters(calibration, found)


def _characters(texts: Sequence[str], contract: Contract) -> tuple[dict[str, int], list[Finding]]:
    """Lines that each of the model's characters is in."""
    names = sorted(characters_of(contract))
    counts = Counter(character for text in texts for character in set(text))
    missing = [name for name in names if not counts[name]]
    seen = len(names) - len(missing)
    text = f"{seen} of the model's {len(names)} characters are in the texts of the {len(texts)} lines"
    few = len(names) * _PER_CLASS > sum(map(len, texts))
    groups = {name: counts[name] for name in names if counts[name]}
    if few or not missing:
        more = ": too few lines to expect every one." if few and missing else "."
        return groups, [Finding(severity="ok", subject="coverage", text=text + more)]
    # A line excites the model by its strokes, which characters share: one that is missing is no reason to distrust the ranges.
    more = f"; not {_some([repr(one) for one in missing])}. Add lines with those that the board will read."
    return groups, [Finding(severity="hint", subject="coverage", text=text + more)]


def labels(sets: Sequence[CalibrationSet], contract: Contract) -> Iterator[Finding]:
    """Texts that the model cannot say."""
    if contract.task != TEXT:
        return
    files = {name: one for each in sets for name, one in zip(each.names, each.labels, strict=False) if one is not None}
    missing = unreadable(files.values(), contract)
    if missing:
        found = [name for name, text in files.items() if any(character in missing for character in text)]
        yield Finding(
            severity="hint",
            subject="labels",
            text=f"{len(found)} of {len(files)} texts have characters that the model cannot read, {_some([repr(one) for one in missing])}: "
            "they count as misread, for float and the others alike. Check them, or leave these lines out.",
            files=tuple(found[:LISTED]),
        )


def _classes(counts: Counter[str], names: Sequence[str], how: str) -> list[Finding]:
    total, seen = sum(counts.values()), sum(1 for name in names if counts[name])
    if len(names) * _PER_CLASS > total:
        return [
            Finding(
                severity="ok",
                subject="coverage",
                text=f"{seen} of {len(names)} classes are among {total} samples: too few samples to expect every one.",
            )
        ]
    missing = [name for name in names if not counts[name]]
    thin = [name for name in names if 0 < counts[name] < _THIN * total / len(names)]
    findings = []
    if missing:
        findings.append(
            Finding(
                severity="warning",
                subject="coverage",
                text=f"{len(missing)} of {len(names)} classes have no sample {how}: {_some(missing)}. "
                "Add a few of each: what they alone excite gets a range without them.",
            )
        )
    if thin:
        findings.append(
            Finding(
                severity="hint",
                subject="coverage",
                text=f"{len(thin)} classes have hardly a sample: {_some(thin)}. Add a few of each.",
            )
        )
    return findings or [
        Finding(severity="ok", subject="coverage", text=f"all {len(names)} classes are among the {total} samples.")
    ]


def _clusters(calibration: CalibrationSet, found: Survey) -> tuple[dict[str, int], list[Finding]]:
    count = len(found.features)
    groups = min(_GROUPS, count // _PER_GROUP)
    if groups < 2:
        return {}, []
    spread = found.features.std(axis=0)
    features = (found.features - found.features.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    # An odd sample would be a group of its own, and all others another.
    features = features.clip(-_ODD, _ODD)
    if not features.size:
        return {}, []  # every branch is constant: that is a finding of its own
    labels, centres = kmeans(features, groups)
    sizes: dict[str, int] = {}
    for number in range(len(centres)):
        members = np.flatnonzero(labels == number)
        middle = int(members[np.argmin(((features[members] - centres[number]) ** 2).sum(axis=1))])
        unit = found.units[middle]
        name = calibration.names[unit] if calibration.names else f"sample {unit}"
        if len(calibration.units[unit]) > 1:
            name += f", inference {middle * found.step - sum(map(len, calibration.units[:unit]))}"
        sizes[f"like {name}"] = sizes.get(f"like {name}", 0) + len(members)
    sizes = dict(sorted(sizes.items(), key=lambda pair: -pair[1]))
    largest, most = next(iter(sizes.items()))
    if most >= _ONE_SIDED * count:
        text = f"{most} of {count} inferences look alike to the model ({largest}). Add other scenes, times of day and distances."
        return sizes, [Finding(severity="hint", subject="coverage", text=text)]
    return sizes, [
        Finding(
            severity="ok",
            subject="coverage",
            text=f"the samples fall into {len(sizes)} groups, the largest with {most} of {count}.",
        )
    ]


def kmeans(
    features: NDArray[np.float32], groups: int, *, rounds: int = 20
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Cluster (n, f) into at most ``groups``; starts from points far from each other, so that equal input gives equal output.

    Returns:
        Cluster of each point (n,), and centres (k, f), none of them empty.
    """
    chosen = [int(np.argmin(((features - features.mean(axis=0)) ** 2).sum(axis=1)))]
    nearest = ((features - features[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < groups and nearest.max() > 0:
        # Far from all so far, but not the farthest: that is an odd sample, and would be a group of its own.
        chosen.append(int(np.argsort(nearest, kind="stable")[round(_FAR * (len(nearest) - 1))]))
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    centres = features[chosen].copy()
    labels = np.zeros(len(features), np.intp)
    for _ in range(rounds):
        distances = (features**2).sum(axis=1)[:, None] - 2 * features @ centres.T + (centres**2).sum(axis=1)[None]
        labels = distances.argmin(axis=1)
        kept = np.unique(labels)
        renewed = np.stack([features[labels == number].mean(axis=0) for number in kept])
        labels = np.searchsorted(kept, labels)
        if renewed.shape == centres.shape and np.allclose(renewed, centres):
            break
        centres = renewed
    return labels, centres


def excitation(found: Survey, contract: Contract) -> Iterator[Finding]:
    """Branches that say the same about every sample, and score branches that never reach their threshold."""
    threshold = _threshold(contract)
    scores = [branch for branch in found.branches if _is_score(branch, found)]
    for branch in found.branches:
        where = branch.name if branch.name == branch.output else f"{branch.output}/{branch.name}"
        if branch.constant:
            yield Finding(
                severity="warning",
                subject="excitation",
                text=f"branch {where!r} gives the same for all {len(branch.peaks)} inferences ({branch.low:g}..{branch.high:g}): nothing in the "
                "samples excites it, and its range is a guess. Add samples that do.",
            )
        elif threshold and branch in scores:
            peaks = np.asarray([_probability(peak, branch) for peak in branch.peaks])
            excited = int((peaks >= threshold).sum())
            if not excited:
                yield Finding(
                    severity="warning",
                    subject="excitation",
                    text=f"score branch {where!r} never reaches its threshold {threshold:g}; its highest score is {peaks.max():.2g}. Its range is "
                    "that of background: add samples with something to find in them.",
                )
            elif excited < _FEW_EXCITED * len(peaks):
                yield Finding(
                    severity="hint",
                    subject="excitation",
                    text=f"score branch {where!r} reaches its threshold {threshold:g} in only {excited} of {len(peaks)} inferences. "
                    "Add samples with something to find in them.",
                )


def _is_score(branch: BranchSurvey, found: Survey) -> bool:
    if len(found.branches) == 1:
        return True
    return any(part in f"{branch.output} {branch.name}".lower() for part in _SCORES) and branch.count is None


def _probability(peak: float, branch: BranchSurvey) -> float:
    if branch.low >= 0 and branch.high <= 1:
        return peak
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, peak))))


def _threshold(contract: Contract) -> float:
    """The task's own threshold; 0 where it has none."""
    kind = getattr(load_plugin(TASKS, contract.task), "Options", None)
    if kind is None:
        return 0.0
    options = msgspec.structs.asdict(read_options(contract, kind))
    return float(next((options[name] for name in ("score_threshold", "threshold") if options.get(name)), 0.0))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
