from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from edgesdk.errors import ConfigError
from edgesdk_converters.sweep import read_sweep, sweep_json_schema

DOCS = Path(__file__).parents[3] / "docs"


def test_read_sweep__all_problems_at_once_with_lines(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "models:\n"
        "  My Model: {source: missing.onnx, calibration: nowhere}\n"
        "boards:\n"
        "  - raspbery-pi-4\n"
        "  - raspberry-pi-5\n"
        "  - raspberry-pi-5\n"
        "recipes: [w8a88]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_sweep(file)
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    assert (
        f"{file}:2: models.My Model: expected lower-case letters, digits and '-', at most 64. Write my-model." in text
    )
    assert f"{file}:2: models.My Model.source: there is no 'missing.onnx'. Paths are relative to" in text
    assert "calibration: there is no 'nowhere'" in text
    assert f"{file}:4: boards[0]: device profile 'raspbery-pi-4' is unknown. Did you mean 'raspberry-pi-4'?" in text
    assert f"{file}:6: boards[2]: 'raspberry-pi-5' is 'raspberry-pi-5' again, as entry 2. Take one out" in text
    assert f"{file}:7: recipes[0]:" in text
    assert "w8a8" in text


def test_read_sweep__unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("models: {a: {source: 'pkg.mod:make'}}\nboard: [raspberry-pi-4]\n")
    with pytest.raises(ConfigError, match=r"sweep\.yaml:2: .*board.*boards"):
        read_sweep(file)


def test_read_sweep__empty_lists_say_what_to_name(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("models: {}\nboards: []\n")
    with pytest.raises(ConfigError, match=r"(?s)Name at least one: my-model.*`edgesdk profile list` shows them"):
        read_sweep(file)


def test_read_sweep__a_factory_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("models: {a: {source: 'pkg.mod:make'}}\nboards: [raspberry-pi-4]\n")
    assert read_sweep(file).models["a"].source == "pkg.mod:make"


def test_schema__is_exported_and_takes_what_is_read(sweep_file: Callable[..., Path]) -> None:
    exported = json.loads((DOCS / "sweep.schema.json").read_text())
    assert exported == sweep_json_schema(), "run: python -m edgesdk_converters.sweep > docs/sweep.schema.json"
    file = sweep_file(calibrated=True, recipes=["w8a8"])
    jsonschema.Draft202012Validator(exported).validate(yaml.safe_load(file.read_text()))
    read_sweep(file)


def test_schema__takes_the_example_of_the_docs() -> None:
    example = (DOCS / "sweep.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    jsonschema.Draft202012Validator(sweep_json_schema()).validate(yaml.safe_load(example))
