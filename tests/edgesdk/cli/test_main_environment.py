"""What `edgesdk` does where something around it is missing or odd: no converters, a bad variable."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgesdk import registry
from edgesdk.cli.main import CONVERTER_COMMANDS, main


@pytest.fixture
def without_converters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points that a board has."""
    real = registry.plugins

    def plugins(group: str) -> dict[str, EntryPoint]:
        return {name: point for name, point in real(group).items() if not point.value.startswith("edgesdk_converters")}

    monkeypatch.setattr(registry, "plugins", plugins)


@pytest.mark.usefixtures("without_converters")
def test_overview__without_converters__says_how_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "\n  predict " in out
    for name in CONVERTER_COMMANDS:
        assert f"\n  {name:10} not installed: pip install edgesdk-converters" in out


@pytest.mark.usefixtures("without_converters")
@pytest.mark.parametrize("name", CONVERTER_COMMANDS)
def test_converter_command__without_converters__is_usage_with_the_pip_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "model.onnx"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"'{name}' belongs to the converters, which are not installed here: pip install edgesdk-conv" in captured.err


def test_log_level__unknown__is_usage_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGESDK_LOG", "verbose")
    assert main(["--version"]) == 2
    assert "EDGESDK_LOG is 'VERBOSE', expected one of DEBUG, INFO, WARNING" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["--help"], 0), (["--versoin"], 2), (["inspect", "--help"], 0)]
)
def test_program__exit_codes(arguments: list[str], code: int) -> None:
    program = Path(sys.executable).with_name("edgesdk")
    if not program.exists():
        pytest.skip("needs edgesdk to be installed: pip install -e .")
    done = subprocess.run(
        [program, *arguments],
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == code, done.stderr
