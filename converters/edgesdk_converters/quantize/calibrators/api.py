"""The seam between what tensors did and the ranges that they get."""

from __future__ import annotations

import difflib
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from edgesdk.errors import ConfigError
from edgesdk.registry import load_plugin, plugins
from edgesdk_converters.quantize.histogram import Range, Statistics

Array = NDArray[Any]

CALIBRATORS = "edgesdk_converters.calibrators"


@runtime_checkable
class Calibrator(Protocol):
    """Chooses one range per tensor. Constructed without arguments, or with the number behind the colon of ``name:number``.

    The observer keeps exact extremes and a histogram of every tensor in any case. What needs more than these sees all values: its memory
    must not grow with the number of samples.
    """

    @property
    def name(self) -> str:
        """Of its entry point."""

    passes: int
    """How often it wants to see every value of every sample; 0 where extremes and histogram are enough."""

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """See one inference's value of ``tensor``.

        Args:
            tensor: Name in the graph.
            value: Any shape, floating point, no NaN.
            number: Of the pass, 0..passes - 1; before the second one, all samples were seen once.
        """

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """The range that ``tensor`` is quantized to.

        Args:
            tensor: Name in the graph.
            seen: What the observer kept of it.
            levels: Integers that there are: 256, or 65536 for 16-bit activations.

        Returns:
            Within the extremes, and with zero in it.
        """


def make_calibrator(text: str) -> Calibrator:
    """The calibrator that a recipe names: ``mse``, ``percentile``, ``percentile:99.9`` ...

    Raises:
        ConfigError: There is none of that name, or it takes no such number.
    """
    name, _, number = text.partition(":")
    known = plugins(CALIBRATORS)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError([f"calibrator {name!r} is unknown.{hint} Known: {', '.join(sorted(known))}."])
    kind: Any = load_plugin(CALIBRATORS, name)
    if not number:
        made: Calibrator = kind()
        return made
    try:
        made = kind(float(number))
    except TypeError as error:
        raise ConfigError([f"calibrator {text!r}: {name!r} takes no number. Say calibrator: {name}"]) from error
    except ValueError as error:
        raise ConfigError([f"calibrator {text!r}: {error}"]) from error
    return made
