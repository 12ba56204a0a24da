"""`edgesdk demo`: exit codes and what it says when something is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgesdk import registry
from edgesdk.cli.main import main
from edgesdk.demo import runner
from edgesdk.demo.plan import Prepared
from edgesdk.demo.runner import Outcome


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """``demo(published, received)``: the command with fetching, converting and running left out."""

    def prepare(folder: Path, *, device: str, report: Callable[[str], None]) -> Prepared:
        report(f"prepared for {device}")
        return Prepared(models={}, media={})

    def run(published: int, received: int, exit_code: int = 0) -> int:
        def run_demo(*_: Any, **__: Any) -> Outcome:
            return Outcome(published=published, received=received, seconds=1.0, streams=(), exit_code=exit_code)

        load = registry.load_plugin
        monkeypatch.setattr(runner, "run_demo", run_demo)
        monkeypatch.setattr(
            registry, "load_plugin", lambda group, name: prepare if group == registry.DEMO else load(group, name)
        )
        monkeypatch.setattr(
            registry, "plugins", lambda group, known=registry.plugins: {"prepare": None} if group == registry.DEMO else known(group)
        )  # fmt: skip
        return main(["demo", "--json", "--output", str(tmp_path / "out")])

    return run


def test_demo__all_arrived_exits_0_and_prints_one_object(
    demo: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(5, 5) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["published"], report["received"], report["device"]) == (5, 5, "raspberry-pi-4")


@pytest.mark.parametrize(("published", "received", "exit_code"), [(5, 4, 0), (0, 0, 0), (5, 5, 1)])
def test_demo__anything_missing_exits_1_and_says_how_to_look(
    demo: Callable[..., int], capsys: pytest.CaptureFixture[str], published: int, received: int, exit_code: int
) -> None:
    assert demo(published, received, exit_code) == 1
    error = capsys.readouterr().err
    assert f"published {published}, received {received}" in error
    assert "run it alone: edgesdk run" in error


def test_demo__without_the_converters_prints_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known = registry.plugins
    monkeypatch.setattr(registry, "plugins", lambda group: {} if group == registry.DEMO else known(group))
    assert main(["demo", "--output", str(tmp_path)]) == 1
    assert "pip install edgesdk-converters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "--broker: got 'nonsense', expected mqtt://host[:port]"),
        ("mqtt://127.0.0.1:1", "--broker mqtt://127.0.0.1:1: cannot be reached: Connection refused. Start it, check"),
    ],
)
def test_demo__broker_that_is_none__is_said_before_anything_is_converted(
    demo: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str, message: str
) -> None:
    demo(1, 1)
    capsys.readouterr()
    assert main(["demo", "--broker", url, "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "prepared" not in captured.err + captured.out


def test_demo__output_that_is_a_file(
    demo: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    demo(1, 1)
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file")]) == 1
    assert "file: cannot be made: File exists. Name another folder." in capsys.readouterr().err
