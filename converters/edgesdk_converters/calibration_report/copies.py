"""Duplicates in a calibration set, and samples that it shares with the evaluation set."""

from __future__ import annotations

from collections.abc import Iterator

from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.calibration.alike import exact_groups, families, near_pairs
from edgesdk_converters.calibration_report.quality import LISTED, finding
from edgesdk_converters.report.record import Finding

_MANY_NEAR = 0.2
"""Share of near copies from which they are a warning: films and bursts always have some."""


def duplicates(calibration: CalibrationSet) -> Iterator[Finding]:
    """Exact copies, and near ones."""
    prints, names = calibration.prints, calibration.names
    total = len(prints)
    if total < 2:
        return
    groups = exact_groups(prints)
    if len(groups) == 1:
        yield Finding(
            severity="warning",
            subject="duplicates",
            text=f"all {total} samples are equal as the model sees them. Check what wrote them, and give different ones.",
            files=names[:LISTED],
        )
        return
    copies = [[names[index] for index in group] for group in groups if len(group) > 1]
    if copies:
        spare = sum(len(group) - 1 for group in copies)
        yield finding(
            "duplicates",
            spare,
            total,
            "samples are copies of others, whose values count several times. Keep one of each: "
            + "; ".join(" = ".join(group[:4]) for group in copies[:3])
            + (" ..." if len(copies) > 3 else ""),
            [name for group in copies for name in group[1:]],
        )
    # One of each content, so that near copies of copies are not counted again.
    firsts = [group[0] for group in groups]
    alike = [family for family in families([prints[index] for index in firsts]) if len(family) > 1]
    if alike:
        spare = sum(len(family) - 1 for family in alike)
        found = [[names[firsts[index]] for index in family] for family in alike]
        yield Finding(
            severity="warning" if spare >= _MANY_NEAR * total else "hint",
            subject="near duplicates",
            text=f"{spare} of {total} samples {'is' if spare == 1 else 'are'} nearly the same as others ({' ~ '.join(found[0][:3])}) and "
            f"add{'s' if spare == 1 else ''} little. Take them further apart in time, or of other scenes.",
            files=tuple(name for family in found for name in family[1:])[:LISTED],
        )


def leakage(calibration: CalibrationSet, evaluation: CalibrationSet) -> Iterator[Finding]:
    """Samples that calibrate and judge."""
    if not calibration.prints or not evaluation.prints:
        return
    there = {one.content: name for one, name in zip(evaluation.prints, evaluation.names, strict=True)}
    same = [
        (name, there[one.content])
        for one, name in zip(calibration.prints, calibration.names, strict=True)
        if one.content in there
    ]
    # Both halves of one folder: copies never part, near ones do where they are many.
    parted = bool(calibration.sha256) and calibration.sha256 == evaluation.sha256
    advice = (
        "The figures may look better than they are: give a folder of other samples, --evaluation DIR."
        if parted
        else "The figures would look better than they are: take them out of one of the two folders."
    )
    where = "among those held out" if parted else "in the evaluation set"
    if same:
        yield Finding(
            severity="warning",
            subject="leakage",
            text=f"{_samples(len(same))} also {where} ({same[0][0]} = {same[0][1]}). {advice}",
            files=tuple(name for name, _ in same)[:LISTED],
        )
    known = {name for name, _ in same}
    count = len(calibration.prints)
    near = {
        calibration.names[first]: evaluation.names[second - count]
        for first, second in near_pairs((*calibration.prints, *evaluation.prints))
        if first < count <= second and calibration.names[first] not in known
    }
    if near:
        one = next(iter(near.items()))
        yield Finding(
            severity="warning" if len(near) >= _MANY_NEAR * count else "hint",
            subject="leakage",
            text=f"{_samples(len(near), 'has', 'have')} a near copy {where} ({one[0]} ~ {one[1]}). {advice}",
            files=tuple(near)[:LISTED],
        )


def _samples(count: int, one: str = "is", many: str = "are") -> str:
    return f"1 calibration sample {one}" if count == 1 else f"{count} calibration samples {many}"
