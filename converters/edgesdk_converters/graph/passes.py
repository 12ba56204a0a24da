"""Runs transformations of a graph whose claims are declared, and checks the claims.

A pass says what it needs (``requires``), what holds after it (``ensures``), and whether it changes the model that it gets or a copy.
The runner checks all three, and names the pass that failed and those that had run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import onnx
from numpy.typing import NDArray

from edgesdk.errors import ConversionError, PassError
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is true of a model or not."""

    name: str
    """In words, for messages: ``static shapes``."""
    violation: Callable[[onnx.ModelProto], str | None] = field(compare=False)
    """What breaks it, naming the first place; None where it holds."""


@runtime_checkable
class Pass(Protocol):
    """One transformation of a graph."""

    @property
    def name(self) -> str:
        """In words, for messages."""

    @property
    def requires(self) -> tuple[Condition, ...]:
        """What must hold before."""

    @property
    def ensures(self) -> tuple[Condition, ...]:
        """What holds after."""

    @property
    def in_place(self) -> bool:
        """True: the model that it gets is changed and returned. False: that one stays as it is."""

    def __call__(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        """The transformed model, and notes for the engineer: what was assumed, or not possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A pass made of a function."""

    name: str
    run: Callable[[onnx.ModelProto], tuple[onnx.ModelProto, Sequence[str]]]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()
    in_place: bool = False

    def __call__(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        """Call the function."""
        return self.run(model)


@dataclass(frozen=True, slots=True)
class Equal:
    """A numeric check after every pass: outputs on ``feed`` as close to the reference's as the same model's are."""

    reference: OnnxRunner
    feed: Sequence[Array]
    """In the reference's input order; the passes must keep inputs and outputs."""
    at_least_db: float | None = None
    """Signal-to-noise ratio; None is :data:`~edgesdk_converters.graph.simplify.EQUAL_DB`."""


def run_passes(
    model: onnx.ModelProto, passes: Sequence[Pass], *, equal: Equal | None = None, notes: list[str] | None = None
) -> onnx.ModelProto:
    """Run the passes in order.

    Args:
        model: Changed only by passes that say ``in_place``.
        passes: What to do.
        equal: Also compare what the model computes, after every pass.
        notes: The passes' notes are appended.

    Returns:
        What the last pass returned.

    Raises:
        PassError: A condition does not hold, a pass raised, changed what it promised not to, or the model computes something
            else after it; with the name of the pass and of those that had run.
    """
    done: list[str] = []
    for one in passes:
        model, said = _run(model, one, tuple(done))
        if equal is not None:
            _compare(model, one, equal, tuple(done))
        if notes is not None:
            notes += said
        done.append(one.name)
    return model


def _run(model: onnx.ModelProto, one: Pass, done: tuple[str, ...]) -> tuple[onnx.ModelProto, Sequence[str]]:
    for condition in one.requires:
        broken = condition.violation(model)
        if broken is not None:
            raise PassError(
                f"it requires {condition.name}, which does not hold: {broken}. Run the pass that ensures it first.",
                one.name,
                done,
            )
    before = None if one.in_place else _digest(model)
    try:
        result, said = one(model)
    except PassError:
        raise
    except ConversionError as error:
        raise PassError(str(error), one.name, done) from error
    except Exception as error:  # onnx's C++ parts raise their own types: the pass's name is what helps
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
        raise PassError(
            f"{type(error).__name__}: {first}. Export the model again with opset 17.", one.name, done
        ) from error
    if one.in_place and result is not model:
        raise PassError(
            "it says in_place, but returned another model. Pass developer: return the one given.", one.name, done
        )
    if before is not None and _digest(model) != before:
        raise PassError(
            "it changed the model that it was given. Pass developer: copy it first, or say in_place.", one.name, done
        )
    for condition in one.ensures:
        broken = condition.violation(result)
        if broken is not None:
            raise PassError(
                f"it ensures {condition.name}, which does not hold after it: {broken}. Pass developer: keep the promise or "
                "drop it.",
                one.name,
                done,
            )
    return result, said


def _compare(model: onnx.ModelProto, one: Pass, equal: Equal, done: tuple[str, ...]) -> None:
    from edgesdk_converters.graph.simplify import EQUAL_DB, difference

    limit = EQUAL_DB if equal.at_least_db is None else equal.at_least_db
    try:
        distance = difference(model, equal.reference, [equal.feed])
    except ConversionError as error:
        raise PassError(f"the model does not run after it: {error}", one.name, done) from error
    if distance < limit:
        got = "a shape differs" if distance == -math.inf else f"{distance:.1f} dB"
        raise PassError(
            f"the model computes something else after it ({got}, expected {limit:.0f} dB or more). Leave the pass out, and "
            "report the model.",
            one.name,
            done,
        )


def _digest(model: onnx.ModelProto) -> bytes:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).digest()
