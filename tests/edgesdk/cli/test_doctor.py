from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgesdk.backends.api import Availability, ModelFile, Session, SessionOptions
from edgesdk.cli import doctor
from edgesdk.cli.main import main


class AbsentBackend:
    name = "absent"
    formats = frozenset({"onnx"})

    def availability(self) -> Availability:
        return Availability(available=False, reason="not installed", fix="pip install 'edgesdk[absent]'")

    def open(self, model: ModelFile, options: SessionOptions) -> Session:
        raise NotImplementedError


def test_doctor__this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("Python", "memory", "profile", "backend onnxruntime", "camera", "microphone", "disk (cache)"):
        assert part in out
    assert "backend fake" not in out


def test_doctor__json_names_the_fix_of_everything_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert all(finding["fix"] for finding in told["findings"] if finding["status"] in ("missing", "optional"))


class ReadyBackend(AbsentBackend):
    name = "ready"

    def availability(self) -> Availability:
        return Availability(available=True, runtime="ready 1.0", reason="", fix="")


class BrokenBackend(AbsentBackend):
    name = "broken"

    def availability(self) -> Availability:
        return Availability(
            available=False, runtime="broken 1.0", reason="clashes with numpy 2", fix="pip install 'numpy<2'"
        )


def test_backends__one_is_enough() -> None:
    alone = [finding.status for finding in doctor.backend_findings([AbsentBackend()])]
    beside = [finding.status for finding in doctor.backend_findings([AbsentBackend(), ReadyBackend()])]
    assert (alone, beside) == (["missing"], ["optional", "ok"])


def test_backends__one_that_is_there_but_broken_is_no_option() -> None:
    statuses = [finding.status for finding in doctor.backend_findings([BrokenBackend(), ReadyBackend()])]
    assert statuses == ["missing", "ok"]


def test_doctor__nothing_can_run_a_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "_backends", lambda: iter([AbsentBackend()]))
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "-> pip install 'edgesdk[absent]'" in captured.out
    assert "nothing here can run a model" in captured.err
    assert main(["doctor", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"]


def test_package__not_installed() -> None:
    finding = doctor.package_finding("x", "edgesdk_no_such_module", "no-such", "vision")
    assert (finding.status, finding.fix) == ("optional", "pip install 'edgesdk[vision]'")
    finding = doctor.package_finding("x", "edgesdk_no_such_module", "no-such", "vision", imports=False)
    assert finding.status == "optional"


def test_package__that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgesdk_test_broken.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = doctor.package_finding("x", "edgesdk_test_broken", "broken", "vision")
    assert finding.status == "missing"
    assert "libGL.so.1" in finding.found


def test_memory__little_and_unknown(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  437000 kB\nMemAvailable:   90000 kB\nHugePages_Total: 0\n")
    finding = doctor.memory_finding(meminfo)
    assert (finding.status, finding.found) == ("warning", "88 MiB free of 427 MiB")
    assert "zram" in finding.fix
    assert doctor.memory_finding(tmp_path / "none").status == "warning"


def test_python__too_old() -> None:
    finding = doctor.python_finding((3, 8, 10))
    assert (finding.status, "python3.11" in finding.fix) == ("warning", True)


def test_cameras__none_and_some(tmp_path: Path) -> None:
    (none,) = doctor.camera_findings(tmp_path)
    assert none.status == "optional"
    assert "plug one in" in none.fix
    for name in ("video10", "video2", "videoish"):
        (tmp_path / name).write_bytes(b"")
    found = list(doctor.camera_findings(tmp_path))
    assert [finding.found for finding in found] == [str(tmp_path / "video2"), str(tmp_path / "video10")]


def test_disk__small(tmp_path: Path) -> None:
    finding = doctor.disk_finding(tmp_path / "not" / "yet", "disk", lambda _: (0, 0, 100 * 2**20))
    assert finding.status == "warning"
    assert finding.found.startswith("100 MiB free")
