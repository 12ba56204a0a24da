"""How long to wait before connecting again."""

from __future__ import annotations

import random

FIRST_S = 1.0


class FullJitter:
    """Exponential back-off with full jitter: uniform in [0, min(maximum, first * 2^n)].

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: spreads a fleet that lost the
    same broker at the same moment better than a fixed share of jitter.
    """

    def __init__(self, maximum_s: float, *, first_s: float = FIRST_S) -> None:
        self._maximum_s = maximum_s
        self._first_s = first_s
        self._attempt = 0
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret

    def next_s(self) -> float:
        """Seconds to wait now."""
        ceiling = min(self._maximum_s, self._first_s * 2 ** min(self._attempt, 30))
        self._attempt += 1
        return self._random.uniform(0, ceiling)

    def reset(self) -> None:
        """A connection held: begin with short waits again."""
        self._attempt = 0
