"""JSON Schema (draft 2020-12) of a Struct, for the completion and the checks of editors."""

from __future__ import annotations

import enum
import inspect
from pathlib import Path
from typing import Any, Literal, Union

import msgspec

from edgesdk.schema.types import Field, Shape, field_docs, fields, is_struct, shape, tag_of
from edgesdk.schema.units import Unit

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Path: {"type": "string", "minLength": 1},
    dict: {"type": "object"},
    list: {"type": "array"},
    Any: {},
}
_META = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}


def json_schema(type_: Any, *, schema_id: str, title: str) -> dict[str, Any]:
    """JSON Schema of the YAML files that :func:`edgesdk.schema.read_yaml` reads into ``type_``.

    Descriptions are the docstrings under the fields, where the source is at hand.

    Args:
        type_: As for :func:`edgesdk.schema.read_yaml`.
        schema_id: Its ``$id``.
        title: Its ``title``.
    """
    export = _Export()
    root = export.of(type_)
    return {"$schema": DIALECT, "$id": schema_id, "title": title, **root, "$defs": dict(sorted(export.defs.items()))}


class _Export:
    def __init__(self) -> None:
        self.defs: dict[str, Any] = {}
        self.owners: dict[str, Any] = {}

    def of(self, type_: Any) -> dict[str, Any]:
        it = shape(type_)
        result = self._plain(it)
        for meta in it.meta:
            result |= _constraints(it, meta)
        return result

    def _plain(self, it: Shape) -> dict[str, Any]:
        if it.unit is not None:
            return _quantity(it.unit)
        if it.origin is Union:
            return {"anyOf": [self.of(member) for member in it.args]}
        if it.origin is Literal:
            return {"enum": list(it.args)}
        if it.origin is dict:
            return {"type": "object", "additionalProperties": self.of(it.args[1])}
        if it.origin in (list, set, frozenset):
            return {"type": "array", "items": self.of(it.args[0])}
        if it.origin is tuple:
            return self._tuple(it)
        if is_struct(it.type):
            return self._reference(it.type)
        if isinstance(it.type, type) and issubclass(it.type, enum.Enum):
            return {"enum": [member.value for member in it.type]}
        return dict(_SIMPLE[it.type])

    def _tuple(self, it: Shape) -> dict[str, Any]:
        if it.args[-1] is Ellipsis:
            return {"type": "array", "items": self.of(it.args[0])}
        items = [self.of(arg) for arg in it.args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _reference(self, struct: Any) -> dict[str, Any]:
        name = struct.__name__.lstrip("_")
        if self.owners.setdefault(name, struct) is not struct:
            name = f"{struct.__module__}.{struct.__qualname__}"
            self.owners[name] = struct
        if name not in self.defs:
            self.defs[name] = {}  # a Struct may contain itself
            self.defs[name] = self._struct(struct)
        return {"$ref": f"#/$defs/{name}"}

    def _struct(self, struct: Any) -> dict[str, Any]:
        known = fields(struct)
        docs = field_docs(struct)
        properties = {one.key: self._field(one, docs.get(one.attribute, "")) for one in known}
        required = [one.key for one in known if one.required]
        tag = tag_of(struct)
        if tag is not None:
            properties = {tag[0]: {"const": tag[1]}} | properties
            required.insert(0, tag[0])
        result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        text = inspect.getdoc(struct) if struct.__doc__ else None
        if text:
            result["description"] = " ".join(text.split("\n\n")[0].split()).replace("``", "`")
        if required:
            result["required"] = required
        return result

    def _field(self, one: Field, doc: str) -> dict[str, Any]:
        result = self.of(one.type)
        if doc:
            result["description"] = doc
        if type(one.default) in (bool, int, float, str) and not _has_unit(one.type):
            result["default"] = one.default
        return result


def _quantity(unit: Unit) -> dict[str, Any]:
    return {"type": "string", "pattern": unit.pattern, "examples": list(unit.examples)}


def _has_unit(type_: Any) -> bool:
    it = shape(type_)
    return it.unit is not None or (it.origin is Union and any(map(_has_unit, it.args)))


def _constraints(it: Shape, meta: msgspec.Meta) -> dict[str, Any]:
    found = {name: getattr(meta, key) for key, name in _META.items() if getattr(meta, key) is not None}
    suffix = {str: "Length", Path: "Length", dict: "Properties"}.get(it.origin or it.type, "Items")
    for key, prefix in (("min_length", "min"), ("max_length", "max")):
        if getattr(meta, key) is not None:
            found[prefix + suffix] = getattr(meta, key)
    if meta.description:
        found["description"] = meta.description
    return found
