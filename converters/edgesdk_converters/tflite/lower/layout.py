"""Arithmetic of layouts: which axis lies where, and what a Reshape does to that."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk_converters.tflite.lower.ir import Layout


def plain(rank: int) -> Layout:
    """ONNX order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Layout:
    """NCHW kept as NHWC (and NCW as NWC, NC as NC)."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def physical(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The shape in memory of a tensor whose ONNX shape is ``shape``."""
    return tuple(shape[axis] for axis in layout)


def permutation(have: Layout, want: Layout) -> tuple[int, ...]:
    """The TRANSPOSE that turns a tensor lying as ``have`` into one lying as ``want``."""
    return tuple(have.index(axis) for axis in want)


def moves_data(shape: Sequence[int], order: Sequence[int]) -> bool:
    """Whether a TRANSPOSE of this (physical) shape changes the order of the elements: axes of size 1 are free."""
    moved = [axis for axis in order if shape[axis] != 1]
    return moved != sorted(moved)


def same_order(shape: Sequence[int], first: Layout, second: Layout) -> bool:
    """Whether two layouts of one ONNX shape keep the elements in the same order."""
    return [a for a in first if shape[a] != 1] == [a for a in second if shape[a] != 1]


def broadcast(layout: Layout, rank: int) -> Layout:
    """The layout after leading axes of size 1 were added up to ``rank``."""
    more = rank - len(layout)
    return (*range(more), *(axis + more for axis in layout))


def drop(layout: Layout, axes: Sequence[int]) -> Layout:
    """The layout after ONNX ``axes`` are gone."""
    left = [axis for axis in layout if axis not in axes]
    number = {axis: index for index, axis in enumerate(sorted(left))}
    return tuple(number[axis] for axis in left)


def reshape(source: Sequence[int], target: Sequence[int], layout: Layout) -> tuple[Layout, Layout]:
    """How a tensor must lie so that an ONNX Reshape is one in memory too, and how the result lies then.

    Axes are grouped so that each group of the source holds the elements of one group of the target. Within a group the axes
    must lie together and in order; the groups themselves may lie in any order, which is what keeps NHWC through
    ``(N, C, H, W) -> (N, C, H*W)`` and ``-> (N, g, C/g, H, W)``.

    Args:
        source: ONNX shape before.
        target: ONNX shape after, with the same number of elements.
        layout: How the tensor lies now.

    Returns:
        The layout of the source that is needed (``layout`` itself where nothing must move) and the layout of the target.
    """
    groups = _groups(source, target)
    group_of = {axis: number for number, (axes, _) in enumerate(groups) for axis in axes}
    lying = [axis for axis in layout if source[axis] != 1]
    order: list[int] = []  # of the groups: each where its innermost axis lies
    for axis in reversed(lying):
        if group_of[axis] not in order:
            order.insert(0, group_of[axis])
    needed = [axis for number in order for axis in groups[number][0]]
    made = [axis for number in order for axis in groups[number][1]]
    before = layout if needed == lying else fill(source, needed)
    return before, fill(target, made)


def runs(shape: Sequence[int], order: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same TRANSPOSE with axes that stay neighbours as one: the sizes before it, and its order."""
    groups: list[list[int]] = []
    left = [axis for axis in range(len(shape)) if shape[axis] != 1]
    for axis in (axis for axis in order if shape[axis] != 1):
        place = left.index(axis)
        if groups and place and left[place - 1] == groups[-1][-1]:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    before = sorted(groups)
    return tuple(_product(shape, group) for group in before), tuple(before.index(group) for group in groups)


def joined(shapes: Sequence[Sequence[int]], result: Sequence[int]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Shapes that broadcast to ``result`` with as few axes as say the same: neighbours that all have or all repeat are one."""
    rank = len(result)
    full = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    made: list[list[int]] = [[] for _ in full]
    sizes: list[int] = []
    last: tuple[bool, ...] | None = None
    for axis in (axis for axis in range(rank) if result[axis] != 1):
        repeats = tuple(shape[axis] == 1 for shape in full)
        if repeats == last:
            sizes[-1] *= result[axis]
            for shape, part in zip(full, made, strict=True):
                part[-1] *= shape[axis]
        else:
            sizes.append(result[axis])
            for shape, part in zip(full, made, strict=True):
                part.append(shape[axis])
        last = repeats
    return [tuple(part) for part in made], tuple(sizes)


def fill(shape: Sequence[int], order: Sequence[int]) -> Layout:
    """A layout whose axes other than those of size 1 lie in ``order``; the usual one where there is a choice."""
    rank = len(shape)
    for usual in (plain(rank), channels_last(rank)):
        if [axis for axis in usual if shape[axis] != 1] == list(order):
            return usual
    free = [axis for axis in range(rank) if shape[axis] == 1]
    return (*free, *order)


def _groups(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    left = [axis for axis, size in enumerate(source) if size != 1]
    right = [axis for axis, size in enumerate(target) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left or right:
        first, second = [left.pop(0)] if left else [], [right.pop(0)] if right else []
        a, b = _product(source, first), _product(target, second)
        while a != b and (left or right):
            if (a < b and left) or not right:
                axis = left.pop(0)
                first.append(axis)
                a *= source[axis]
            else:
                axis = right.pop(0)
                second.append(axis)
                b *= target[axis]
        groups.append((first, second))
    return groups


def _product(shape: Sequence[int], axes: Sequence[int]) -> int:
    product = 1
    for axis in axes:
        product *= shape[axis]
    return product
