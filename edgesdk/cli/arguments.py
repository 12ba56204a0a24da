"""Argument types that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: whole numbers from ``least`` to ``most``; anything else is a usage error that says so."""
    expected = f"a whole number of {least} or more" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}") from None
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return number

    return parse
