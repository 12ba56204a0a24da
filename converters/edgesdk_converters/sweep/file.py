"""`sweep.yaml`: which models, with which recipes, for which boards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from edgesdk.errors import ConfigError, EdgeSdkError
from edgesdk.schema import json_schema, read_document
from edgesdk.schema.reading import Document

SCHEMA_FILE = "sweep.schema.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
DEFAULT = "default"
"""Stands where no recipe is named: what the pipeline does by itself."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's parts: an unknown key is an error."""


class ModelEntry(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model with what belongs to it; paths are relative to the sweep file."""

    source: str
    """Model file or folder, or ``package.module:factory``."""
    calibration: str | None = None
    """Folder of typical inputs; without it float variants only."""
    evaluation: str | None = None
    """Judge on these instead of a held-out fifth."""
    spec: str | None = None
    """``model.yaml``: what the model file does not say."""
    state_dict: str | None = None
    """Weights of a PyTorch module."""
    optimize: Literal["speed", "size"] = "speed"


class SweepFile(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, ModelEntry]
    """By name: lower-case letters, digits and hyphens."""
    boards: tuple[str, ...]
    """Ids of device profiles, or their files."""
    recipes: tuple[str, ...] = ()
    """Names of recipes, or their files; none means what ``edgesdk convert`` does by itself."""
    output: str = "sweep-results"
    """Folder of the results."""


def read_sweep(path: Path) -> SweepFile:
    """Read a sweep file and look at everything that it names.

    Raises:
        ConfigError: Every problem at once, as ``file:line: what, expected, fix``.
    """
    document = read_document(path, SweepFile)
    sweep = document.value
    if not sweep.models:
        document.add(("models",), "is empty. Name at least one: my-model: {source: model.onnx, calibration: samples}.")
    for name, entry in sweep.models.items():
        _check_model(document, name, entry, path.parent)
    _check_list(document, "boards", sweep.boards, path.parent)
    _check_list(document, "recipes", sweep.recipes, path.parent)
    return document.check()


def _check_model(document: Document[SweepFile], name: str, entry: ModelEntry, base: Path) -> None:
    if not _NAME.fullmatch(name):
        fixed = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "model"
        document.add(("models", name), f"expected lower-case letters, digits and '-', at most 64. Write {fixed}.")
    for key in ("source", "calibration", "evaluation", "spec", "state_dict"):
        given = getattr(entry, key)
        if given is None or (key == "source" and _FACTORY.fullmatch(given)):
            continue
        if not (base / given).exists():
            document.add(
                ("models", name, key),
                f"there is no {given!r}. Paths are relative to the folder of this file, {base.resolve()}.",
            )


def _check_list(
    document: Document[SweepFile], key: Literal["boards", "recipes"], given: tuple[str, ...], base: Path
) -> None:
    if not given and key == "boards":
        document.add((key,), "is empty. Name at least one; `edgesdk profile list` shows them.")
    labels: dict[str, int] = {}
    for index, text in enumerate(given):
        try:
            label = label_of(key, text, base)
        except ConfigError as error:
            for problem in error.problems:
                document.add((key, index), problem)
            continue
        except EdgeSdkError as error:
            document.add((key, index), str(error))
            continue
        if label in labels:
            document.add(
                (key, index),
                f"{text!r} is {label!r} again, as entry {labels[label] + 1}. Take one out, or rename its file.",
            )
        labels.setdefault(label, index)


def is_file(text: str) -> bool:
    """Whether a board or recipe is given as a file rather than by name."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def located(text: str, base: Path) -> str | Path:
    """As the loaders take it: a name, or a path that does not depend on the working directory."""
    return (base / text).resolve() if is_file(text) else text


def label_of(key: Literal["boards", "recipes"], text: str, base: Path) -> str:
    """How a board or a recipe is called in the results.

    Raises:
        EdgeSdkError: It is unknown, or its file is wrong.
    """
    if key == "boards":
        from edgesdk.profiles import load_profile

        return load_profile(located(text, base)).id
    from edgesdk_converters.quantize.recipes import load_recipe

    return load_recipe(located(text, base)).name


def sweep_json_schema() -> dict[str, object]:
    """JSON Schema of sweep.yaml, for editors."""
    return json_schema(SweepFile, schema_id=SCHEMA_FILE, title="edgesdk sweep.yaml")
