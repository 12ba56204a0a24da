from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from edgesdk.cli.main import main


@pytest.fixture
def model(tmp_path: Path, small: onnx.ModelProto) -> Path:
    onnx.save(small, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def arguments(model: Path, calibration: Path, *more: str) -> list[str]:
    output = str(model.with_suffix(".edge"))
    return [
        "convert",
        str(model),
        "--device",
        "raspberry-pi-4",
        "--calibration",
        str(calibration),
        "--output",
        output,
        *more,
    ]


def test_cli__table_and_exit_code(model: Path, calibration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(model, calibration, "--optimize", "size")) == 0
    out, err = capsys.readouterr()
    assert "onnx-int8" in out
    assert "fidelity per branch" in out
    assert "taken as given (state it in a model spec where it is wrong):" in out
    assert "\r" not in err  # plain lines where stderr is no terminal
    assert model.with_suffix(".edge").is_file()


def test_cli__misspelt_keys_of_the_spec(
    model: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "model.yaml"
    spec.write_text("taks: raw\ninput:\n  x: {shape: [1, 3, 16, 16]}\n")
    assert main(arguments(model, calibration, "--spec", str(spec))) == 1
    error = capsys.readouterr().err
    assert f"{spec}:1: key 'taks' is unknown. Did you mean 'task'? Known: task, inputs" in error
    assert f"{spec}:2: key 'input' is unknown. Did you mean 'inputs'?" in error
    assert not model.with_suffix(".edge").exists()


def test_cli__operator_that_no_runtime_knows(
    tmp_path: Path, calibration: Path, parse: object, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17, "com.acme": 1]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) '
        "{ y = com.acme.Foo (x) }"
    )
    onnx.save(parse(text), tmp_path / "m.onnx")  # type: ignore[operator]  # the fixture is a function
    assert main(arguments(tmp_path / "m.onnx", calibration)) == 1
    error = capsys.readouterr().err
    assert "domain 'com.acme'" in error
    assert "Export the model with standard ONNX operators only (opset 17)" in error
    assert not (tmp_path / "m.edge").exists()


def test_cli__json(model: Path, calibration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(model, calibration, "--optimize", "size", "--json")) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"]
    every = {f"{kind}-{precision}" for kind in ("onnx", "tflite") for precision in ("fp32", "fp16", "int8")}
    assert {row["variant"] for row in data["variants"]} == every


def test_cli__only_float_exits_1(
    tmp_path: Path, calibration: Path, parse: object, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { y = Relu (x) }'
    )
    onnx.save(parse(text), tmp_path / "m.onnx")  # type: ignore[operator]  # the fixture is a function
    assert main(arguments(tmp_path / "m.onnx", calibration)) == 1
    assert "Only float variants are in the bundle" in capsys.readouterr().out
    assert main(arguments(tmp_path / "m.onnx", calibration, "--allow", "float is fast enough here")) == 0
    assert "kept on request: float is fast enough here" in capsys.readouterr().out


def test_cli__errors_go_to_stderr(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(arguments(model, tmp_path / "nothing")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "is empty" in err
    assert "Put 20 or more typical inputs there" in err
    assert not model.with_suffix(".edge").exists()


def test_cli__usage(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(model)]) == 2
    assert "--device" in capsys.readouterr().err
