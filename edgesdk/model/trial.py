"""Trying a session: does it fit the manifest, does it run, and how quick is it beside another one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.api import Array, Session, TensorInfo
from edgesdk.bundle.manifest import ConstantInput, Contract, InputSpec, OutputSpec, StateInput
from edgesdk.tasks.inputs import constant

PAIRS = 20
"""Runs of each of two sessions, in turns: they share whatever else the board does meanwhile."""
FEWEST_PAIRS = 5
PAIRS_SECONDS = 1.0
"""After this, no further pair: the first load of a slow model stays bearable."""


def contract_problems(session: Session, contract: Contract) -> list[str]:
    """Where a session's tensors are not those that the manifest promises to the task."""
    return [
        *_side("input", contract.inputs, session.inputs),
        *_side("output", contract.outputs, session.outputs),
    ]


def _side(kind: str, specs: Sequence[InputSpec | OutputSpec], infos: Sequence[TensorInfo]) -> list[str]:
    if len(specs) != len(infos):
        return [f"it has {len(infos)} {kind}s, the manifest says {len(specs)}."]
    problems = []
    for spec, info in zip(specs, infos, strict=True):
        fits = len(spec.shape) == len(info.shape) and all(
            have in (-1, want) for want, have in zip(spec.shape, info.shape, strict=True)
        )
        if not fits or np.dtype(spec.dtype) != info.dtype:
            problems.append(
                f"{kind} {spec.name!r} is {info.dtype} {list(info.shape)}, the manifest says {spec.dtype} "
                f"{list(spec.shape)}."
            )
    return problems


def trial_inputs(contract: Contract) -> list[Array]:
    """Arrays to warm up and time with: floats 0..1 as pictures have, integers and states zero, constants as stated."""
    random = np.random.default_rng(0)
    arrays: list[Array] = []
    for spec in contract.inputs:
        dtype = np.dtype(spec.dtype)
        if isinstance(spec.source, ConstantInput):
            arrays.append(constant(spec))
        elif dtype.kind == "f" and not isinstance(spec.source, StateInput):
            arrays.append(np.asarray(random.random(spec.shape), dtype))
        else:
            arrays.append(np.zeros(spec.shape, dtype))
    return arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of two sessions run in turns."""

    first_ms: float
    """The quickest run: whatever else the board does can only add to it."""
    second_ms: float
    """The quickest run."""
    ratio: float
    """second / first, of the quickest runs."""
    pairs: int


def time_in_turns(first: Session, second: Session, contract: Contract) -> Times:
    """Time two sessions of one contract, one run each in turn; both have run before.

    Raises:
        BackendError: One of them failed.
    """
    inputs = trial_inputs(contract)
    spent: tuple[list[int], list[int]] = ([], [])
    until = time.perf_counter() + PAIRS_SECONDS
    while len(spent[0]) < FEWEST_PAIRS or (len(spent[0]) < PAIRS and time.perf_counter() < until):
        for session, times in zip((first, second), spent, strict=True):
            begin = time.perf_counter_ns()
            session.run(inputs)
            times.append(time.perf_counter_ns() - begin)
    first_ns, second_ns = (min(times) for times in spent)
    return Times(
        first_ms=first_ns / 1e6, second_ms=second_ns / 1e6, ratio=second_ns / max(first_ns, 1), pairs=len(spent[0])
    )
