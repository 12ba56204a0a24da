"""A profile in words: lines for people, plain data for scripts; each number with its source."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Union

import msgspec

from edgesdk.profiles.load import LoadedProfile
from edgesdk.schema.types import fields, is_struct, shape, written

_SECTIONS = (
    "soc", "cpu", "memory", "accelerators", "storage", "thermal", "power", "software", "backends", "recognise"
)  # fmt: skip
_WIDTH = 110


def lines(loaded: LoadedProfile) -> Iterator[str]:
    """The profile for people: sections, values with units, and the sources as footnotes."""
    profile = loaded.profile
    numbers = {name: index for index, name in enumerate(dict.fromkeys(loaded.sources.values()), start=1)}
    yield f"{profile.name}  ({profile.id})"
    chain = " -> ".join(file.stem for file in loaded.files)
    yield f"from {loaded.files[0]}" + (f", extends: {chain}" if len(loaded.files) > 1 else "")
    if profile.description:
        yield ""
        yield from textwrap.wrap(profile.description, _WIDTH)
    by_key = {one.key: one for one in fields(type(profile))}
    for section in _SECTIONS:
        one = by_key[section]
        leaves = list(_leaves(one.type, getattr(profile, one.attribute), section))
        if not leaves:
            continue
        yield ""
        yield section
        width = max(len(path) for path, _ in leaves) - len(section)
        for path, text in leaves:
            label = path[len(section) :].lstrip(".")
            mark = f"  [{numbers[loaded.sources[path]]}]" if path in loaded.sources else ""
            first, *rest = textwrap.wrap(text, _WIDTH - width) or [""]
            yield f"  {label:{width}}  {first}{'' if rest else mark}"
            for row, more in enumerate(rest, start=1):
                yield f"  {'':{width}}  {more}{mark if row == len(rest) else ''}"
    if numbers:
        yield ""
        yield "sources"
    for name, index in numbers.items():
        source = profile.sources[name]
        yield f"  [{index}] {source.status}: {source.title}"
        if source.url:
            yield f"      {source.url}"
        if source.note:
            yield from textwrap.wrap(source.note, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def plain(value: Any) -> Any:
    """Plain data with the attributes' names, whose suffix is the unit: ``memory.size_bytes``."""
    if isinstance(value, msgspec.Struct):
        return {
            one.attribute: plain(getattr(value, one.attribute))
            for one in fields(type(value))
            if getattr(value, one.attribute) is not None
        }
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _leaves(type_: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    it = shape(type_)
    if it.origin is Union:
        members = [member for member in it.args if member is not type(None)]
        if len(members) == 1 and value is not None:
            yield from _leaves(members[0], value, path)
    elif is_struct(it.type):
        for one in fields(it.type):
            if one.key != "source":
                yield from _leaves(one.type, getattr(value, one.attribute), f"{path}.{one.key}")
    elif it.origin is tuple and value and is_struct(shape(it.args[0]).type):
        for index, item in enumerate(value):
            yield from _leaves(it.args[0], item, f"{path}[{index}]")
    elif it.origin is tuple:
        if value:
            yield path, ", ".join(map(written, value))
    elif isinstance(value, dict):
        if value:
            yield path, msgspec.json.encode(value).decode()
    elif value is not None:
        yield path, it.unit.format(value) if it.unit is not None else written(value)
