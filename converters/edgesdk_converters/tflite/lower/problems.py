"""What cannot be expressed in TFLite, collected so that all of it is reported at once."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.errors import NodeProblem, NotExpressibleError


class Refusal(Exception):  # noqa: N818 - caught by the lowering and never seen outside
    """A node cannot be expressed; raised by families through `Lowering.refuse`."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError)
"""What a node raises that onnx's own checks let through with attributes or inputs that make no sense."""


def malformed(error: Exception) -> Refusal:
    """Such an exception as a refusal."""
    reason = f"it is malformed ({type(error).__name__}: {error})"
    return Refusal(reason, "Check the model with onnx.checker and export it again")


def raise_all(file: str, problems: Sequence[NodeProblem]) -> None:
    """Raise one error that lists every problem; nothing where there is none."""
    if problems:
        raise NotExpressibleError(file, tuple(problems))
