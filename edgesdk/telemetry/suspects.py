"""Finds the record that makes a broker end the connection, so that it cannot hold up all the others.

A broker that finds a packet too large (or cannot bear its topic) often just disconnects. Without this, the same record
would be sent first after every reconnect, for ever.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

LOSSES = 3
"""So often a record may be in flight when the connection ends before it is looked at alone; cables do get pulled."""
ALONE = 2
"""And so often it must be the only one in flight."""
HOLD_S = 600.0
"""How long a record that was convicted waits for its next turn."""


class Suspects:
    """Counts, over all connections of a session, which records were in flight when one ended."""

    def __init__(self) -> None:
        self._losses: dict[int, int] = {}
        self._held_until: dict[int, float] = {}

    @property
    def careful(self) -> bool:
        """One record at a time, please: one of them is under suspicion."""
        return any(count >= LOSSES for count in self._losses.values())

    def lost(self, rows: Iterable[int]) -> int | None:
        """The connection ended with these in flight; the row that is now held back, if it was proven."""
        waiting = set(rows)
        for row in waiting:
            self._losses[row] = self._losses.get(row, 0) + 1
        if len(waiting) == 1:
            (row,) = waiting
            if self._losses[row] >= LOSSES + ALONE:
                del self._losses[row]
                self._held_until[row] = time.monotonic() + HOLD_S
                return row
        return None

    def answered(self, row: int) -> None:
        """The broker took or refused it: it does no harm."""
        self._losses.pop(row, None)
        self._held_until.pop(row, None)

    def forget(self, upto: int, in_flight: Collection[int]) -> None:
        """Rows up to ``upto`` that are not in flight are all answered or gone: a rule dropped the ones that still count.

        Without this one dropped suspect would keep the whole outbox going out one record at a time.
        """
        for row in [row for row in self._losses if row <= upto and row not in in_flight]:
            del self._losses[row]

    def holds(self, row: int) -> bool:
        """Whether ``row`` must wait."""
        return time.monotonic() < self._held_until.get(row, 0.0)

    def held(self) -> tuple[int, float] | None:
        """Highest row that is held back, and the seconds until the first of them may go."""
        if not self._held_until:
            return None
        return max(self._held_until), max(0.0, min(self._held_until.values()) - time.monotonic())
