"""Which function lowers which ONNX operator, and what its TFLite kernels can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal

from edgesdk_converters.tflite.lower.ir import Node

if TYPE_CHECKING:
    from edgesdk_converters.tflite.lower.lowering import Lowering

Family = Callable[["Lowering", Node], None]


@dataclass(frozen=True, slots=True)
class Int8:
    """What the int8 (and int16) kernels of an operator ask for."""

    kind: Literal["free", "same", "fixed"]
    """``free``: any output parameters; ``same``: those of its input(s); ``fixed``: those below."""
    scale: float = 0.0
    """int8 output scale where fixed."""
    zero_point: int = 0
    """int8 output zero point where fixed."""
    int16: bool = True
    """Whether there is an int16 kernel too."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one ONNX operator is lowered."""

    family: Family
    fuses: bool
    """The family writes ``node.activation`` into its last operator; otherwise activations stay operators of their own."""
    int8: Int8 | None
    """None: there is no integer kernel; DEQUANTIZE and QUANTIZE go around the float operator."""


_RULES: dict[tuple[str, str], Rule] = {}


def lowers(
    *op_types: str, domain: str = "", fuses: bool = False, int8: Int8 | None = None
) -> Callable[[Family], Family]:
    """Register a function for ONNX operators.

    Raises:
        ValueError: One of them is registered already.
    """

    def register(family: Family) -> Family:
        for op_type in op_types:
            if (domain, op_type) in _RULES:
                raise ValueError(f"{op_type} is lowered twice: by {_RULES[domain, op_type].family} and {family}")
            _RULES[domain, op_type] = Rule(family, fuses, int8)
        return family

    return register


def rule_of(op_type: str, domain: str = "") -> Rule | None:
    """The rule for an operator, or None where it cannot be lowered."""
    _load()
    return _RULES.get(("" if domain == "ai.onnx" else domain, op_type))


def lowered_operators() -> tuple[str, ...]:
    """ONNX operators (default domain) that have a rule."""
    _load()
    return tuple(sorted(op_type for domain, op_type in _RULES if not domain))


@cache
def _load() -> None:
    from edgesdk_converters.tflite.lower import families

    for module in iter_modules(families.__path__):
        import_module(f"{families.__name__}.{module.name}")
