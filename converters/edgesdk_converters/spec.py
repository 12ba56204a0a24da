"""`model.yaml`: what the model file itself does not say. Read by :func:`read_spec`; every part is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from edgesdk.bundle.manifest import Branch, InputKind
from edgesdk.schema import read_yaml


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's parts: an unknown key is an error."""


class InputHint(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stated about one input."""

    shape: tuple[int, ...] | None = None
    """Static shape, batch included; needed where the file's is dynamic."""
    dtype: Literal["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"] | None = None
    """Element type, where the source does not say: an input of a PyTorch or scikit-learn model is float32 otherwise."""
    source: InputKind | None = None
    """What goes in, by ``kind``: image, audio, state, constant, tensor; the fields are those of the bundle's manifest."""


class OutputHint(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stated about one output."""

    branches: tuple[Branch, ...] = ()
    """Parts that mean one thing each and are judged alone; without them they are searched for in the graph."""
    class_axis: int | None = None
    """Axis along which the whole output is a class vector."""


class ModelSpec(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    task: str | None = None
    """Entry point of group ``edgesdk.tasks``."""
    inputs: dict[str, InputHint] = msgspec.field(default_factory=dict)
    """By input name."""
    outputs: dict[str, OutputHint] = msgspec.field(default_factory=dict)
    """By output name."""
    labels: tuple[str, ...] = ()
    """By class id."""
    labels_file: str | None = None
    """Text file beside the spec, one label per line; instead of ``labels``."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """The task's own options."""
    licence: str | None = None
    """SPDX expression of the weights' licence."""
    licence_source: str | None = None
    fold_input: bool = True
    """Whether the pre-processing of pictures becomes part of the graph, so that uint8 (1, H, W, C) pixels go in. False keeps the
    model's own input for programs that fill it themselves; arrays as calibration samples do so, too."""
    float_nodes: tuple[str, ...] = ()
    """Nodes that stay float in every int8 variant."""


def read_spec(path: Path) -> ModelSpec:
    """Read a spec file, with its labels file.

    Raises:
        ConfigError: Every problem of the file at once, as ``file:line: what, expected, fix``.
    """
    spec = read_yaml(path, ModelSpec)
    if spec.labels_file is None:
        return spec
    from edgesdk.errors import ConfigError

    if spec.labels:
        raise ConfigError([f"{path}: labels and labels_file are both given. Keep one of them."])
    file = path.parent / spec.labels_file
    try:
        # Some editors begin with a mark. Only line feeds end a label: a character list may hold what Unicode calls a line separator.
        lines = file.read_text("utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [
                f"{path}: labels_file {spec.labels_file!r} cannot be read as UTF-8 text: {error}. One label per line, beside {path.name}."
            ]
        ) from error
    return msgspec.structs.replace(spec, labels=tuple(lines) if lines != [""] else (), labels_file=None)
