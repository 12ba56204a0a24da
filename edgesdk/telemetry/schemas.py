"""JSON Schema (2020-12) of every payload; docs/telemetry holds the export, a test keeps both equal."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.telemetry.payloads import PAYLOADS


def payload_schema(name: str) -> dict[str, Any]:
    """Schema of one payload.

    Args:
        name: A key of ``payloads.PAYLOADS``.
    """
    type_ = PAYLOADS[name]
    (_,), definitions = msgspec.json.schema_components([type_], ref_template="#/$defs/{name}")
    root = definitions.pop(type_.__name__)
    root["title"] = f"edgesdk {name}"
    root["description"] = inspect.cleandoc(type_.__doc__ or "")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{name}.schema.json", **root}
    if definitions:
        schema["$defs"] = definitions
    return schema


def schema_text(name: str) -> str:
    """The file's content."""
    return json.dumps(payload_schema(name), indent=2) + "\n"


def export(folder: Path) -> list[Path]:
    """Write all schemas into ``folder``; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in PAYLOADS:
        file = folder / f"{name}.schema.json"
        file.write_text(schema_text(name), encoding="utf-8")
        files.append(file)
    return files
