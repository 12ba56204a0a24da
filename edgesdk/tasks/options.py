"""The one way a task reads `Contract.options`: into its own msgspec Struct, every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from edgesdk.errors import TaskError

T = TypeVar("T", bound=msgspec.Struct)


def read_options(type_: type[T], options: Mapping[str, Any], task: str) -> T:
    """Validate a contract's options.

    Args:
        type_: Struct with the options as fields; ranges as ``msgspec.Meta``.
        options: What the manifest says.
        task: Name of the task, for the error text.

    Raises:
        TaskError: Unknown keys (with the nearest known one), missing ones, values of a wrong type or out of range;
            one line each.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    known = ", ".join(sorted(fields)) or "none"
    problems: list[str] = []
    for key in options:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            problems.append(f"option {key!r} is unknown.{hint} Known: {known}.")
    for name, field in fields.items():
        if name not in options:
            if field.required:
                problems.append(f"option {name!r} is missing. Add it under `options:` of the model's spec.")
            continue
        try:
            msgspec.convert(options[name], field.type)
        except msgspec.ValidationError as error:
            problems.append(f"option {name!r} is {options[name]!r}: {error}. Correct it in the model's spec.")
    if not problems:
        try:
            return msgspec.convert(dict(options), type_)
        except msgspec.ValidationError as error:  # what a Struct's own __post_init__ refuses
            problems.append(f"{error}. Correct `options:` of the model's spec.")
    raise TaskError("\n".join(f"task {task!r}: {problem}" for problem in problems))
