"""Reading an app.yaml: decode, check, and make its paths absolute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.app.checks import check_models, check_names, check_references, check_settings, check_streams
from edgesdk.app.config import AppConfig, config_type
from edgesdk.errors import ConfigError
from edgesdk.schema import Document
from edgesdk.schema.reading import decode_document, read_tree
from edgesdk.schema.tree import Node, TreeError, compose


def load_config(path: Path, *, check_files: bool = True) -> AppConfig:
    """Read and check an app.yaml; every relative path in it is taken from its own folder.

    Args:
        path: The file.
        check_files: Also look whether the bundles are there.

    Raises:
        ConfigError: All problems at once, ``file:line: what, expected, fix``.
    """
    return _checked(read_tree(path), base=path.absolute().parent, check_files=check_files)


def parse_config(text: str, *, base: Path, file: str = "<string>", check_files: bool = False) -> AppConfig:
    """Like :func:`load_config`, from a text."""
    try:
        root = compose(text, file=file)
    except TreeError as error:
        raise ConfigError([str(problem) for problem in error.problems]) from error
    return _checked(root, base=base, check_files=check_files)


def _checked(root: Node, *, base: Path, check_files: bool) -> AppConfig:
    references: Document[None] = Document(value=None, root=root)
    check_references(references)
    try:
        document = decode_document(root, config_type())
    except ConfigError as error:
        # What does not decode cannot be checked further; but a misspelt name need not wait for the next run.
        problems = [*error.problems, *map(str, references.problems)]
        raise ConfigError(sorted(problems, key=_line)) from error
    document.problems += references.problems
    config = document.value
    check_names(document)
    check_streams(document)
    check_models(document, base=base, check_files=check_files)
    resolved: AppConfig = _resolve(config, base)
    if check_files:
        check_settings(document, resolved.telemetry)
    document.check()
    return resolved


def _line(problem: str) -> int:
    found = re.match(r".*?:(\d+): ", problem)
    return int(found[1]) if found else 0


def _resolve(value: Any, base: Path, key: str = "") -> Any:
    """``value`` with every relative path in it made absolute: Path values, and texts called ``path`` or ``..._file``."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, str) and (key == "path" or key.endswith("_file")):
        return str(base / Path(value).expanduser())
    if isinstance(value, tuple):
        return tuple(_resolve(item, base) for item in value)
    if isinstance(value, dict):
        return {name: _resolve(item, base) for name, item in value.items()}
    if isinstance(value, msgspec.Struct):
        changed = {field: _resolve(getattr(value, field), base, field) for field in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    return value
