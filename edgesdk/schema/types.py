"""What a msgspec type says about the file that fills it: shared by the decoder and by the JSON Schema export."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import textwrap
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from edgesdk.schema.units import Unit, unit_of

_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
    Any: "any value",
    Path: "a path",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A type taken apart."""

    type: Any
    """Without Annotated."""
    origin: Any
    """``list``, ``dict``, ``Union``, ``Literal`` ... or None."""
    args: tuple[Any, ...]
    unit: Unit | None
    meta: tuple[msgspec.Meta, ...]
    """Constraints; empty where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a Struct as the file sees it."""

    attribute: str
    key: str
    type: Any
    required: bool
    default: Any
    """:data:`msgspec.NODEFAULT` where there is none, or where a factory makes it."""


# By identity: `int | str` and `str | int` are equal and have the same hash, but mean different orders. Each entry holds
# its type, so that the number is not given to another one.
_shapes: dict[int, tuple[Any, Shape]] = {}


def shape(type_: Any) -> Shape:
    """Take a type apart; aliases and nested Annotated are resolved."""
    known = _shapes.get(id(type_))
    if known is None:
        known = _shapes[id(type_)] = (type_, _take_apart(type_))
    return known[1]


def _take_apart(type_: Any) -> Shape:
    unit: Unit | None = None
    meta: tuple[msgspec.Meta, ...] = ()
    while True:
        if get_origin(type_) is Annotated:
            type_, *metadata = get_args(type_)
            unit = unit or unit_of(tuple(metadata))
            meta += tuple(item for item in metadata if isinstance(item, msgspec.Meta))
        elif hasattr(type_, "__value__"):  # a `type X = ...` alias of Python 3.12
            type_ = type_.__value__
        elif hasattr(type_, "__supertype__"):  # NewType
            type_ = type_.__supertype__
        else:
            break
    origin = get_origin(type_)
    if origin in (types.UnionType, Union):
        origin = Union
    return Shape(type=type_, origin=origin, args=get_args(type_), unit=unit, meta=meta)


def is_struct(type_: Any) -> bool:
    """Whether this is a msgspec Struct class."""
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def tag_of(struct: Any) -> tuple[str, str | int] | None:
    """Tag key and value of a tagged Struct."""
    config = struct.__struct_config__
    return None if config.tag is None else (config.tag_field, config.tag)


@cache
def fields(struct: Any) -> tuple[Field, ...]:
    """The fields of a Struct class, in order."""
    return tuple(
        Field(
            attribute=info.name,
            key=info.encode_name,
            type=info.type,
            required=info.required,
            default=info.default,
        )
        for info in msgspec.structs.fields(struct)
    )


@cache
def field_docs(struct: Any) -> dict[str, str]:
    """The docstrings that stand under the fields, inherited ones included; empty where no source is at hand.

    Parses the module's source: for the export, not for programs that start on a board.
    """
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if not is_struct(base) or base is msgspec.Struct:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError, IndentationError):
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for before, statement in itertools.pairwise(statements):
            if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
                continue
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[before.target.id] = " ".join(text.split()).replace("``", "`")
    return found


def describe(type_: Any) -> str:
    """What is expected, in words: ``a time such as 100ms``, ``one of RGB, BGR`` ..."""
    it = shape(type_)
    if it.unit is not None:
        return f"a {it.unit.quantity} such as {it.unit.examples[0]}"
    if it.origin is Literal:
        values = ", ".join(map(written, it.args))
        return f"one of {values}" if len(it.args) > 1 else values
    if it.origin is Union:
        members = [arg for arg in it.args if arg is not type(None)]
        if all(is_struct(member) for member in members):
            return "keys and values" if len(members) == 1 else f"a mapping with {tags(members)}"
        return " or ".join(dict.fromkeys(map(describe, members)))
    if it.origin in (list, tuple, set, frozenset):
        return _describe_list(it)
    if it.origin is dict:
        return f"a mapping of names to {describe(it.args[1])}"
    if is_struct(it.type):
        return "a mapping"
    if isinstance(it.type, type) and issubclass(it.type, enum.Enum):
        return f"one of {', '.join(written(member.value) for member in it.type)}"
    return _WORDS.get(it.type, getattr(it.type, "__name__", str(it.type)))


def _describe_list(it: Shape) -> str:
    if it.origin is tuple and it.args and it.args[-1] is not Ellipsis:
        return f"a list of {len(it.args)}: {', '.join(map(describe, it.args))}"
    return f"a list of {describe(it.args[0])}" if it.args else "a list"


_LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def single(metas: Iterable[msgspec.Meta]) -> Iterator[msgspec.Meta]:
    """Each constraint by itself."""
    for meta in metas:
        for name in _LIMITS:
            if getattr(meta, name) is not None:
                yield msgspec.Meta(**{name: getattr(meta, name)})


def limits(metas: Iterable[msgspec.Meta], it: Shape) -> str:
    """Constraints of a type in words: ``at least 1s``, ``at most 64 characters``."""

    def number(value: float) -> str:
        return it.unit.format(value) if it.unit is not None else f"{value:g}"

    of = "characters" if it.type in (str, Path) else "of them"
    found = []
    for meta in metas:
        bounds = (("at least", meta.ge), ("more than", meta.gt), ("at most", meta.le), ("less than", meta.lt))
        found += [f"{words} {number(value)}" for words, value in bounds if value is not None]
        found += [f"a multiple of {number(meta.multiple_of)}"] if meta.multiple_of is not None else []
        found += [f"at least {meta.min_length} {of}"] if meta.min_length is not None else []
        found += [f"at most {meta.max_length} {of}"] if meta.max_length is not None else []
        found += [f"text that matches {meta.pattern}"] if meta.pattern is not None else []
    return " and ".join(found)


def tags(structs: Iterable[Any]) -> str:
    """``kind: image, audio`` of a tagged union."""
    named = [tag for tag in map(tag_of, structs) if tag is not None]
    return f"{named[0][0]}: {', '.join(str(tag) for _, tag in named)}" if named else "other keys"


def written(value: Any) -> str:
    """A value as it stands in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
