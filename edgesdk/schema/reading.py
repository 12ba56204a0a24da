"""Reads YAML files into Structs, and remembers where everything stood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from edgesdk.errors import ConfigError
from edgesdk.schema.decode import BAD, Decoder
from edgesdk.schema.tree import MAX_BYTES, Mapping, Node, Problem, Sequence, TreeError, compose

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Document(Generic[T]):
    """A value together with the places of its parts, for checks that need several parts at once.

    Use::

        document = read_document(path, AppConfig)
        for name, stream in document.value.streams.items():
            if stream.source not in document.value.sources:
                document.add(("streams", name, "source"), f"source {stream.source!r} is unknown. ...")
        document.check()
    """

    value: T
    root: Node
    error: type[ConfigError] = ConfigError
    problems: list[Problem] = field(default_factory=list)

    def where(self, *keys: str | int) -> str:
        """``file:line`` of a part by its keys in the file; the nearest part that exists, if it does not."""
        node, line = self._find(keys)
        return f"{node.file}:{line}"

    def add(self, keys: Iterable[str | int], text: str) -> None:
        """Note a problem at a part; :meth:`check` raises them together."""
        path = tuple(keys)
        node, line = self._find(path)
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
        self.problems.append(Problem(file=node.file, line=line, text=f"{dotted}: {text}" if dotted else text))

    def check(self) -> T:
        """The value, if no problem was noted.

        Raises:
            ConfigError: With all that were.
        """
        raise_problems(self.problems, self.error)
        return self.value

    def _find(self, keys: Iterable[str | int]) -> tuple[Node, int]:
        node, line = self.root, self.root.line
        for key in keys:
            if isinstance(node, Mapping) and str(key) in node.entries:
                entry = node.entries[str(key)]
                node, line = entry.node, entry.line
            elif isinstance(node, Sequence) and isinstance(key, int) and key < len(node.items):
                node = node.items[key]
                line = node.line
            else:
                break
        return node, line


def read_yaml(path: Path, type_: type[T], *, error: type[ConfigError] = ConfigError) -> T:
    """Read a YAML file into ``type_``.

    Args:
        path: The file; at most 1 MiB of UTF-8.
        type_: A msgspec Struct (or any type that :meth:`Decoder.decode` knows). Unknown keys are always refused.
        error: What to raise.

    Raises:
        ConfigError: (or ``error``) every problem of the file at once, as ``file:line: what, expected, fix``.
    """
    return read_document(path, type_, error=error).value


def parse_yaml(text: str, type_: type[T], *, file: str = "<string>", error: type[ConfigError] = ConfigError) -> T:
    """Like :func:`read_yaml`, from a text; ``file`` is its name in messages."""
    return parse_document(text, type_, file=file, error=error).value


def read_document(path: Path, type_: type[T], *, error: type[ConfigError] = ConfigError) -> Document[T]:
    """Like :func:`read_yaml`, with the places kept."""
    return decode_document(read_tree(path, error=error), type_, error=error)


def parse_document(
    text: str, type_: type[T], *, file: str = "<string>", error: type[ConfigError] = ConfigError
) -> Document[T]:
    """Like :func:`read_document`, from a text."""
    try:
        root = compose(text, file=file)
    except TreeError as problems:
        raise error([str(problem) for problem in problems.problems]) from problems
    return decode_document(root, type_, error=error)


def read_tree(path: Path, *, error: type[ConfigError] = ConfigError) -> Node:
    """Read a YAML file into a tree.

    Raises:
        ConfigError: (or ``error``) the file cannot be read, or is no YAML that is read here.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise error([f"{path}:1: is larger than {MAX_BYTES} bytes, the most that is read here."])
        return compose(content.decode("utf-8-sig"), file=str(path))
    except FileNotFoundError as missing:
        raise error([f"{path}: there is no such file. Check the path; it is relative to {Path.cwd()}."]) from missing
    except UnicodeDecodeError as bad:
        line = bad.object[: bad.start].count(b"\n") + 1
        raise error(
            [f"{path}:{line}: byte 0x{bad.object[bad.start]:02x} is no UTF-8. Save the file as UTF-8."]
        ) from bad
    except OSError as bad:
        raise error([f"{path}: cannot be read: {bad.strerror or bad}."]) from bad
    except TreeError as problems:
        raise error([str(problem) for problem in problems.problems]) from problems


def decode_document(root: Node, type_: type[T], *, error: type[ConfigError] = ConfigError) -> Document[T]:
    """Decode a tree (read, or put together from several files) into ``type_``.

    Raises:
        ConfigError: (or ``error``) every problem at once.
    """
    decoder = Decoder()
    value = decoder.decode(type_, root)
    raise_problems(decoder.problems, error)
    assert value is not BAD  # BAD always comes with a problem
    return Document(value=value, root=root, error=error)


def raise_problems(problems: list[Problem], error: type[ConfigError]) -> None:
    """Raise ``error`` with these problems by file and line; nothing if there are none."""
    if problems:
        files = list(dict.fromkeys(problem.file for problem in problems))
        ordered = sorted(problems, key=lambda problem: (files.index(problem.file), problem.line))
        raise error(list(dict.fromkeys(map(str, ordered))))
