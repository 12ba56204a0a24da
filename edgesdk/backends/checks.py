"""What all backends check alike: names, inputs, options. Called when something is wrong, so it may take its time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.api import TensorInfo
from edgesdk.errors import BackendError

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def order(model: str, kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[int]:
    """Positions in ``known`` of the ``wanted`` names, in the order wanted; every position where none is wanted.

    Args:
        model: Name of the model, for the message.
        kind: ``input`` or ``output``.
        wanted: Names in the caller's order; empty is the file's own.
        known: Names in the file's order.

    Raises:
        BackendError: A name is unknown or given twice, or an input is left out; all of them at once.
    """
    if not wanted:
        return list(range(len(known)))
    problems = [f"no {kind} {name!r}.{nearest(name, known)}" for name in wanted if name not in known]
    problems += [f"{kind} {name!r} is asked for twice." for name in dict.fromkeys(wanted) if wanted.count(name) > 1]
    if kind == "input":  # An output may be left out; a runtime cannot run without one of its inputs.
        problems += [f"input {name!r} is left out." for name in known if name not in wanted]
    if problems:
        raise BackendError(
            f"{model}: {' '.join(problems)} The file has: {', '.join(known)}. "
            f"Correct the names of this variant in the bundle's manifest, or leave them out for the file's own order."
        )
    return [known.index(name) for name in wanted]


def matches(array: Any, info: TensorInfo) -> bool:
    """Whether an array fits a tensor; -1 in the tensor's shape takes any size."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == info.dtype
        and array.ndim == len(info.shape)
        and all(want in (-1, got) for got, want in zip(array.shape, info.shape, strict=True))
    )


def input_error(model: str, infos: Sequence[TensorInfo], inputs: Sequence[Any]) -> BackendError:
    """The error for inputs that do not fit, naming every one that does not, with its fix."""
    if len(inputs) != len(infos):
        names = ", ".join(f"{info.name} {info.dtype} {info.shape}" for info in infos)
        return BackendError(
            f"{model}: got {len(inputs)} inputs, expected {len(infos)}. Pass one array each, in this order: {names}."
        )
    problems = []
    for got, info in zip(inputs, infos, strict=True):
        if matches(got, info):
            continue
        if not isinstance(got, np.ndarray):
            problems.append(
                f"input {info.name!r}: got {type(got).__name__}, expected a numpy array {info.dtype} {info.shape}. "
                f"Wrap it: numpy.asarray(value, {str(info.dtype)!r})."
            )
            continue
        text = f"input {info.name!r}: got {got.dtype} {got.shape}, expected {info.dtype} {info.shape}."
        if got.dtype != info.dtype:
            text += f" Convert it: array.astype({str(info.dtype)!r})."
        if not _shape_fits(got, info.shape):
            text += f" {_shape_fix(got, info.shape)}"
        problems.append(text)
    return BackendError(f"{model}: " + "\n  ".join(problems))


def _shape_fits(got: NDArray[Any], shape: tuple[int, ...]) -> bool:
    return got.ndim == len(shape) and all(want in (-1, have) for have, want in zip(got.shape, shape, strict=True))


def _shape_fix(got: NDArray[Any], shape: tuple[int, ...]) -> str:
    if (1, *got.shape) == shape:
        return "Add the batch axis: array[None]."
    if -1 not in shape and got.size == int(np.prod(shape)):
        return f"Bring it into shape: array.reshape({shape}), or transpose it if the layout (NCHW, NHWC) differs."
    return "Resize or pad it to that shape, or convert the model again for this shape."


def closed_error(model: str) -> BackendError:
    """The error for a session that is used after its end."""
    return BackendError(f"{model}: the session is closed. Open the model again; close() ends a session for good.")


def parse_options(backend: str, extra: dict[str, Any], kind: type[OptionsT]) -> OptionsT:
    """The backend's own options as its type.

    Raises:
        BackendError: An option is unknown (with the nearest one) or of the wrong type.
    """
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = [name for name in extra if name not in known]
    if unknown:
        problems = " ".join(f"option {name!r} is unknown.{nearest(name, known)}" for name in unknown)
        raise BackendError(
            f"backend {backend}: {problems} Known: {', '.join(sorted(known))}. Correct the backend's options in the "
            f"device profile."
        )
    try:
        return msgspec.convert(extra, kind)
    except msgspec.ValidationError as error:
        raise BackendError(
            f"backend {backend}: options {extra}: {error}. Correct the backend's options in the device profile."
        ) from error
