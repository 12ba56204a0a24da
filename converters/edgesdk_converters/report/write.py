"""Writes the report, as HTML or as JSON, and reads the JSON again."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import ConversionError
from edgesdk_converters.report.record import SCHEMA, Record

_SWEEP_CELL = "edgesdk.sweep-cell/1"
"""A cell's JSON in the results of a sweep, which holds the record of its conversion."""
MAX_BYTES = 256 * 1024 * 1024
_HUGE = 1e300
"""Stands for infinity and for what is no number: JSON has neither, and a report must not fail at the end of a long conversion."""


def write_report(record: Record, path: str | Path, *, viewers: Mapping[str, str] | None = None) -> None:
    """Write the report; a half-written one is never seen.

    Args:
        record: What to say.
        path: ``.html`` or ``.json``.
        viewers: Variant id -> address, as in :func:`edgesdk_converters.report.page.page`.

    Raises:
        ConversionError: Another suffix, or the folder does not exist.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = to_json(record)
    elif path.suffix in (".html", ".htm"):
        from edgesdk_converters.report.page import page

        content = page(record, viewers=viewers).encode("utf-8")
    else:
        raise ConversionError(f"{path}: a report is .html or .json. Say --output {path.stem or 'report'}.html")
    if not path.parent.is_dir():
        raise ConversionError(f"{path}: there is no folder {path.parent}. Create it: mkdir -p {path.parent}")
    replace(path, content)


def replace(path: Path, content: bytes) -> None:
    """Write a file at once or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def to_json(record: Record) -> bytes:
    """The record as JSON; pictures are base64."""
    plain: dict[str, Any] = msgspec.to_builtins(record, order="deterministic")
    # The schema equals its default and would be left out; a reader decides by it before anything else.
    content = msgspec.json.encode(finite({"schema": record.schema, **plain}))
    return msgspec.json.format(content, indent=1) + b"\n"


def finite(value: Any) -> Any:
    """Plain data without infinities and what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return -_HUGE if value < 0 else _HUGE
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def read_record(path: str | Path) -> Record:
    """Read a report's JSON.

    Raises:
        ConversionError: There is no such file, it is no report, or of a schema that is not read here.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConversionError(f"{path}: is larger than {MAX_BYTES:,} bytes, the most that is read as a report.")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConversionError(
            f"{path}: there is no such file. `edgesdk convert ... --report FILE.json` writes one."
        ) from error
    return parse_record(content, name=str(path))


def parse_record(content: bytes, *, name: str = "report.json") -> Record:
    """Like :func:`read_record`, from the bytes of the file."""
    try:
        said = json.loads(content)
        schema = said.get("schema") if isinstance(said, dict) else None
    except (ValueError, RecursionError) as error:
        raise ConversionError(
            f"{name}: is no JSON ({error}). Write it again: edgesdk convert ... --report FILE.json"
        ) from error
    if schema == _SWEEP_CELL and isinstance(said.get("record"), dict):
        return parse_record(json.dumps(said["record"]).encode(), name=name)
    if schema != SCHEMA:
        raise ConversionError(
            f"{name}: schema is {schema!r}, expected {SCHEMA!r}. "
            + (
                "It was written by another version: install that one, or convert again."
                if isinstance(schema, str) and schema.startswith("edgesdk.report/")
                else "This is no report: give what `edgesdk convert --report FILE.json` wrote, or a bundle."
            )
        )
    try:
        return msgspec.json.decode(content, type=Record)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ConversionError(f"{name}: is no report as edgesdk writes it: {error}. Convert again.") from error


def record_schema() -> dict[str, Any]:
    """JSON Schema of the record's JSON."""
    schema = msgspec.json.schema(Record)
    record = schema["$defs"]["Record"]
    record["properties"]["schema"] = {"const": SCHEMA}
    record["required"] = ["schema", *record["required"]]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "report.schema.json",
        "title": "edgesdk conversion report",
        **schema,
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole))  # tuples among the defaults
    return plain
