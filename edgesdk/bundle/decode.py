"""From the bytes of `manifest.json` to a :class:`Manifest`: schema version first, then every problem at once."""

from __future__ import annotations

import re
import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from edgesdk.bundle.check import manifest_problems
from edgesdk.bundle.manifest import SCHEMA, Manifest, Measurements
from edgesdk.errors import BundleError, BundleVersionError

_SCHEMA = re.compile(r"(edgesdk\.[a-z]+)/([0-9]{1,4})\.([0-9]{1,4})\Z")
_KNOWN_FORMATS = ("onnx", "tflite")
_MAX_PROBLEMS = 20


def decode_manifest(content: bytes, *, where: str) -> Manifest:
    """Decode and check a manifest.

    Args:
        content: Bytes of `manifest.json`.
        where: The bundle, for messages.

    Raises:
        BundleVersionError: Its schema has a newer major version.
        BundleError: It is no manifest; the text has all problems, one a line.
    """
    raw = _object(content, where=f"{where}: manifest.json")
    newer = _check_schema(raw, SCHEMA, where=f"{where}: manifest.json")
    if newer:
        raw = _without_newer_variants(raw, where)
    try:
        problems = _type_problems(Manifest, raw, "manifest.json")
        if not problems:
            manifest = msgspec.convert(raw, Manifest)
            problems = [f"manifest.json: {problem}" for problem in manifest_problems(manifest)]
    except RecursionError as error:
        raise BundleError(f"{where}: manifest.json is nested too deeply. Convert the model again.") from error
    if problems:
        raise _error(where, problems)
    return manifest


def decode_measurements(content: bytes, *, where: str) -> Measurements:
    """Decode `measurements.json`; raises like :func:`decode_manifest`."""
    raw = _object(content, where=f"{where}: measurements.json")
    _check_schema(raw, Measurements().schema, where=f"{where}: measurements.json")
    problems = _type_problems(Measurements, raw, "measurements.json")
    if problems:
        raise _error(where, problems)
    return msgspec.convert(raw, Measurements)


def _error(where: str, problems: list[str]) -> BundleError:
    more = [f"and {len(problems) - _MAX_PROBLEMS} more"] if len(problems) > _MAX_PROBLEMS else []
    lines = [*problems[:_MAX_PROBLEMS], *more]
    return BundleError("\n  ".join((f"{where}: is no bundle that edgesdk can read. Convert the model again.", *lines)))


def _object(content: bytes, *, where: str) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BundleError(f"{where}: is no JSON: {error}. Convert the model again.") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{where}: is a JSON {_word(raw)}, expected an object. Convert the model again.")
    return raw


def _check_schema(raw: dict[str, Any], known: str, *, where: str) -> bool:
    """Whether the file has a newer minor version than we know."""
    schema = raw.get("schema")
    match = _SCHEMA.match(schema) if isinstance(schema, str) else None
    name, _, ours = known.partition("/")
    major, minor = (int(part) for part in ours.split("."))
    if match is None or match[1] != name:
        raise BundleError(f"{where}: schema is {str(schema)[:60]!r}, expected {known!r}. Is this an edgesdk bundle?")
    if int(match[2]) > major:
        raise BundleVersionError(
            f"{where}: has schema version {match[2]}.{match[3]}, this edgesdk reads up to {major}.x. "
            "Update it: pip install -U edgesdk"
        )
    if int(match[2]) < major:
        raise BundleVersionError(
            f"{where}: has schema version {match[2]}.{match[3]}, this edgesdk reads {major}.x. Convert the model again."
        )
    return int(match[3]) > minor


def _without_newer_variants(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """A newer minor version may bring formats that we do not know: we run the variants that we do know."""
    variants = raw.get("variants")
    if not isinstance(variants, list):
        return raw
    known = [item for item in variants if not isinstance(item, dict) or item.get("format") in _KNOWN_FORMATS]
    if variants and not known:
        formats = sorted({str(item.get("format")) for item in variants})
        raise BundleVersionError(
            f"{where}: has schema {raw['schema']} and only variants of newer formats ({', '.join(formats)}); this "
            f"edgesdk reads {', '.join(_KNOWN_FORMATS)}. Update it: pip install -U edgesdk"
        )
    return {**raw, "variants": known}


def _type_problems(type_: Any, value: Any, path: str) -> list[str]:
    """Every place where ``value`` does not fit ``type_``; msgspec alone stops at the first."""
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        deeper = _deeper_problems(type_, value, path)
        return deeper or [f"{path}: {str(error).split(' - at ')[0]}"]
    return []


def _deeper_problems(type_: Any, value: Any, path: str) -> list[str]:
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _deeper_problems(args[0], value, path)
    if origin in (Union, types.UnionType):
        chosen = [member for member in args if _tag(member) is not None and _tag(member) == _kind(value)]
        return _deeper_problems(chosen[0], value, path) if chosen else []
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and isinstance(value, dict):
        problems = []
        for field in msgspec.structs.fields(type_):
            if field.encode_name in value:
                problems += _type_problems(field.type, value[field.encode_name], f"{path}: {field.encode_name}")
            elif field.required:
                problems.append(f"{path}: {field.encode_name!r} is missing")
        return problems
    if origin is tuple and isinstance(value, list) and args[-1] is ...:
        return [p for i, item in enumerate(value) for p in _type_problems(args[0], item, f"{path}[{i}]")]
    if origin is dict and isinstance(value, dict):
        return [p for key, item in value.items() for p in _type_problems(args[1], item, f"{path}[{key[:60]!r}]")]
    return []


def _tag(type_: Any) -> Any:
    config = getattr(type_, "__struct_config__", None)
    return None if config is None else config.tag


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else None


def _word(value: Any) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
