"""Reading `Contract.options` into a task's own type, with every problem of them at once."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import msgspec

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every task's options. Each field has a default, so that a bundle without options works."""


OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def read_options(contract: Contract, type_: type[OptionsT]) -> OptionsT:
    """Convert ``contract.options`` to ``type_``.

    Args:
        contract: Its ``task`` names the place in messages.
        type_: A struct whose fields are the known options, by their encoded names.

    Raises:
        TaskError: Unknown options (each with the nearest known one) or values of a wrong type or range; all of them.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    problems: list[str] = []
    for name, value in contract.options.items():
        where = f"option {name!r} of task {contract.task!r}"
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            problems.append(f"{where} is unknown.{hint} Known: {', '.join(sorted(fields)) or 'none'}.")
            continue
        try:
            msgspec.convert(value, fields[name].type)
        except msgspec.ValidationError as error:
            problems.append(f"{where} is {value!r}: {error}.")
    if problems:
        raise TaskError("\n".join(problems))
    try:
        return msgspec.convert(dict(contract.options), type_)
    except msgspec.ValidationError as error:  # what only the whole shows: __post_init__ of the struct
        raise TaskError(f"options of task {contract.task!r}: {error}.") from error


def as_json(options: msgspec.Struct) -> dict[str, Any]:
    """The options as plain data, defaults included, for reports and for `edgesdk inspect`."""
    built: dict[str, Any] = msgspec.to_builtins(options)
    return built
