"""JSON Schema of the profile files, for editors."""

from __future__ import annotations

from typing import Any

from edgesdk.profiles.model import DeviceProfile
from edgesdk.schema import json_schema

SCHEMA_FILE = "profile.schema.json"
"""Lies beside the shipped profiles."""
_MERGED = ("Cpu", "Memory", "Power", "Soc", "Software", "Thermal")
"""Parts that a profile with ``extends`` may give in part."""


def profile_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one file.

    A file that extends another may leave out what it takes from there, so an editor demands less than
    :func:`edgesdk.profiles.load_profile`, which sees the merged whole.
    """
    schema = json_schema(DeviceProfile, schema_id=SCHEMA_FILE, title="edgesdk device profile")
    schema["$defs"]["DeviceProfile"]["required"] = ["schema", "id", "name"]
    for part in _MERGED:
        schema["$defs"][part].pop("required", None)
    return schema
