"""The rule that every number of a profile has a source, and the table that says which.

``source:`` stands in the group of the number, as one id for all of them or as a mapping of keys to ids; a group without
one takes that of the group around it. The rule is checked file by file, before ``extends`` merges them: a number and its
source stand in the same file, so that overriding a number cannot silently inherit the source of another one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union

from edgesdk.profiles.model import DeviceProfile, Version
from edgesdk.schema.tree import Mapping, Node, Problem, Scalar, Sequence
from edgesdk.schema.types import fields, is_struct, shape

_VERSION = shape(Version).meta[0].pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number in a profile's file."""

    path: str
    """Keys with dots, ``cpu.clusters[0].clock``."""
    node: Scalar
    group: str
    """Path of the group that it stands in."""
    key: str
    sources: tuple[str, str | None]
    """Id of its source ('' is none), and the path of the group that names it."""


def numbers(root: Node) -> Iterator[Number]:
    """All numbers of a profile's tree, in the order of the file."""
    yield from _walk(DeviceProfile, root, "", "", "", ("", None))


def check(root: Node, known: set[str]) -> list[Problem]:
    """Numbers without a source, and sources that are not described.

    Args:
        root: One file's tree, before merging.
        known: Ids under ``sources`` of this file and of those it extends.
    """
    problems = [
        _bad_source(*found, known) for found in _named_sources(DeviceProfile, root, "") if found[1] not in known
    ]
    for number in numbers(root):
        if number.sources[0]:
            continue
        where = f"'{number.group}'" if number.group else "the profile"
        text = (
            f"{number.path}: {number.node.text} has no source. Add 'source: ID' to {where} (or "
            f"'source: {{{number.key}: ID}}'), with ID described under 'sources'. Known: {', '.join(sorted(known)) or 'none'}."
        )
        problems.append(Problem(file=number.node.file, line=number.node.line, text=text))
    return problems


def _walk(type_: Any, node: Node, path: str, group: str, key: str, source: tuple[str, str | None]) -> Iterator[Number]:
    it = shape(type_)
    if it.origin is Union:
        members = [member for member in it.args if member is not type(None)]
        if len(members) == 1:
            yield from _walk(members[0], node, path, group, key, source)
        return
    if is_struct(it.type) and isinstance(node, Mapping):
        default, by_key = _declared(node)
        around = (default, path) if default else source
        for one in fields(it.type):
            if one.key != "source" and one.key in node.entries:
                named = (by_key[one.key], path) if one.key in by_key else around
                below = f"{path}.{one.key}" if path else one.key
                yield from _walk(one.type, node.entries[one.key].node, below, path, one.key, named)
    elif it.origin is tuple and isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _walk(it.args[0], item, f"{path}[{index}]", group, key, source)
    elif isinstance(node, Scalar) and node.value is not None and _is_number(it, node):
        yield Number(path=path, node=node, group=group, key=key, sources=source)


def _is_number(it: Any, node: Scalar) -> bool:
    if it.unit is not None or it.type in (int, float):
        return not isinstance(node.value, bool)
    return any(meta.pattern == _VERSION for meta in it.meta)


def _declared(node: Mapping) -> tuple[str, dict[str, str]]:
    entry = node.entries.get("source")
    if entry is None:
        return "", {}
    if isinstance(entry.node, Mapping):
        pairs = ((key, inner.node) for key, inner in entry.node.entries.items())
        return "", {key: inner.text for key, inner in pairs if isinstance(inner, Scalar)}
    return (entry.node.text, {}) if isinstance(entry.node, Scalar) else ("", {})


def _named_sources(type_: Any, node: Node, path: str) -> Iterator[tuple[str, str, Scalar]]:
    """Every mention of a source: group, id, place; keys of a mapping that the group does not have, too."""
    it = shape(type_)
    if it.origin is Union:
        for member in it.args:
            if member is not type(None):
                yield from _named_sources(member, node, path)
    elif it.origin is tuple and isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _named_sources(it.args[0], item, f"{path}[{index}]")
    elif is_struct(it.type) and isinstance(node, Mapping):
        entry = node.entries.get("source")
        if entry is not None and isinstance(entry.node, Scalar):
            yield path, entry.node.text, entry.node
        elif entry is not None and isinstance(entry.node, Mapping):
            for inner in entry.node.entries.values():
                if isinstance(inner.node, Scalar):
                    yield path, inner.node.text, inner.node
        for one in fields(it.type):
            if one.key not in ("source", "sources") and one.key in node.entries:
                below = f"{path}.{one.key}" if path else one.key
                yield from _named_sources(one.type, node.entries[one.key].node, below)


def _bad_source(group: str, name: str, node: Scalar, known: set[str]) -> Problem:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    text = (
        f"{group}.source: '{name}' is not described under 'sources'.{hint} Known: {', '.join(sorted(known)) or 'none'}."
    )
    return Problem(file=node.file, line=node.line, text=text)
