"""Pins dynamic input shapes: edge runtimes plan memory once, and int8 kernels want to know their sizes."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

import onnx

from edgesdk.errors import ConversionError
from edgesdk_converters.frontends.api import Dim, SourceModel, Tensor
from edgesdk_converters.spec import ModelSpec

_CHANNELS = (1, 3, 4)
_NO_BATCH = ("seq", "len", "time", "step", "frame", "sample", "token", "height", "width")
"""In the name of a size: not the batch."""


def resolve_shapes(source: SourceModel, spec: ModelSpec) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Static shape of every input, and what had to be assumed for it.

    In this order: the spec's ``shape``; what it says of a dynamic size of the same name in another input; metadata ``imgsz`` for the two
    spatial sizes; 1 for a dynamic batch. Anything else that is dynamic cannot be guessed.

    Raises:
        ConversionError: Dynamic sizes are left (all of them are listed, with the spec lines that fix them), or the spec's
            shape or type contradicts the file's, or names an input that is not there.
    """
    problems = _unknown(spec.inputs, [tensor.name for tensor in source.inputs], source.file, "inputs")
    problems += _unknown(spec.outputs, [tensor.name for tensor in source.outputs], source.file, "outputs")
    shapes: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    lines: list[str] = []
    named = _named_sizes(source, spec)
    for tensor in source.inputs:
        hint = spec.inputs.get(tensor.name)
        if hint is not None and hint.dtype not in (None, tensor.dtype):
            problems.append(
                f"{source.file}: input {tensor.name!r} is {tensor.dtype}, but the spec says {hint.dtype}. Leave dtype out: the file says it."
            )
        if hint is not None and hint.shape is not None:
            problem = _contradiction(tensor, hint.shape, source.file)
            if problem:
                problems.append(problem)
            shapes[tensor.name] = hint.shape
            continue
        dims, assumed = _guess(tensor, source.metadata, named)
        notes += assumed
        left = [index for index, dim in enumerate(dims) if not isinstance(dim, int)]
        if left:
            lines.append(
                f"  {tensor.name}: {{shape: [{', '.join(_example(index, dim, dims) for index, dim in enumerate(dims))}]}}"
            )
            problems += [
                f"{source.file}: input {tensor.name!r} has a dynamic size at position {index}"
                f"{f' ({tensor.shape[index]})' if tensor.shape[index] else ''} of {_text(tensor.shape)}"
                for index in left
            ]
        shapes[tensor.name] = tuple(dim for dim in dims if isinstance(dim, int))
    if problems:
        fix = (
            [
                "State the sizes in a file and pass it with --spec (numbers in <> are yours to choose):",
                "inputs:",
                *lines,
            ]
            if lines
            else []
        )
        raise ConversionError("\n".join([*problems, *fix]))
    return shapes, notes


def pin_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A copy of ``model`` whose inputs have these static shapes; inner shapes are left to be inferred anew."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type
            kind.shape.ClearField("dim")
            for size in shapes[value.name]:
                kind.shape.dim.add().dim_value = size
    del copy.graph.value_info[:]
    return copy


def _named_sizes(source: SourceModel, spec: ModelSpec) -> dict[str, int]:
    """Dynamic sizes by name, as far as the spec states one size for each."""
    found: dict[str, set[int]] = {}
    for tensor in source.inputs:
        hint = spec.inputs.get(tensor.name)
        if hint is not None and hint.shape is not None and len(hint.shape) == len(tensor.shape):
            for dim, size in zip(tensor.shape, hint.shape, strict=True):
                if isinstance(dim, str):
                    found.setdefault(dim, set()).add(size)
    return {name: sizes.pop() for name, sizes in found.items() if len(sizes) == 1}


def _is_batch(dims: Sequence[Dim]) -> bool:
    """Whether the first size may be taken as a batch: not of a vector (the samples of a recording), nor where its name says otherwise."""
    first = str(dims[0] or "").lower()
    if len(dims) == 1:
        return first in {"batch", "batch_size", "n", "b"}
    return not any(word in first for word in _NO_BATCH)


def _guess(tensor: Tensor, metadata: Mapping[str, str], named: Mapping[str, int]) -> tuple[list[Dim], list[str]]:
    dims: list[Dim] = [named.get(dim, dim) if isinstance(dim, str) else dim for dim in tensor.shape]
    notes: list[str] = []
    spatial = _spatial(dims)
    size = _imgsz(metadata.get("imgsz"))
    if size is not None and spatial is not None:
        for index, value in zip(spatial, size, strict=True):
            if not isinstance(dims[index], int):
                dims[index] = value
    if dims and not isinstance(dims[0], int) and _is_batch(dims):
        dims[0] = 1
        notes.append(
            f"input {tensor.name!r}: its dynamic batch size is taken as 1 (fix it: inputs: {{{tensor.name}: {{shape: [...]}}}})"
        )
    return dims, notes


def _spatial(dims: Sequence[Dim]) -> tuple[int, int] | None:
    if len(dims) != 4:
        return None
    if dims[1] in _CHANNELS:
        return 2, 3
    return (1, 2) if dims[3] in _CHANNELS else None


def _imgsz(text: str | None) -> tuple[int, int] | None:
    """Height and width from Ultralytics' ``imgsz``: ``[640, 640]`` or ``640``."""
    try:
        value = ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return None
    if isinstance(value, int) and value > 0:
        return value, value
    if (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(item, int) and item > 0 for item in value)
    ):
        return value[0], value[1]
    return None


def _contradiction(tensor: Tensor, shape: Sequence[int], file: str) -> str | None:
    fits = len(shape) == len(tensor.shape) and all(
        size > 0 and (not isinstance(dim, int) or dim == size) for size, dim in zip(shape, tensor.shape, strict=True)
    )
    if fits:
        return None
    return (
        f"{file}: input {tensor.name!r} has shape {_text(tensor.shape)}, but the spec says {list(shape)}. "
        "Give positive sizes, and change only those that the file leaves open."
    )


def _unknown(named: Mapping[str, object], known: Sequence[str], file: str, kind: str) -> list[str]:
    return [
        f"{file}: the spec's {kind} name {name!r}, which the model does not have. It has: {', '.join(known)}."
        for name in named
        if name not in known
    ]


def _example(index: int, dim: Dim, dims: Sequence[Dim]) -> str:
    if isinstance(dim, int):
        return str(dim)
    spatial = _spatial(dims)
    if spatial is not None and index in spatial:
        return "<height>" if index == spatial[0] else "<width>"
    return f"<{dim or 'size'}>"


def _text(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join(str(dim) if dim is not None else "?" for dim in shape) + "]"
