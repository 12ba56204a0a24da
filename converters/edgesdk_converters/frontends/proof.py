"""Compares an export with the library's own result: everything later is compared with the export alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ConversionError
from edgesdk_converters.frontends.api import SourceModel, Tensor, first_line
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]

LEAST_DB = 40.0
"""An export of another model is far below; two libraries' rounding is above, also where a model answers noise with next to nothing."""
ROWS = 64
"""Of a table of features."""
_FIX = (
    "A path that depends on values (if, loop) is exported as it ran once: take it out of the model. Or export to ONNX where the model was "
    "written, and give the .onnx file."
)


def random_inputs(
    tensors: Sequence[Tensor], shapes: Mapping[str, Sequence[int] | None], *, rows: int = 1
) -> dict[str, Array] | None:
    """Reproducible noise by input name; whole numbers are zeros and ones, which every table of embeddings has.

    Args:
        tensors: The inputs.
        shapes: What is stated about them.
        rows: Size of a dynamic batch.

    Returns:
        None where a size other than the batch is dynamic and not stated.
    """
    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for tensor in tensors:
        stated = shapes.get(tensor.name)
        sizes = list(stated if stated is not None else tensor.shape)
        if sizes and not isinstance(sizes[0], int):
            sizes[0] = rows
        if not all(isinstance(size, int) for size in sizes):
            return None
        shape = tuple(int(size or 0) for size in sizes)
        kind = np.dtype(tensor.dtype)
        values = rng.uniform(-1, 1, shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        made[tensor.name] = np.asarray(values).astype(kind)
    return made


def prove(
    source: SourceModel,
    feed: Mapping[str, Array] | None,
    compute: Callable[[Mapping[str, Array]], Sequence[Array | None]],
    *,
    library: str,
) -> tuple[str, ...]:
    """Run the export and the model that it was made from.

    Args:
        source: What the exporter made.
        feed: By input name; None where no input could be made up.
        compute: The outputs by the model's own library, in the export's order; None in the place of one that it has no word for.
        library: For messages.

    Returns:
        An assumption where nothing could be compared.

    Raises:
        ConversionError: They differ, or the export does not run.
    """
    from edgesdk_converters.graph.simplify import closeness

    if feed is None:
        return (f"the export was not compared with {library}: a size is dynamic and no spec states it",)
    runner = OnnxRunner(source.content, name=source.file)
    try:
        expected = compute(feed)
    except Exception as error:  # noqa: BLE001 - the model is the user's: made-up inputs may not suit it, which is no fault of the export
        return (f"the export was not compared with {library}, which does not run on noise: {first_line(error)}",)
    got = runner.run([feed[name] for name in runner.inputs])
    if len(expected) != len(got) or all(value is None for value in expected):
        return (f"the export was not compared with {library}: its outputs are others",)
    for name, a, b in zip(runner.outputs, expected, got, strict=True):
        if a is None:
            continue
        if a.shape != b.shape:
            raise ConversionError(
                f"{source.file}: output {name!r} of its export is {list(b.shape)}, in {library} {list(a.shape)}. {_FIX}"
            )
        distance = closeness(a.astype(b.dtype), b)
        if distance < LEAST_DB:
            raise ConversionError(
                f"{source.file}: output {name!r} of its export differs from {library} ({distance:.1f} dB, expected {LEAST_DB:.0f} or "
                f"more). {_FIX}"
            )
    return ()
