"""Inputs that do not come from the sample: constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ConstantInput, InputSpec
from edgesdk.errors import TaskError


def constant(spec: InputSpec) -> NDArray[Any]:
    """The array of a constant input, in its shape and dtype; one number fills it.

    Raises:
        TaskError: The value has another number of elements than the shape, or does not fit the dtype.
    """
    if not isinstance(spec.source, ConstantInput):
        raise TypeError(f"input {spec.name!r} is of kind {type(spec.source).__name__}, not ConstantInput")
    try:
        values = np.asarray(spec.source.value, np.dtype(spec.dtype))
        # np.array and not ascontiguousarray, which makes (1,) of a scalar's shape ()
        return np.array(np.broadcast_to(values, spec.shape) if values.size == 1 else values.reshape(spec.shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise TaskError(
            f"constant input {spec.name!r}: value {spec.source.value!r} does not fit {spec.dtype} {spec.shape} ({error}). "
            "Give one number, or as many as the shape has."
        ) from error
