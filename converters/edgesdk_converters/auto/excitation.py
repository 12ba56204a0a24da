"""Branches that the samples never move: nothing can be said of what quantization does to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import OutputSpec
from edgesdk_converters.guard.fidelity import branches_of, cut
from edgesdk_converters.report.record import Finding

Array = NDArray[Any]

_STILL = 1e-6
"""Spread over the samples, as a share of the largest magnitude, below which a branch counts as constant."""


def excitation(outputs: Sequence[OutputSpec], results: Sequence[Sequence[Array]]) -> tuple[Finding, ...]:
    """Warnings for branches of the float model that are zero, or the same, over all samples.

    Args:
        outputs: Of the contract.
        results: The float model's outputs, one list per inference.
    """
    findings = []
    for index, spec in enumerate(outputs):
        for branch in branches_of(spec):
            values = [np.asarray(cut(result[index], branch), np.float64) for result in results]
            if not values:
                continue
            text = _still(values)
            if text:
                findings.append(
                    Finding(
                        severity="warning",
                        subject="excitation",
                        text=f"branch {branch.name!r} of output {spec.name!r} {text} over all {len(values)} samples, so its ranges and "
                        "its fidelity mean nothing. Add samples that make it answer (objects to be found, every class, speech), "
                        "or name it no output in the spec.",
                    )
                )
            elif branch.class_axis is not None and len(values) > 1:
                best = {int(choice) for value in values for choice in np.unique(value.argmax(axis=branch.class_axis))}
                if len(best) == 1:
                    findings.append(
                        Finding(
                            severity="warning",
                            subject="excitation",
                            text=f"branch {branch.name!r} of output {spec.name!r} says class {best.pop()} for every one of "
                            f"{len(values)} samples: agreement on them proves little. Add samples of the other classes.",
                        )
                    )
    return tuple(findings)


def _still(values: Sequence[Array]) -> str:
    """What is wrong with a branch; empty where it moves."""
    largest = max(float(np.abs(value).max(initial=0.0)) for value in values)
    if largest == 0:
        return "is zero"
    first = values[0]
    same = all(
        value.shape == first.shape and float(np.abs(value - first).max(initial=0.0)) <= _STILL * largest
        for value in values
    )
    return "is the same" if same and len(values) > 1 else ""
