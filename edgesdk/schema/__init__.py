"""YAML that people write, into msgspec Structs: units, positions, all problems at once, JSON Schema for editors."""

from edgesdk.schema.export import json_schema
from edgesdk.schema.reading import Document, parse_document, parse_yaml, read_document, read_yaml
from edgesdk.schema.units import (
    Amperes,
    ByteCount,
    BytesPerSecond,
    Celsius,
    Hertz,
    Seconds,
    Tops,
    Unit,
    UnitError,
    Volts,
    Watts,
)

__all__ = [
    "Amperes",
    "ByteCount",
    "BytesPerSecond",
    "Celsius",
    "Document",
    "Hertz",
    "Seconds",
    "Tops",
    "Unit",
    "UnitError",
    "Volts",
    "Watts",
    "json_schema",
    "parse_document",
    "parse_yaml",
    "read_document",
    "read_yaml",
]
