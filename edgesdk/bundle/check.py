"""What the types of the manifest cannot say: names, ranges, and references between its parts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from edgesdk.bundle.limits import MAX_FILES, MAX_TOTAL_BYTES, RESERVED, clash_problems, name_problem
from edgesdk.bundle.manifest import (
    AudioInput,
    Contract,
    ImageInput,
    InputSpec,
    Manifest,
    OutputSpec,
    Quantization,
    StateInput,
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MAX_ELEMENTS = 2**31
_CHANNELS = {"RGB": 3, "BGR": 3, "GREY": 1}


def manifest_problems(manifest: Manifest) -> list[str]:
    """All problems of a manifest, in words; empty where it is sound."""
    return [*_head(manifest), *_files(manifest), *_variants(manifest), *_contract(manifest.contract)]


def _head(manifest: Manifest) -> Iterator[str]:
    if not _NAME.match(manifest.name):
        yield f"name is {manifest.name[:70]!r}, expected lower-case letters, digits and '-', at most 64"
    if manifest.version < 1:
        yield f"version is {manifest.version}, expected 1 or more"
    if not manifest.variants:
        yield "variants is empty, expected at least one"


def _files(manifest: Manifest) -> Iterator[str]:
    for name, entry in manifest.files.items():
        problem = name_problem(name)
        if problem is not None:
            yield f"files: {problem}"
        if name.lower() in RESERVED:
            yield f"files: {name!r} may not be listed: it is one of the two that describe the others"
        if not _SHA256.match(entry.sha256):
            yield f"files: sha256 of {name!r} is {entry.sha256[:70]!r}, expected 64 lower-case hexadecimal digits"
        if not 0 <= entry.size_bytes <= MAX_TOTAL_BYTES:
            yield f"files: size_bytes of {name!r} is {entry.size_bytes}, expected 0 to {MAX_TOTAL_BYTES}"
    if len(manifest.files) > MAX_FILES - len(RESERVED):
        yield f"files: has {len(manifest.files)}, expected at most {MAX_FILES - len(RESERVED)}"
    for problem in clash_problems(manifest.files):
        yield f"files: {problem}"


def _variants(manifest: Manifest) -> Iterator[str]:
    seen: set[str] = set()
    for variant in manifest.variants:
        where = f"variant {variant.id[:70]!r}"
        if not _NAME.match(variant.id):
            yield f"{where}: expected an id of lower-case letters, digits and '-'"
        if variant.id in seen:
            yield f"{where}: is there twice, expected once"
        seen.add(variant.id)
        if variant.file not in manifest.files:
            yield f"{where}: its file {variant.file[:70]!r} is not listed in files"
        for kind, own, due in (
            ("inputs", variant.inputs, manifest.contract.inputs),
            ("outputs", variant.outputs, manifest.contract.outputs),
        ):
            if len(own) != len(due):
                yield f"{where}: names {len(own)} {kind}, the contract has {len(due)}"
            if len(set(own)) != len(own):
                yield f"{where}: names one of its {kind} twice"


def _contract(contract: Contract) -> Iterator[str]:
    if not contract.inputs or not contract.outputs:
        yield "contract: expected at least one input and one output"
    for kind, specs in (("input", contract.inputs), ("output", contract.outputs)):
        if len({spec.name for spec in specs}) != len(specs):
            yield f"contract: two {kind}s have the same name"
        for spec in specs:
            yield from _tensor(spec, f"contract: {kind} {spec.name[:70]!r}")
    outputs = {spec.name: spec for spec in contract.outputs}
    for spec in contract.inputs:
        yield from _source(spec, outputs, f"contract: input {spec.name[:70]!r}")
    for output in contract.outputs:
        yield from _branches(output)


def _tensor(spec: InputSpec | OutputSpec, where: str) -> Iterator[str]:
    if any(size < 1 for size in spec.shape) or math.prod(spec.shape) > _MAX_ELEMENTS:
        yield f"{where}: shape is {list(spec.shape)}, expected static sizes from 1, at most {_MAX_ELEMENTS} elements"
    try:
        dtype: np.dtype[np.generic] | None = np.dtype(spec.dtype)
    except (TypeError, ValueError):  # numpy raises either for strings that it does not know
        dtype = None
    if dtype is None or dtype.kind not in "fiub" or dtype.name != spec.dtype:
        yield f"{where}: dtype is {spec.dtype[:30]!r}, expected a numpy name such as float32, int8 or int64"
    if spec.quantization is not None:
        yield from _quantization(spec.quantization, spec.shape, where)


def _quantization(quantization: Quantization, shape: tuple[int, ...], where: str) -> Iterator[str]:
    count = len(quantization.scale)
    if count != len(quantization.zero_point):
        yield f"{where}: quantization has {count} scales, but {len(quantization.zero_point)} zero points"
    if not all(scale > 0 and math.isfinite(scale) for scale in quantization.scale):
        yield f"{where}: quantization has a scale that is not positive"
    if quantization.axis is None:
        expected = 1
    elif 0 <= quantization.axis < len(shape):
        expected = shape[quantization.axis]
    else:
        yield f"{where}: quantization axis is {quantization.axis}, the shape is {list(shape)}"
        return
    if count != expected:
        yield f"{where}: quantization has {count} scales, expected {expected}"


def _source(spec: InputSpec, outputs: dict[str, OutputSpec], where: str) -> Iterator[str]:
    source = spec.source
    if isinstance(source, ImageInput):
        yield from _image(source, spec.shape, where)
    elif isinstance(source, AudioInput):
        if source.sample_rate_hz < 1 or source.chunk_samples < 1 or source.context_samples < 0:
            yield f"{where}: sample_rate_hz and chunk_samples must be positive, context_samples not negative"
    elif isinstance(source, StateInput):
        output = outputs.get(source.from_output)
        if output is None:
            yield f"{where}: takes its state from output {source.from_output[:70]!r}, known: {_list(outputs)}"
        elif output.shape != spec.shape or output.dtype != spec.dtype:
            yield (
                f"{where}: is {spec.dtype} {list(spec.shape)}, but its state comes from {output.name!r}, "
                f"which is {output.dtype} {list(output.shape)}"
            )


def _image(source: ImageInput, shape: tuple[int, ...], where: str) -> Iterator[str]:
    channels = _CHANNELS[source.colour]
    for name, values in (("mean", source.mean), ("std", source.std)):
        if len(values) not in (1, channels):
            yield f"{where}: {name} has {len(values)} numbers, expected 1 or {channels} ({source.colour})"
    if not all(math.isfinite(value) for value in (source.scale, *source.mean, *source.std)):
        yield f"{where}: scale, mean and std must be finite"
    if 0.0 in source.std:
        yield f"{where}: std has a zero, expected divisors"
    at = 1 if source.layout == "NCHW" else 3
    if len(shape) != 4 or shape[at] != channels:
        yield f"{where}: shape is {list(shape)}, expected {source.layout} with {channels} channels"
    if not 0 <= source.pad_value <= 255:
        yield f"{where}: pad_value is {source.pad_value}, expected 0 to 255"


def _branches(output: OutputSpec) -> Iterator[str]:
    where = f"contract: output {output.name[:70]!r}"
    rank = len(output.shape)
    for branch in output.branches:
        for name, axis in (("axis", branch.axis), ("class_axis", branch.class_axis)):
            if axis is not None and not -rank <= axis < rank:
                yield f"{where}: branch {branch.name[:70]!r} has {name} {axis}, the shape is {list(output.shape)}"
                return
        if branch.axis is not None:
            size = output.shape[branch.axis]
            stop = size if branch.stop is None else branch.stop
            if not 0 <= branch.start < stop <= size:
                yield f"{where}: branch {branch.name[:70]!r} is {branch.start}:{stop} of an axis of {size}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:10]) or "none"
