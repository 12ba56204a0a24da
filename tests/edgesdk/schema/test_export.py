from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from edgesdk.schema import json_schema

Types = SimpleNamespace


@pytest.fixture
def schema(types: Types) -> dict[str, Any]:
    return json_schema(types.App, schema_id="app.schema.json", title="app")


def test_json_schema__is_draft_2020_12_and_takes_a_good_file(schema: dict[str, Any], good: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(good))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "app.schema.json"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate: 15Hz", "rate: 15"),
        ("rate: 15Hz", "rate: 15hz"),
        ("kind: v4l2", "kind: v4l"),
        ("name: doorway", "nam: doorway"),
        ("size: 256MiB", "size: -1MiB"),
        ("[1280, 720]", "[1280]"),
        ("threshold: 1", "threshold: 1.5"),
        ("level: high", "level: higher"),
        ("every: 5min", "every: sometimes"),
        ("run: [faces]", "run: faces"),
    ],
)
def test_json_schema__refuses_what_the_reader_refuses(schema: dict[str, Any], good: str, old: str, new: str) -> None:
    assert old in good
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(good.replace(old, new)))


def test_json_schema__fields_carry_their_docstrings_and_defaults(schema: dict[str, Any]) -> None:
    camera = schema["$defs"]["Camera"]
    assert camera["description"] == "A camera."
    assert camera["properties"]["device"]["description"] == "Where it is."
    assert camera["properties"]["size_wh"]["description"] == "Width and height in pixels."
    assert camera["required"] == ["kind", "device"]
    assert schema["$defs"]["Stream"]["properties"]["policy"] == {"enum": ["latest", "block"], "default": "latest"}
    assert schema["$defs"]["App"]["properties"]["size"]["examples"] == ["256MiB", "4GiB", "128KB"]
