"""Wrong command lines of `edgesdk convert`: everything at once, before any work, with exit code 2."""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import pytest

from edgesdk.cli.main import Command, main
from edgesdk_converters.cli import convert, models, sweep
from edgesdk_converters.cli import report as report_command


@pytest.fixture
def good(tmp_path: Path, small: onnx.ModelProto, calibration: Path) -> dict[str, str]:
    """Arguments that are right."""
    onnx.save(small, tmp_path / "m.onnx")
    return {
        "MODEL": str(tmp_path / "m.onnx"),
        "--device": "raspberry-pi-4",
        "--calibration": str(calibration),
        "--output": str(tmp_path / "m.edge"),
    }


def line(arguments: dict[str, str], *more: str) -> list[str]:
    return [
        "convert",
        arguments["MODEL"],
        *(word for name, value in arguments.items() if name != "MODEL" for word in (name, value)),
        *more,
    ]


def test_convert__all_that_is_wrong_is_told_at_once(
    good: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        **good,
        "MODEL": "nope.onnx",
        "--device": "raspbery-pi-4",
        "--calibration": "no-folder",
        "--output": str(tmp_path / "x.bundle"),
    }
    more = [
        "--plan",
        "p.json",
        "--recipe",
        "w8a8",
        "--recipe",
        "w9",
        "--max-size",
        "4",
        "--name",
        "A b",
        "--report",
        "r.pdf",
    ]
    more += [
        "--min-fidelity",
        "0.9",
        "--min-fidelity",
        "0.95",
        "--min-fidelity",
        "30dB",
        "--allow",
        " ",
        "--state-dict",
        "s.pt",
    ]
    assert main(line(wrong, *more)) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert "edgesdk convert: error: 14 problems:\n  nope.onnx: there is no such model. Give a model file" in told
    for words in (
        "  --calibration no-folder: no such folder. Give --calibration a folder of typical inputs.",
        "  --plan p.json: no such file. Give the plan.json of a bundle: unzip -p NAME.edge plan.json > plan.json",
        "  --state-dict s.pt: no such file. Give what torch.save(module.state_dict(), FILE) wrote.",
        "  --state-dict s.pt: goes with package.module:factory, got the model nope.onnx, which has its weights. Leave it out.",
        "  --plan p.json and --recipe w8a8 --recipe w9: a plan says already what is done to every node. Leave one of them out.",
        "  --min-fidelity 0.9 --min-fidelity 0.95: 2 limits of agreement, expected one. Keep the one that is meant.",
        "  --allow: the reason is empty. Write why it is acceptable; whoever opens the bundle reads it.",
        "  device profile 'raspbery-pi-4' is unknown. Did you mean 'raspberry-pi-4'?",
        "x.bundle: a bundle is called NAME.edge. Say --output x.edge",
        "  --name 'A b': expected lower-case letters, digits and '-', at most 64. Say --name a-b",
        "  r.pdf: a report is called NAME.html or NAME.json. Say --report r.html",
        "  recipe 'w9' is unknown.",
        "  --max-size 4: 4 has no unit. Write 4B (or 4MiB if that is meant).",
    ):
        assert words in told, words
    assert list(tmp_path.glob("*.bundle")) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--recipe", "w8a8", "--recipe", "w8a8"], "--recipe w8a8: is given 2 times. Say it once."),
        (["--version", "0"], "got '0', expected a whole number of 1 or more"),
        (["--spec", "."], "--spec .: is a folder. Give the model.yaml."),
        (
            ["--min-fidelity", "20dB", "--min-fidelity", "30dB"],
            "2 limits in dB, expected one. Keep the one that is meant.",
        ),
    ],
)
def test_convert__one_thing_wrong(
    good: dict[str, str], more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(good, *more)) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "problems:" not in told


def test_convert__judged_on_its_own_calibration_samples__refused(
    good: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(good, "--evaluation", good["--calibration"] + "/.")) == 2
    told = capsys.readouterr().err
    assert (
        "is the calibration folder, so that the figures would be of samples that the ranges were fitted to. Leave it out"
        in told
    )


@pytest.mark.parametrize("command", [convert.COMMAND, models.COMMAND, sweep.COMMAND, report_command.COMMAND])
def test_help__every_option_says_what_it_is_and_every_exit_code_is_there(command: Command) -> None:
    parser = argparse.ArgumentParser(prog="x", description=command.help)
    command.configure(parser)
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
        else:
            assert action.help, action.option_strings
    for one in parsers[1:]:
        assert all(action.help for action in one._actions)
    text = parser.format_help()
    assert "exit codes: 0 " in text
    for code in ("; 1 ", "2 the command line is wrong", "130 stopped by Ctrl-C"):
        assert code in text.replace("\n", " "), code
