from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk.cli.main import main

Make = Callable[..., Path]


def test_verify__sound_bundle(make_bundle: Make, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_bundle()
    assert main(["verify", str(path)]) == 0
    assert "relu version 1 is sound: 1 files" in capsys.readouterr().out
    assert main(["verify", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["problems"], told["name"]) == (True, [], "relu")


def test_verify__changed_file(make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(make_bundle()) as archive:
        archive.extractall(folder)
    model = folder / "onnx-fp32.onnx"
    model.write_bytes(model.read_bytes()[::-1])
    assert main(["verify", str(folder)]) == 1
    assert "changed or damaged. Copy the bundle again." in capsys.readouterr().err
    assert main(["verify", str(folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "BundleIntegrityError"
    assert not told["ok"]
    assert len(told["problems"]) == 1


def test_verify__unsafe_archive_is_told_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.edge", "w") as archive:
        archive.writestr("../evil", b"x")
    assert main(["verify", str(tmp_path / "a.edge"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "BundleUnsafeError"
    assert "leaves the bundle by '..'" in told["problems"][0]
