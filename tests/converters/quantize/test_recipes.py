from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from edgesdk.errors import ConfigError, ConversionError
from edgesdk.profiles import DeviceProfile, load_profile, profile_ids
from edgesdk_converters.quantize.recipe import Recipe
from edgesdk_converters.quantize.recipes import (
    SCHEMA_FILE,
    load_recipe,
    recipe_json_schema,
    recipe_names,
    suitable,
)

FOLDER = Path(__file__).resolve().parents[3] / "converters" / "edgesdk_converters" / "quantize" / "recipes"

Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_load_recipe__every_shipped_one(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about.endswith(".")
    jsonschema.validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), recipe_json_schema())


def test_recipe_names__the_agreed_ones() -> None:
    assert recipe_names() == ("auto", "dynamic", "float16", "w4", "w4a8", "w8", "w8a16", "w8a8")


def test_recipe_json_schema__matches_the_file() -> None:
    # After a change: write json.dumps(recipe_json_schema(), indent=2) + "\n" into the file.
    assert json.loads((FOLDER / SCHEMA_FILE).read_text()) == recipe_json_schema()


def test_load_recipe__from_a_path(written: Written) -> None:
    recipe = load_recipe(written("name: mine\nscheme: w8a8\nrules:\n  - {nodes: 'head*', scheme: float}\n"))
    assert recipe.rules[0].nodes == "head*"


def test_load_recipe__unknown_name_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"recipe 'W8A8X' is unknown\. Did you mean 'w8a8'\?.*the file's path, \./W8A8X"
    ):
        load_recipe("W8A8X")


def test_load_recipe__all_problems_at_once(written: Written) -> None:
    path = written("name: mine\nscheme: w8a9\nroundin: gptq\nblock_size: 48\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    text = str(caught.value)
    assert f"{path}:2" in text
    assert "got 'w8a9', expected one of" in text
    assert f"{path}:3" in text
    assert "rounding" in text


def test_load_recipe__values_that_do_not_fit(written: Written) -> None:
    path = written(
        "schema: edgesdk.recipe/9\nname: mine\ncalibrator: entropi\nblock_size: 48\nsmooth: 8\nrules:\n"
        "  - {scheme: float}\n  - {nodes: a, op: Conv, scheme: float}\n  - {op: Convv, scheme: float}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert len(caught.value.problems) == 7
    text = str(caught.value)
    assert (
        "mine.yaml:1: schema: 'edgesdk.recipe/9' is not read by this version. Write 'schema: edgesdk.recipe/1'" in text
    )
    assert "mine.yaml:3: calibrator: calibrator 'entropi' is unknown. Did you mean 'entropy'?" in text
    assert "mine.yaml:4: block_size: 48 is none of 16, 32, 64, 128, 256. Write 'block_size: 32'" in text
    assert "mine.yaml:5: smooth: 8 is no share, expected 0 to 1. Write 'smooth: 1'" in text
    assert "mine.yaml:7: rules[0]: the rule says neither 'nodes' nor 'op'. Give one of them" in text
    assert "mine.yaml:8: rules[1]: the rule says both 'nodes' and 'op'" in text
    assert "rules[2].op: no node of type 'Convv' is ever quantized. Did you mean 'Conv'?" in text


def test_load_recipe__float16_takes_no_rules(written: Written) -> None:
    with pytest.raises(ConfigError, match=r"rules change nothing\. Remove them"):
        load_recipe(written("name: mine\nscheme: float16\nrules:\n  - {op: Conv, scheme: float}\n"))


@pytest.mark.parametrize("board", profile_ids())
def test_suitable__every_board_has_some(board: str) -> None:
    profile = load_profile(board)
    found = suitable(profile, "onnx")
    assert found.recipes[0].name == "auto"
    assert {recipe.name for recipe in found.recipes} | set(found.reasons) == set(recipe_names())
    assert found.demand(profile) == found.recipes


def test_suitable__says_why_not() -> None:
    reasons = suitable(load_profile("raspberry-pi-4"), "tflite").reasons
    assert reasons["w4"] == "tflite does not express it. Ask for onnx"
    assert "CPUs have no fast kernel" in reasons["w8a16"]
    assert "optimize 'size'" in reasons["w8a16"]
    by_size = suitable(load_profile("raspberry-pi-4"), "tflite", optimize="size").recipes
    assert "w8a16" in {recipe.name for recipe in by_size}


def npu_only(computes: tuple[str, ...]) -> DeviceProfile:
    """The Coral board without its CPU."""
    profile = load_profile("coral-dev-board")
    first = msgspec.structs.replace(profile.backends[0], precisions=computes)
    return msgspec.structs.replace(profile, backends=(first,))


def test_suitable__accelerator_takes_int8_only() -> None:
    found = suitable(npu_only(("int8",)), "tflite")
    assert {recipe.name for recipe in found.recipes} == {"auto", "w8a8", "w4a8"}
    assert found.reasons["float16"].startswith(
        "its arithmetic is fp32, but edge-tpu computes in int8, and no backend of"
    )


def test_suitable__accelerator_precisions_of_the_profile() -> None:
    assert "w8a8" in {recipe.name for recipe in suitable(npu_only(()), "tflite").recipes}


def test_suitable__board_that_supports_none() -> None:
    profile = npu_only(("bf16",))
    with pytest.raises(
        ConversionError, match=r"supports none of the recipes:\n  auto: .*\n[^$]*Convert for another device"
    ):
        suitable(profile, "tflite").demand(profile)
    assert suitable(profile, "onnx").reasons["w8a8"] == "no backend of coral-dev-board reads onnx; it has tflite"


def test_recipe__is_hashable() -> None:
    assert load_recipe("w8a8") == Recipe(
        **{name: getattr(load_recipe("w8a8"), name) for name in Recipe.__struct_fields__}
    )
