"""A tree of nodes to a msgspec Struct, with every problem collected and put in words."""

from __future__ import annotations

import difflib
import enum
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import msgspec

from edgesdk.schema.tree import Mapping, Node, Problem, Scalar, Sequence, resolve, to_python
from edgesdk.schema.types import Field, Shape, describe, fields, is_struct, limits, shape, single, tag_of, written


class Bad(enum.Enum):
    """What a part that has a problem decodes to; never leaves this package."""

    BAD = 0


BAD = Bad.BAD


class Decoder:
    """Walks a type and a tree together.

    Attributes:
        problems: What is wrong, in the order it was met.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def decode(self, type_: Any, node: Node, path: str = "") -> Any:
        """The value of ``type_`` that ``node`` stands for, or ``BAD`` with a problem noted.

        Args:
            type_: Struct, tagged union, Literal, Enum, unit type, str, int, float, bool, Path, list, tuple, set, dict,
                Optional and Union of those, or Any.
            node: The part of the file.
            path: Keys from the root, with dots.
        """
        it = shape(type_)
        value = self._plain(it, node, path)
        if value is BAD:
            return value
        broken = [meta for meta in single(it.meta) if not _meets(value, meta)]
        if broken:
            return self._fail(node, path, f"{_got(node)}, expected {limits(broken, it)}.")
        return value

    def _plain(self, it: Shape, node: Node, path: str) -> Any:
        if it.unit is not None:
            return self._quantity(it, node, path)
        if it.type is Any:
            return to_python(node)
        if it.origin is Union:
            return self._union(it, node, path)
        if it.origin is Literal:
            return self._choice(list(it.args), node, path)
        if it.origin is dict or it.type is dict:
            return self._dict(it, node, path)
        if it.origin in (list, set, frozenset) or it.type is list:
            return self._list(it, node, path)
        if it.origin is tuple:
            return self._tuple(it, node, path)
        if is_struct(it.type):
            return self._struct(it.type, node, path)
        if isinstance(it.type, type) and issubclass(it.type, enum.Enum):
            value = self._choice([member.value for member in it.type], node, path)
            return BAD if value is BAD else it.type(value)
        return self._scalar(it.type, node, path)

    # -- leaves ----------------------------------------------------------------------------------------------------

    def _scalar(self, type_: Any, node: Node, path: str) -> Any:
        if not isinstance(node, Scalar) or (node.value is None and type_ is not type(None)):
            return self._wrong(type_, node, path)
        value = node.value
        if type_ is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) if math.isfinite(value) else self._wrong(type_, node, path)
        if type_ is Path and type(value) is str and value:
            return Path(value)
        if type(value) is type_:
            return value
        return self._wrong(type_, node, path, _repair(type_, node))

    def _quantity(self, it: Shape, node: Node, path: str) -> Any:
        assert it.unit is not None  # the caller looked
        if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            return self._wrong(_unit_type(it), node, path)
        if not isinstance(node.value, str):
            return self._fail(node, path, it.unit.bare(node.text))
        try:
            return it.unit.parse(node.value)
        except ValueError as error:
            return self._fail(node, path, str(error))

    def _choice(self, values: list[Any], node: Node, path: str) -> Any:
        if isinstance(node, Scalar):
            for value in values:
                if type(value) is type(node.value) and value == node.value:
                    return value
        near = _nearest(node.text, map(written, values)) if isinstance(node, Scalar) else None
        hint = f" Did you mean {near!r}?" if near else ""
        known = f" Known: {', '.join(map(written, values))}."
        return self._fail(node, path, f"{_got(node).removeprefix('got ')} is unknown.{hint}{known}")

    # -- containers ------------------------------------------------------------------------------------------------

    def _list(self, it: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Sequence):
            return self._wrong(it.type, node, path, _as_list(node))
        item = it.args[0] if it.args else Any
        values = [self.decode(item, child, f"{path}[{index}]") for index, child in enumerate(node.items)]
        if BAD in values:
            return BAD
        return values if it.origin in (list, None) else it.origin(values)

    def _tuple(self, it: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Sequence):
            return self._wrong(it.type, node, path, _as_list(node))
        if it.args[-1] is Ellipsis:
            types = [it.args[0]] * len(node.items)
        else:
            types = list(it.args)
            if len(node.items) != len(types):
                return self._fail(node, path, f"{_got(node)}, expected {describe(it.type)}.")
        pairs = enumerate(zip(types, node.items, strict=True))
        values = tuple(self.decode(item, child, f"{path}[{index}]") for index, (item, child) in pairs)
        return BAD if BAD in values else values

    def _dict(self, it: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Mapping):
            return self._wrong(it.type, node, path)
        key_type, value_type = it.args or (str, Any)
        result: dict[Any, Any] = {}
        bad = False
        for name, entry in node.entries.items():
            value = self.decode(value_type, entry.node, _join(path, name))
            key = Scalar(
                file=entry.file,
                line=entry.line,
                value=name if shape(key_type).type is str else resolve(name),
                text=name,
            )
            decoded = self.decode(key_type, key, _join(path, name))
            bad = bad or value is BAD or decoded is BAD
            if decoded is not BAD:
                result[decoded] = value
        return BAD if bad else result

    def _struct(self, struct: Any, node: Node, path: str) -> Any:
        if not isinstance(node, Mapping):
            expected = ", ".join(f"'{one.key}'" for one in fields(struct)[:6])
            return self._fail(node, path, f"{_got(node)}, expected a mapping with keys such as {expected}.")
        known = {one.key: one for one in fields(struct)}
        tag = tag_of(struct)
        before = len(self.problems)
        values: dict[str, Any] = {}
        meant: set[str] = set()
        for name, entry in node.entries.items():
            if tag is not None and name == tag[0]:
                self._choice([tag[1]], entry.node, _join(path, name))
            elif name in known:
                values[known[name].attribute] = self.decode(known[name].type, entry.node, _join(path, name))
            else:
                meant.add(self._unknown_key(name, entry.file, entry.line, path, list(known.values())))
        for one in known.values():
            if one.required and one.attribute not in values and one.key not in meant:
                text = f"key '{one.key}' is missing. Add '{one.key}:' with {describe(one.type)}."
                self._fail(node, path, text)
        if len(self.problems) > before:
            return BAD
        try:
            return struct(**values)
        except (ValueError, TypeError) as error:  # what the Struct's __post_init__ says about its keys together
            return self._fail(node, path, str(error))

    def _unknown_key(self, name: str, file: str, line: int, path: str, known: list[Field]) -> str:
        """Note an unknown key; returns the key that is meant, or ''."""
        keys = [one.key for one in known]
        # The code's own name of a field carries its unit (deadline_s); somebody who has read the code may write it.
        by_attribute = {one.attribute: one.key for one in known}
        near = by_attribute.get(name) or _nearest(name, keys)
        hint = f" Did you mean '{near}'?" if near else ""
        if name == "<<":
            hint = " Merge keys are not read; write the keys out, or use an alias for a whole value."
        where = f"{path}: " if path else ""
        text = f"{where}key '{name}' is unknown.{hint} Known: {', '.join(keys) or 'none'}."
        self.problems.append(Problem(file=file, line=line, text=text))
        return near or ""

    # -- unions ----------------------------------------------------------------------------------------------------

    def _union(self, it: Shape, node: Node, path: str) -> Any:
        members = [member for member in it.args if member is not type(None)]
        if type(None) in it.args and isinstance(node, Scalar) and node.value is None:
            return None
        if len(members) == 1:
            return self.decode(members[0], node, path)
        structs = [member for member in members if is_struct(shape(member).type)]
        if isinstance(node, Mapping) and structs:
            return self._tagged(structs, node, path)
        others = [member for member in members if member not in structs]
        tries: list[list[Problem]] = []
        for member in others:
            attempt = Decoder()
            value = attempt.decode(member, node, path)
            if value is not BAD:
                return value
            if _same_kind(member, node):
                tries.append(attempt.problems)
        if len(tries) == 1:
            self.problems += tries[0]
            return BAD
        return self._wrong(it.type, node, path)

    def _tagged(self, structs: list[Any], node: Mapping, path: str) -> Any:
        if len(structs) == 1:
            return self.decode(structs[0], node, path)
        by_tag = {tag[1]: struct for struct in structs if (tag := tag_of(shape(struct).type)) is not None}
        if not by_tag:
            raise TypeError(f"a union of Structs needs tags to tell them apart: {structs}")
        name = next(tag[0] for struct in structs if (tag := tag_of(shape(struct).type)) is not None)
        if name not in node.entries:
            return self._fail(
                node, path, f"key '{name}' is missing. Add '{name}:' with one of {', '.join(map(str, by_tag))}."
            )
        value = self._choice(list(by_tag), node.entries[name].node, _join(path, name))
        return BAD if value is BAD else self.decode(by_tag[value], node, path)

    # -- problems --------------------------------------------------------------------------------------------------

    def _fail(self, node: Node, path: str, text: str) -> Bad:
        self.problems.append(Problem(file=node.file, line=node.line, text=f"{path}: {text}" if path else text))
        return BAD

    def _wrong(self, type_: Any, node: Node, path: str, fix: str | None = None) -> Bad:
        hint = f" {fix}" if fix else ""
        return self._fail(node, path, f"{_got(node)}, expected {describe(type_)}.{hint}")


def _meets(value: Any, meta: msgspec.Meta) -> bool:
    """Whether a value keeps a constraint; msgspec judges, on the plain value that the constraint is about."""
    plain: Any = value
    if value is None:  # Annotated around an Optional: the constraint is about the other member
        return True
    if isinstance(value, list | tuple | set | frozenset):
        plain = [None] * len(value)
    elif isinstance(value, dict):
        plain = dict.fromkeys(map(str, value))
    elif isinstance(value, Path):
        plain = str(value)
    try:
        msgspec.convert(plain, Annotated[type(plain), meta])
    except msgspec.ValidationError:
        return False
    return True


def _unit_type(it: Shape) -> Any:
    return Annotated[it.type, it.unit]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _got(node: Node) -> str:
    if isinstance(node, Mapping):
        return "got a mapping"
    if isinstance(node, Sequence):
        return f"got a list of {len(node.items)}"
    return "got nothing" if node.value is None else f"got {node.text[:80]!r}"


def _nearest(word: str, known: Any) -> str | None:
    names = [str(name) for name in known]
    folded = {name.lower().replace("_", "-"): name for name in names}
    exact = folded.get(word.lower().replace("_", "-"))
    close = [exact] if exact else difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return close[0] if close else None


def _repair(type_: Any, node: Scalar) -> str | None:
    """The corrected value of a scalar of the wrong type, where there is one."""
    value = node.value
    if type_ in (str, Path):
        return f'Write "{node.text}" in quotes.'
    if type_ is bool:
        word = str(value).lower()
        yes, no = word in ("yes", "on", "y", "1"), word in ("no", "off", "n", "0")
        return f"Write {'true' if yes else 'false'}." if yes or no else None
    if type_ in (int, float) and isinstance(value, str):
        inner = resolve(value.replace("_", "").replace(",", "."))
        if type(inner) in (int, float):
            return f"Write {inner} without quotes, separators or units."
    if type_ is int and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    return None


def _as_list(node: Node) -> str | None:
    return f"Write [{node.text}]." if isinstance(node, Scalar) and node.value is not None else None


def _same_kind(type_: Any, node: Node) -> bool:
    """Whether a node has the outer form of a type, so that the type's own message is the helpful one."""
    it = shape(type_)
    if isinstance(node, Sequence):
        return it.origin in (list, tuple, set, frozenset)
    if isinstance(node, Mapping):
        return it.origin is dict or is_struct(it.type)
    if it.unit is not None:
        return True
    if it.origin is Literal:
        return any(type(value) is type(node.value) for value in it.args)
    return False
