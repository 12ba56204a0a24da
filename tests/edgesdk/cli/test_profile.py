from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgesdk.cli.main import main

TREES = Path(__file__).parents[1] / "profiles" / "trees"


def test_list__is_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    column = rows[0].index("MEMORY")
    assert {row[column - 1] for row in rows} == {" "}
    assert any(row.startswith("raspberry-pi-zero-2w ") and "512MiB" in row for row in rows)


def test_list__json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "list", "--json"]) == 0
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["raspberry-pi-4"]["memory"]["size_bytes"] == 4 << 30


def test_show__numbers_have_footnotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "show", "raspberry-pi-5-hailo-8l"]) == 0
    text = capsys.readouterr().out
    assert "extends: raspberry-pi-5-hailo-8l -> raspberry-pi-5" in text
    assert "13TOPS  [" in text
    assert "] published: Raspberry Pi documentation, AI HAT+" in text


def test_show__json_names_the_source_of_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "show", "imx93-evk", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accelerators"][0]["peak_tops"] == 0.5
    assert found["number_sources"]["accelerators[0].peak"] in found["sources"]


def test_show__an_unknown_id_exits_1_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "show", "rock5b"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "device profile 'rock5b' is unknown. Did you mean 'rock-5b'?" in captured.err


def test_validate__ok_and_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("schema: edgesdk.profile/1\nid: good\nname: Good\nextends: raspberry-pi-4\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "schema: edgesdk.profile/1\nid: bad\nname: Bad\nextends: raspberry-pi-4\nmemroy: {}\nthermal: {soft_limit: 70}\n"
    )
    assert main(["profile", "validate", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: ok, profile good\n"
    assert main(["profile", "validate", str(good), str(bad)]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{good}: ok, profile good\n"
    assert f"{bad}:6: thermal.soft_limit: 70 has no source. Add 'source: ID' to 'thermal'" in captured.err
    assert main(["profile", "validate", "--json", str(bad), str(tmp_path / "none.yaml")]) == 1
    results = json.loads(capsys.readouterr().out)
    assert [one["ok"] for one in results] == [False, False]
    assert "there is no such file" in results[1]["problems"][0]


def test_detect__of_a_recorded_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "detect", "--root", str(TREES / "jetson-xavier-nx")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("profile   jetson-xavier-nx\n  because   the device tree is compatible with")
    assert "note      Python 3.8 is older than 3.10" in text
    assert main(["profile", "detect", "--root", str(TREES / "unknown-aarch64"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == "generic-aarch64"
    assert len(found["unknown"]) == 4


def test_detect__of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "detect"]) == 0
    assert "runtimes  " in capsys.readouterr().out


def test_detect__writes_a_profile_that_validates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "my-pi.yaml"
    command = ["profile", "detect", "--root", str(TREES / "raspberry-pi-4-2gb"), "--output", str(file)]
    assert main(command) == 0
    assert main(["profile", "validate", str(file)]) == 0
    assert main(command) == 1
    assert "the file exists. Add --force to overwrite it." in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Pi.yml", "lower-case with dashes. Write --output {folder}/my-pi.yaml"),
        ("raspberry-pi-4.yaml", "Choose another name, such as my-raspberry-pi-4.yaml"),
        ("gone/my-pi.yaml", "cannot be written: No such file or directory. Make the folder, or name another."),
    ],
)
def test_detect__output_that_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, message: str
) -> None:
    assert main(["profile", "detect", "--root", str(TREES / "raspberry-pi-4"), "--output", str(tmp_path / name)]) == 1
    assert message.format(folder=tmp_path) in capsys.readouterr().err


def test_detect__a_root_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["profile", "detect", "--root", str(tmp_path / "gone")]) == 1
    assert "there is no such folder. Give a folder that holds proc, sys and etc." in capsys.readouterr().err


def test_schema__is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "edgesdk device profile"


def test_usage__exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile"]) == 2
    assert main(["profile", "shwo"]) == 2
    assert "invalid choice" in capsys.readouterr().err
