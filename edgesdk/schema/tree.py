"""YAML text to a tree of nodes that know their file and line: safe, bounded, no duplicate keys.

Scalars follow the core schema of YAML 1.2: only ``true`` and ``false`` are booleans (``on``, ``no`` and ``yes`` are
words), only decimal, ``0x`` and ``0o`` numbers are numbers, and a date is a word. Files are what people and strangers
write, so nothing in one can name a Python type, and size, depth and the expansion of aliases are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1 << 20
"""Largest file; the largest real app.yaml is a hundredth of it."""
MAX_DEPTH = 40
"""Deepest nesting; ours is below ten, and Python's own recursion ends near 1000."""
MAX_NODES = 100_000
"""Nodes after aliases are expanded, so that ten lines cannot mean a billion values."""

_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII
)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
    "tag:yaml.org,2002:seq": list,
    "tag:yaml.org,2002:map": dict,
}
_LONGEST_INT = 32
"""Digits of an integer; longer ones stay text (and Python refuses to read very long ones)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A single value."""

    file: str
    line: int
    """Counted from 1."""
    value: str | int | float | bool | None
    text: str
    """As written."""
    weight: int = 1
    """Nodes in this subtree, aliases expanded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list."""

    file: str
    line: int
    items: tuple[Node, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Keys and values, in the order of the file."""

    file: str
    line: int
    entries: dict[str, Entry]
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key's place and its value."""

    file: str
    line: int
    node: Node


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        """``file:line: text``."""
        return f"{self.file}:{self.line}: {self.text}"


class TreeError(ValueError):
    """The text is no YAML that is read here.

    Attributes:
        problems: All that were found, at least one.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def compose(text: str, *, file: str) -> Node:
    """Read one YAML document.

    Args:
        text: At most 1 MiB.
        file: Name for messages.

    Returns:
        Its tree. An alias is the very node that its anchor names.

    Raises:
        TreeError: Not YAML, too large, too deep, more than one document, a duplicate key, a foreign tag, an alias
            that contains itself or expands to too much.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise TreeError([_problem(file, 1, f"{size} bytes are too large; at most {MAX_BYTES} bytes are read here.")])
    return _Composer(text, file).document()


def to_python(node: Node) -> Any:
    """The node as str, int, float, bool, None, list and dict."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_python(item) for item in node.items]
    return {key: to_python(entry.node) for key, entry in node.entries.items()}


def from_python(value: Any, *, file: str, line: int = 1) -> Node:
    """The reverse of :func:`to_python`, all at one place; for defaults that are merged into a tree."""
    if isinstance(value, dict):
        entries = {
            str(key): Entry(file=file, line=line, node=from_python(item, file=file, line=line))
            for key, item in value.items()
        }
        return Mapping(file=file, line=line, entries=entries)
    if isinstance(value, list | tuple):
        return Sequence(file=file, line=line, items=tuple(from_python(item, file=file, line=line) for item in value))
    return Scalar(file=file, line=line, value=value, text=str(value))


def _problem(file: str, line: int, text: str) -> Problem:
    return Problem(file=file, line=line, text=text)


@dataclass(slots=True)
class _Composer:
    text: str
    file: str
    anchors: dict[str, Node | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    depth: int = 0

    def document(self) -> Node:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            events = yaml.parse(self.text, Loader=loader)
            next(events)  # the stream's start
            first = next(events)
            if isinstance(first, yaml.StreamEndEvent):
                return Scalar(file=self.file, line=1, value=None, text="")
            root = self._node(next(events), events)
            next(events)  # the document's end
            after = next(events)
            if not isinstance(after, yaml.StreamEndEvent):
                raise self._fail(after, "a second document starts here; one file holds one document. Remove the '---'.")
        except yaml.YAMLError as error:
            raise TreeError([*self.problems, self._syntax(error)]) from error
        if self.problems:
            raise TreeError(self.problems)
        return root

    def _node(self, event: Any, events: Iterator[Any]) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None and event.tag not in _TAGS and event.tag != "!":
            raise self._fail(event, f"tag {_shown(event.tag)} is not allowed: only plain values are read. Remove it.")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._fail(event, f"nested deeper than {MAX_DEPTH} levels.")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events)
        else:
            node = self._mapping(event, events)
        self.depth -= 1
        if node.weight > MAX_NODES:
            raise self._fail(event, f"means more than {MAX_NODES} values once its aliases are expanded.")
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            known = ", ".join(self.anchors) or "none"
            raise self._fail(event, f"alias '*{event.anchor}' has no anchor above it. Known: {known}.")
        node = self.anchors[event.anchor]
        if node is None:
            raise self._fail(event, f"alias '*{event.anchor}' stands inside its own anchor.")
        return node

    def _scalar(self, event: Any) -> Scalar:
        line = event.start_mark.line + 1
        value = resolve(event.value) if event.implicit[0] else event.value
        wanted = _TAGS.get(event.tag) if event.tag else None
        if wanted is float and type(value) is str:
            value = resolve(event.value)
        if wanted is str:
            value = event.value
        elif wanted is not None:
            value = resolve(event.value)
            if type(value) is int and wanted is float:
                value = float(value)
            if type(value) is not wanted:
                raise self._fail(event, f"{event.value!r} does not fit its tag {_shown(event.tag)}. Remove the tag.")
        return Scalar(file=self.file, line=line, value=value, text=event.value)

    def _sequence(self, start: Any, events: Iterator[Any]) -> Sequence:
        items: list[Node] = []
        weight = 1
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events))
            weight += items[-1].weight
            self._bound(start, weight)
        return Sequence(file=self.file, line=start.start_mark.line + 1, items=tuple(items), weight=weight)

    def _mapping(self, start: Any, events: Iterator[Any]) -> Mapping:
        entries: dict[str, Entry] = {}
        weight = 1
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key_line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise self._fail(event, "a key is a single word here, not a list, a mapping or an alias.")
            key = event.value
            if event.tag is not None and event.tag not in _TAGS:
                raise self._fail(event, f"tag {_shown(event.tag)} is not allowed: only plain values are read.")
            value = self._node(next(events), events)
            weight += 1 + value.weight
            self._bound(start, weight)
            if key in entries:
                text = f"key {key!r} stands here twice; the first is in line {entries[key].line}. Remove one of them."
                self.problems.append(_problem(self.file, key_line, text))
                continue
            entries[key] = Entry(file=self.file, line=key_line, node=value)
        return Mapping(file=self.file, line=start.start_mark.line + 1, entries=entries, weight=weight)

    def _bound(self, start: Any, weight: int) -> None:
        if weight > MAX_NODES:
            raise self._fail(start, f"means more than {MAX_NODES} values once its aliases are expanded.")

    def _fail(self, event: Any, text: str) -> TreeError:
        return TreeError([*self.problems, _problem(self.file, event.start_mark.line + 1, text)])

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else 1
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        lines = self.text.splitlines()
        written = lines[line - 1] if line <= len(lines) else ""
        if written.lstrip(" ").startswith("\t"):
            return _problem(self.file, line, "a tab indents this line. Use spaces.")
        return _problem(self.file, line, f"not YAML: {what}; got {written.strip()[:60]!r}.")


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain (unquoted) scalar means in the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) <= _LONGEST_INT and _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if len(text) <= _LONGEST_INT and _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan"))
    return text


def _shown(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:60]
