"""Which samples are copies of each other, exactly or nearly, and how to part a set so that copies stay together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.calibration.prints import PictureFacts, Print

PICTURES_ALIKE = 0.995
"""Correlation of 16 x 16 thumbnails. Re-encoded, resized and slightly lit copies reach 0.998; of two crops of one photograph that are shifted by
a tenth of their side, one in twenty."""
OTHERS_ALIKE = 0.98
"""Correlation of the deviations from the set's mean. Of the 500 keyword recordings of MLPerf Tiny, 39 are alike:
those of silence, and a few that are nearly silent."""
_SAME = 0.9998
"""The same without subtracting any mean: vectors that differ by 2 %."""
_FAINT = 2.0
"""Standard deviation in grey levels below which a picture has no pattern that could be compared."""
_BLOCK = 256
_TWO = 2
_KNOWN = 8
"""Samples from which the mean of all is known well enough."""
_NEARLY_ONE = 0.99
_COPIES = 4


def near_pairs(prints: Sequence[Print]) -> Iterator[tuple[int, int]]:
    """Pairs of samples that are nearly the same, exact copies left out; the smaller first, some pairs twice.

    A picture is compared with its own mean, and contrast does not matter. Other fingerprints have much in common that says nothing
    (the spectrum of the microphone): they are compared with the mean of all, where that is known well enough.
    """
    at = np.asarray([index for index, one in enumerate(prints) if one.vector is not None], np.intp)
    if len(at) < _TWO:
        return
    vectors = np.stack([np.asarray(prints[index].vector, np.float64) for index in at])
    pictures = all(isinstance(prints[index].facts, PictureFacts) for index in at)
    centred = vectors - (vectors.mean(axis=1, keepdims=True) if pictures or len(at) < _KNOWN else vectors.mean(axis=0))
    if pictures:
        lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
        found = _close(centred / np.maximum(lengths, _FAINT * centred.shape[1] ** 0.5), PICTURES_ALIKE)
    else:
        # Where nearly all are alike, they are their own mean: what differs by hardly anything is alike in any case.
        found = chain(_close(centred, OTHERS_ALIKE), _close(vectors, _SAME))
    for first, second in found:
        one, other = int(at[first]), int(at[second])
        if prints[one].content != prints[other].content:
            yield one, other


def _close(vectors: NDArray[np.float64], limit: float) -> Iterator[tuple[int, int]]:
    """Pairs whose distance is that of two vectors of the longer one's length with correlation ``limit``, or less."""
    vectors = vectors.astype(np.float32)
    powers = (vectors**2).sum(axis=1)
    for top in range(0, len(vectors), _BLOCK):
        for left in range(top, len(vectors), _BLOCK):
            rows, columns = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            distances = powers[rows, None] + powers[None, columns] - 2 * vectors[rows] @ vectors[columns].T
            longer = np.maximum(powers[rows, None], powers[None, columns])
            if limit == PICTURES_ALIKE:  # faint pictures are shorter than 1 and like nothing
                longer = np.where(longer > _NEARLY_ONE, longer, -1)
            close = distances <= 2 * (1 - limit) * longer
            for row, column in zip(*(found.tolist() for found in np.nonzero(close)), strict=True):
                if top + row < left + column:
                    yield top + row, left + column


def exact_groups(prints: Sequence[Print]) -> list[list[int]]:
    """Samples by content, in order of their first."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(prints):
        groups.setdefault(one.content, []).append(index)
    return list(groups.values())


def families(prints: Sequence[Print], *, near: bool = True) -> list[list[int]]:
    """Samples grouped such that copies, and copies of copies, are together."""
    parent = list(range(len(prints)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for group in exact_groups(prints):
        for index in group[1:]:
            parent[root(index)] = root(group[0])
    for first, second in near_pairs(prints) if near else ():
        parent[root(second)] = root(first)
    found: dict[int, list[int]] = {}
    for index in range(len(prints)):
        found.setdefault(root(index), []).append(index)
    return list(found.values())


def part(prints: Sequence[Print], share: float, labels: Sequence[str | None] = ()) -> list[int]:
    """Samples to hold out: about ``share`` of all and of each label, chosen by their content and not by their names.

    Exact copies stay together, and so do near ones as long as they are few. Where nearly all are alike (the frames of a film), the
    last in the order of their names are taken.

    Args:
        prints: Of all samples.
        share: 0..1.
        labels: One per sample, or none.

    Returns:
        Indices in order; at least one, and never all.
    """
    count = len(prints)
    wanted = min(max(1, round(count * share)), count - 1)
    groups = families(prints)
    if max(map(len, groups)) > count - wanted:
        groups = families(prints, near=False)
        if max(map(len, groups)) > count - wanted:
            return list(range(count - wanted, count))
        return _last(groups, wanted)
    # So many that are alike are a kind of sample (the view of a fixed camera), of which both sides need some.
    largest = max(_COPIES, wanted // 4)
    kinds: list[tuple[str, list[int]]] = []
    for group in groups:
        label = (labels[group[0]] if labels else None) or ""
        if len(group) <= largest:
            kinds.append((label, group))
        else:
            kind = f"{label} {min(prints[index].content for index in group)}"
            kinds += [(kind, part) for part in _exact_within(group, prints)]
    chosen: list[int] = []
    for group in _ranked(kinds, prints):
        if len(chosen) + len(group) <= wanted + wanted // 4:
            chosen += group
        if len(chosen) >= wanted:
            break
    # Nothing but large families: the smallest goes.
    return sorted(chosen) if chosen else min(groups, key=lambda group: (len(group), prints[group[0]].content))


def _ranked(kinds: Sequence[tuple[str, list[int]]], prints: Sequence[Print]) -> list[list[int]]:
    """Families by hash, those of each label and kind spread evenly over the order."""
    by_kind: dict[str, list[tuple[str, list[int]]]] = {}
    for kind, group in kinds:
        by_kind.setdefault(kind, []).append((min(prints[index].content for index in group), group))
    ranked = []
    for kind, members in by_kind.items():
        members.sort()
        ranked += [((rank + 0.5) / len(members), key, kind, group) for rank, (key, group) in enumerate(members)]
    return [group for *_, group in sorted(ranked)]


def _exact_within(group: Sequence[int], prints: Sequence[Print]) -> list[list[int]]:
    return [[group[index] for index in same] for same in exact_groups([prints[index] for index in group])]


def _last(groups: Sequence[list[int]], wanted: int) -> list[int]:
    chosen: list[int] = []
    for group in sorted(groups, key=lambda group: -group[-1]):
        if len(chosen) >= wanted:
            break
        chosen += group
    return sorted(chosen)
