"""Products: integers by float32, Einsum, Det."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_EXACT = (1 << 24) // (255 * 255)
"""How many products of bytes float32 adds without rounding."""


@spells("MatMulInteger", "ConvInteger")
def of_integers(s: Sketch) -> None:
    """Computed in float32, where every sum that can occur is a number of it."""
    depth = s.shape(1)[-2] if s.node.op_type == "MatMulInteger" else int(np.prod(s.shape(1)[1:]))
    if depth > _EXACT:
        s.refuse(
            f"it adds {depth} products, which float32 rounds", "Use QLinearMatMul, QLinearConv, or DequantizeLinear"
        )
    operands = []
    for index in (0, 1):
        x = s.cast(s.input(index), "float32")
        if s.input(index + 2):
            zero = s.cast(s.input(index + 2), "float32")
            if s.shape(index + 2) not in ((), (1,)):
                rank = len(s.shape(index))
                wide = [1] * rank
                wide[0 if s.node.op_type == "ConvInteger" else (rank - 2 if index == 0 else rank - 1)] = -1
                zero = s.reshape(zero, *wide)
            elif s.shape(index + 2) == (1,):
                zero = s.reshape(zero)
            x = s.op("Sub", x, zero)
        operands.append(x)
    code = s.node.op_type.removesuffix("Integer")
    s.result(s.cast(s.op(code, *operands, **s.node.attributes), "int32"))


@spells("Det")
def determinant(s: Sketch) -> None:
    """Along the first row, for matrices of up to four rows."""
    size = s.shape()[-1]
    if size > 4:
        s.refuse(f"its matrices have {size} rows; written out that is too long", "Use matrices of up to 4 rows")
    rank = len(s.shape())
    cells = [
        [
            s.op(
                "Gather", s.op("Gather", s.x, s.const(np.int64(r)), axis=rank - 2), s.const(np.int64(c)), axis=rank - 2
            )
            for c in range(size)
        ]
        for r in range(size)
    ]

    def minor(rows: list[int], columns: list[int]) -> str:
        if len(rows) == 1:
            return cells[rows[0]][columns[0]]
        total = ""
        for at, column in enumerate(columns):
            part = s.op("Mul", cells[rows[0]][column], minor(rows[1:], [c for c in columns if c != column]))
            total = part if not total else s.op("Sub" if at % 2 else "Add", total, part)
        return total

    s.result(minor(list(range(size)), list(range(size))))


@spells("Einsum")
def einsum(s: Sketch) -> None:
    """Every operand spread over all labels, multiplied, summed; a matrix product where two operands share one sum."""
    terms, _, goal = str(s.attribute("equation")).replace(" ", "").partition("->")
    labels = terms.split(",")
    if "..." in terms or any(len(set(term)) != len(term) for term in labels) or "->" not in s.attribute("equation"):
        s.refuse("its equation has an ellipsis, a diagonal or no result", "Name each axis, and what comes out")
    sizes = {label: size for i, term in enumerate(labels) for label, size in zip(term, s.shape(i), strict=True)}
    made, have = s.x, labels[0]
    for index in range(1, len(labels)):
        made, have = _pair(
            s, (made, have), (s.input(index), labels[index]), set(goal).union(*labels[index + 1 :]), sizes
        )
    gone = [have.index(label) for label in have if label not in goal]
    if gone:
        made = s.op("ReduceSum", made, s.ints(*gone), keepdims=0)
        have = "".join(label for label in have if label in goal)
    s.result(s.op("Transpose", made, perm=[have.index(label) for label in goal]) if have != goal else made)


def _pair(
    s: Sketch, first: tuple[str, str], second: tuple[str, str], wanted: set[str], sizes: dict[str, int]
) -> tuple[str, str]:
    (a, left), (b, right) = first, second
    shared = [x for x in left if x in right]
    batch = [x for x in shared if x in wanted]
    summed = [x for x in shared if x not in wanted]
    rows, columns = [x for x in left if x not in shared], [x for x in right if x not in shared]

    def brought(name: str, have: str, order: list[str], shape: list[int]) -> str:
        moved = s.op("Transpose", name, perm=[have.index(x) for x in order])
        return s.reshape(moved, *shape)

    def count(names: list[str]) -> int:
        return int(np.prod([sizes[x] for x in names], dtype=np.int64))

    lead = [sizes[x] for x in batch]
    left_matrix = brought(a, left, [*batch, *rows, *summed], [*lead, count(rows), count(summed)])
    right_matrix = brought(b, right, [*batch, *summed, *columns], [*lead, count(summed), count(columns)])
    made = s.op("MatMul", left_matrix, right_matrix)
    order = [*batch, *rows, *columns]
    return s.reshape(made, *(sizes[x] for x in order)), "".join(order)
