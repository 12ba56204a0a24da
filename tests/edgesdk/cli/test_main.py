from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgesdk
from edgesdk import registry
from edgesdk.cli.main import Command, main

Make = Callable[..., Path]


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_main__overview(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    out = capsys.readouterr().out
    for name in ("inspect", "verify", "predict", "doctor"):
        assert f"\n  {name} " in out


def test_main__overview_survives_a_broken_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A real distribution on the path, whose command does not import.
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edgesdk.commands]\nbroken = edgesdk_no_such_module:COMMAND\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.plugins.cache_clear()
    try:
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        assert "broken     broken: edgesdk.commands: 'broken' (edgesdk_no_such_module:COMMAND) does not load" in out
        assert "\n  inspect " in out
    finally:
        registry.plugins.cache_clear()


def test_main__version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgesdk {edgesdk.__version__}\n"


def test_main__unknown_command_has_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspct"]) == 2
    assert "command 'inspct' is unknown. Did you mean 'inspect'?" in capsys.readouterr().err


def test_main__usage_error_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 2
    assert "FILE" in capsys.readouterr().err


def test_main__error_of_ours_is_one_line_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "a.edge")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgesdk inspect: error: ")
    assert "Traceback" not in captured.err


def test_main__words_of_the_file_system_get_a_hint_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "out.edge")

    command = Command(help="", configure=lambda _: None, run=full)
    monkeypatch.setattr(registry, "load_plugin", lambda *_: command)
    assert main(["inspect"]) == 1
    assert "edgesdk inspect: error: out.edge: No space left on device. Free some space" in capsys.readouterr().err


def test_main__program_returns_the_code(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "edgesdk.cli.main"] if not _script().exists() else [str(_script())]
    done = subprocess.run(
        [*program, "inspect", str(tmp_path / "a.edge")], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    debug = {**os.environ, "EDGESDK_DEBUG": "1"}
    done = subprocess.run(
        [*program, "inspect", str(tmp_path / "a.edge")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=debug,
    )
    assert "Traceback" in done.stderr


def _script() -> Path:
    return Path(sys.executable).with_name("edgesdk")


def test_main__reader_that_goes_away_is_no_traceback(make_bundle: Make) -> None:
    path = make_bundle(assumptions=tuple(f"assumption number {index}" for index in range(20_000)))
    child = subprocess.Popen([str(_script()), "inspect", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(100)
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 1
    assert errors == b""
