"""Inferences that are read when they are asked for: sequences over files, never all of them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = list[Array]
Run = Callable[[Feed], Sequence[Array]]
K = TypeVar("K")

CACHE_BYTES = 8 << 20
"""Inferences kept in memory per folder. A small set of small inputs fits and is decoded once; more would show in the peak memory, which must
not grow with the number of samples (1,024 samples: at most 1.1 times that of 32)."""


class Store(Generic[K]):
    """Keeps arrays until it is full, then no more.

    Calibration walks through the samples from front to back, again and again. What forgets the oldest would never hit; what keeps
    the first always does.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._left = limit_bytes
        self._kept: dict[K, list[Any]] = {}

    @property
    def left_bytes(self) -> int:
        """Room that is left."""
        return self._left

    def get(self, key: K) -> list[Any] | None:
        """What was kept under ``key``."""
        return self._kept.get(key)

    def put(self, key: K, value: list[Any], size_bytes: int) -> None:
        """Keep ``value`` where there is room for ``size_bytes``."""
        if size_bytes <= self._left and key not in self._kept:
            self._kept[key] = value
            self._left -= size_bytes


def size_of(feeds: Sequence[Feed]) -> int:
    """Bytes of all arrays."""
    return sum(array.nbytes for feed in feeds for array in feed)


class Part(Sequence[Feed]):
    """Some inferences of one sample, in order."""

    def __init__(self, whole: Sequence[Feed], positions: range) -> None:
        self._whole, self._positions = whole, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Feed]:
        return pick(self._whole, self._positions)

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feed]: ...
    def __getitem__(self, index: int | slice) -> Feed | Sequence[Feed]:
        if isinstance(index, slice):
            return Part(self._whole, self._positions[index])
        return self._whole[self._positions[index]]


class Feeds(Sequence[Feed]):
    """All inferences of some samples as one sequence; iterating reads from front to back and may be done again."""

    def __init__(
        self, units: Sequence[Sequence[Feed]], index: Sequence[tuple[int, int]] | NDArray[np.int32] | None = None
    ) -> None:
        """Number them.

        Args:
            units: Samples, each as its inferences.
            index: Sample and position in it of every inference; None is all of them in order.
        """
        self._units = units
        # Two numbers per inference, and not two objects: an hour of speech has a hundred thousand.
        lengths = [len(unit) for unit in units] if index is None else []
        self._index: NDArray[np.int32] = (
            np.stack(
                [
                    np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
                    np.concatenate([np.arange(length, dtype=np.int32) for length in (0, *lengths)]),
                ],
                axis=1,
            )
            if index is None
            else np.asarray(index, np.int32).reshape(-1, 2)
        )

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Feed]:
        numbers, positions = self._index[:, 0], self._index[:, 1]
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for start, stop in pairwise(starts):
            if start < stop:
                yield from pick(self._units[int(numbers[start])], _as_range(positions[start:stop]))

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Feeds: ...
    def __getitem__(self, index: int | slice) -> Feed | Feeds:
        if isinstance(index, slice):
            return Feeds(self._units, self._index[index])
        number, position = self._index[index]
        return self._units[int(number)][int(position)]


def _as_range(positions: NDArray[np.int32]) -> Sequence[int]:
    """The same numbers; a range where their steps are even, as they nearly always are."""
    first = int(positions[0])
    step = int(positions[1]) - first if len(positions) > 1 else 1
    if step > 0 and (np.diff(positions) == step).all():
        return range(first, int(positions[-1]) + 1, step)
    return [int(one) for one in positions]


class Rolled(Sequence[Feed]):
    """A sample whose states are those that the model makes from one inference to the next, made while it is walked through."""

    def __init__(
        self, unit: Sequence[Feed], pairs: dict[int, int], run: Run, number: int, store: Store[tuple[int, int]]
    ) -> None:
        """Nothing is run yet.

        Args:
            unit: The inferences with zero states.
            pairs: Index of a state input -> index of the output that feeds it.
            run: One inference.
            number: Of the unit, its key in ``store``.
            store: Keeps states, so that the model need not run again.
        """
        self._unit, self._pairs, self._run, self._number, self._store = unit, pairs, run, number, store

    def __len__(self) -> int:
        return len(self._unit)

    def __iter__(self) -> Iterator[Feed]:
        previous: Feed | None = None
        for position, feed in enumerate(self._unit):
            states = self._states(position, previous)
            previous = [states.get(index, array) for index, array in enumerate(feed)]
            yield previous

    def _states(self, position: int, previous: Feed | None) -> dict[int, Array]:
        if previous is None:
            return {}
        kept = self._store.get((self._number, position))
        if kept is None:
            outputs = self._run(previous)
            kept = [np.array(outputs[output]) for output in self._pairs.values()]
            self._store.put((self._number, position), kept, size_of([kept]))
        return dict(zip(self._pairs, kept, strict=True))

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feed]: ...
    def __getitem__(self, index: int | slice) -> Feed | Sequence[Feed]:
        positions = range(len(self))
        if isinstance(index, slice):
            return Part(self, positions[index])
        return next(pick(self, [positions[index]]))


def pick(unit: Sequence[Feed], positions: Sequence[int]) -> Iterator[Feed]:
    """The inferences at ``positions``; read in one walk where they ascend."""
    if positions == range(len(unit)) or (len(positions) == len(unit) and list(positions) == list(range(len(unit)))):
        yield from unit
        return
    if len(positions) <= 1 and not isinstance(unit, Rolled):
        yield from (unit[position] for position in positions)
        return
    if any(after <= before for before, after in pairwise(positions)):
        for position in positions:
            yield from pick(unit, [position])
        return
    wanted = iter(positions)
    following = next(wanted, None)
    if following is None:
        return
    for position, feed in enumerate(unit):
        if position == following:
            yield feed
            following = next(wanted, None)
            if following is None:
                return
