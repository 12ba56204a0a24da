from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.errors import ConfigError
from edgesdk_converters.auto import model_sha256, read_plan, write_plan
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Plan, Recipe

Feeds = list[list[NDArray[Any]]]


@pytest.fixture
def plan(plain: onnx.ModelProto, dead_feeds: Feeds) -> Plan:
    return Quantizer(plain, dead_feeds).plan(Recipe(name="auto", scheme="auto"), schemes={"conv2": "float"})


def changed(path: Path, **values: Any) -> Path:
    data = json.loads(path.read_text())
    data.update(values)
    path.write_text(json.dumps(data))
    return path


def test_plan__there_and_back(plan: Plan, plain: onnx.ModelProto, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "plan.json")
    assert plan.model_sha256 == model_sha256(plain)
    assert read_plan(path, plain) == plan
    assert read_plan(path, plain).float_nodes == ("conv2",)
    content = path.read_bytes()
    write_plan(plan, path)
    assert path.read_bytes() == content
    assert content.endswith(b"}\n")
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_plan__of_other_weights(plan: Plan, planted: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(write_plan(plan, tmp_path / "plan.json"), planted)
    (problem,) = caught.value.problems
    assert "belongs to another graph (sha256" in problem
    assert "it has the same quantizable nodes, so its weights" in problem
    assert "make a new plan with --recipe auto" in problem


def test_plan__of_another_graph_names_the_nodes(plan: Plan, small: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(write_plan(plan, tmp_path / "plan.json"), small)
    text = str(caught.value)
    assert "belongs to another graph" in text
    assert "node 'conv0' does not exist or cannot be quantized" in text
    assert "says nothing of" in text


def test_plan__mistakes_of_a_hand(plan: Plan, plain: onnx.ModelProto, tmp_path: Path) -> None:
    schemes: dict[str, str] = {**plan.schemes, "conv1": "w8a8"}
    schemes["convv3"] = schemes.pop("conv3")
    path = changed(write_plan(plan, tmp_path / "plan.json"), schemes=schemes)
    with pytest.raises(ConfigError) as caught:
        read_plan(path, plain)
    assert any(
        "node 'convv3' does not exist or cannot be quantized. Did you mean 'conv3'?" in p for p in caught.value.problems
    )
    assert any(
        "says nothing of 1 nodes: conv3. Add them with their scheme, or 'float'." in p for p in caught.value.problems
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"schemes": {"conv0": "int8"}}, "is no plan: Invalid enum value 'int8'"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"schema": "edgesdk.plan/9"}, "is not read by this version, expected 'edgesdk.plan/1'"),
    ],
)
def test_plan__that_is_none(
    plan: Plan, plain: onnx.ModelProto, tmp_path: Path, values: dict[str, Any], text: str
) -> None:
    path = changed(write_plan(plan, tmp_path / "plan.json"), **values)
    with pytest.raises(ConfigError) as caught:
        read_plan(path, plain)
    assert text in str(caught.value)


def test_plan__options_of_a_hand(plan: Plan, plain: onnx.ModelProto, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "plan.json")
    changed(path, calibrator="entropi", block_size=48, smooth=3.0)
    with pytest.raises(ConfigError) as caught:
        read_plan(path, plain)
    first, second, third = caught.value.problems
    assert "calibrator 'entropi' is unknown. Did you mean 'entropy'?" in first
    assert "block_size: 48 is none of 16, 32, 64, 128, 256." in second
    assert "smooth: 3 is no share, expected 0 to 1." in third


def test_plan__no_file_and_no_json(plain: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "none.json", plain)
    (tmp_path / "half.json").write_text('{"schema": "edgesdk.pl')
    with pytest.raises(ConfigError, match="make a new one with --recipe auto"):
        read_plan(tmp_path / "half.json", plain)
