"""Connectionist temporal classification: from class probabilities per step to text, over one window or several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError

BORDER_STEPS = 2
"""Steps at a window's edge that are not cut at while there are others: there a character may be in half."""


def alphabet(contract: Contract, classes: int, blank_index: int) -> tuple[str, ...]:
    """The text of each class; empty for the blank.

    ``labels`` may be the full list (one per class, the blank's is ignored), or leave out the blank, or be a list of
    PaddleOCR's kind, which leaves out both the blank and the space that comes last.

    Raises:
        TaskError: There are no labels, or their number fits none of these.
    """
    labels, last = contract.labels, classes - 1
    if not 0 <= blank_index <= last:
        raise TaskError(
            f"task {contract.task!r}: option 'blank_index' is {blank_index}, the output has classes 0..{last}. "
            "PaddleOCR's is 0, Keras' and torchaudio's is the last class."
        )
    if len(labels) == classes:
        return (*labels[:blank_index], "", *labels[blank_index + 1 :])
    if len(labels) == classes - 1:
        return (*labels[:blank_index], "", *labels[blank_index:])
    if len(labels) == classes - 2 and blank_index == 0:
        return ("", *labels, " ")
    raise TaskError(
        f"task {contract.task!r}: got {len(labels)} labels for {classes} classes; expected {classes}, {classes - 1} "
        f"(without the blank) or {classes - 2} (without the blank and the space at the end). Give the model's own character "
        "list as `labels:` of the spec; PP-OCR's ONNX files carry it as metadata `character`, split at line feeds."
    )


def decode(
    probabilities: NDArray[np.float32], characters: Sequence[str], blank_index: int
) -> tuple[str, float, tuple[int, ...]]:
    """Best class of each step, repeats merged, blanks dropped (greedy decoding).

    Args:
        probabilities: (T, C), finite.
        characters: Of C classes.
        blank_index: The class that is no character.

    Returns:
        The text, the mean probability of its characters (0 without any; values outside 0..1, which are no probabilities,
        count as 0 or 1), and the step of each character.

    Source: Graves et al., Connectionist Temporal Classification, 2006, section 3.2 (best path decoding).
    """
    best = probabilities.argmax(axis=1)
    kept = best != blank_index
    kept[1:] &= best[1:] != best[:-1]
    steps = np.flatnonzero(kept)
    if not steps.size:
        return "", 0.0, ()
    classes = best[steps]
    score = float(probabilities[steps, classes].clip(0, 1).mean())
    return "".join(characters[index] for index in classes.tolist()), score, tuple(steps.tolist())


def window_starts(length: int, window: int, *, overlap: int, grid: int) -> tuple[int, ...]:
    """Where windows begin that cover ``length`` with at least ``overlap`` in common, evenly spread.

    Args:
        length: Pixels to cover.
        window: Pixels of one window, a multiple of ``grid``.
        overlap: Pixels, a multiple of ``grid``, less than ``window - grid``.
        grid: Every start is a multiple of it.

    Returns:
        Ascending starts, first 0. The last window ends at ``length`` or at most ``grid - 1`` behind it, where ``length`` is
        longer than a window.
    """
    if length <= window:
        return (0,)
    # The last start, and the room between two, in steps of the grid.
    last = -(-(length - window) // grid)
    stride = (window - overlap) // grid
    count = -(-last // stride) + 1
    return tuple(last * index // (count - 1) * grid for index in range(count))


def join(windows: Sequence[NDArray[np.float32]], starts: Sequence[int], blank_index: int) -> NDArray[np.float32]:
    """One sequence of steps out of overlapping windows.

    Between two neighbours the cut is where both are surest to see no character, so that none is read twice or cut in half.

    Args:
        windows: (T, C) each.
        starts: First step of each window in the whole, ascending; neighbours share at least one step.
        blank_index: The class that is no character.

    Returns:
        (starts[-1] + T, C).
    """
    parts: list[NDArray[np.float32]] = []
    cut = 0  # in steps of the whole: where the window at hand takes over
    for index, (window, start) in enumerate(zip(windows, starts, strict=True)):
        if index + 1 == len(windows):
            parts.append(window[cut - start :])
            break
        following = starts[index + 1]
        first, end = max(following, cut), start + len(window)
        border = min(BORDER_STEPS, (end - first - 1) // 2)
        first, end = first + border, end - border
        here = window[first - start : end - start, blank_index]
        there = windows[index + 1][first - following : end - following, blank_index]
        agreed = np.minimum(here, there)
        # Of equally good places the middle one: there both windows have context on either side.
        candidates = np.flatnonzero(agreed >= agreed.max() - np.float32(1e-3))
        middle = first + int(candidates[np.abs(candidates - (len(agreed) - 1) / 2).argmin()])
        parts.append(window[cut - start : middle - start])
        cut = middle
    return np.concatenate(parts)
