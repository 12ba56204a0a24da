from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest

from edgesdk.bundle import Bundle
from edgesdk.bundle.write import write_bundle
from edgesdk.cli import main
from edgesdk_converters.pipeline import convert
from edgesdk_converters.report import read_record, record_of, write_report
from edgesdk_converters.report.write import to_json

MAIN = "import sys; from edgesdk.cli import main; sys.exit(main())"


@pytest.fixture
def bundle(make_conv: Callable[..., onnx.ModelProto], tmp_path: Path) -> Path:
    onnx.save(make_conv(), tmp_path / "model.onnx")
    conversion = convert(
        tmp_path / "model.onnx", device="raspberry-pi-4", calibration=None, output=tmp_path / "small.edge"
    )
    write_report(record_of(conversion), tmp_path / "small.json")
    return conversion.bundle


def test_report__from_json_and_from_bundle(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("small.json", bundle.name):
        assert main(["report", str(tmp_path / source), "--output", str(tmp_path / "r.html")]) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'r.html'}\n"
        assert "No quantized model is in the bundle" in (tmp_path / "r.html").read_text("utf-8")
    assert main(["report", str(bundle), "--output", str(tmp_path / "again.json")]) == 0
    assert read_record(tmp_path / "again.json").name == "small"


def test_report__a_bundle_that_carries_its_record(bundle: Path, tmp_path: Path) -> None:
    with Bundle.open(bundle) as opened:
        files = {name: opened.read(name) for name in opened.manifest.files}
        manifest, record = opened.manifest, read_record(tmp_path / "small.json")
    told = msgspec.structs.replace(record, failures=("only the conversion knew this",))
    write_bundle(tmp_path / "full.edge", manifest, {**files, "report.json": to_json(told)})
    assert main(["report", str(tmp_path / "full.edge"), "--output", str(tmp_path / "r.html")]) == 0
    assert "only the conversion knew this" in (tmp_path / "r.html").read_text("utf-8")


def test_report__says_what_is_missing(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(bundle)]) == 2
    assert "say --output FILE.html, or --serve to look at it now" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none.json"), "--output", str(tmp_path / "r.html")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    same = str(tmp_path / "small.json")
    assert main(["report", same, "--output", same]) == 1
    assert "is the file that is read. Name another with --output" in capsys.readouterr().err
    assert main(["report", same, "--serve", "--port", "99999"]) == 2
    assert "got '99999', expected a whole number from 0 to 65535" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["report", same, "--serve", "--port", str(port)]) == 1
    told = capsys.readouterr().err
    assert f"--port {port}: cannot listen there" in told
    assert "Leave --port out to take a free one." in told
    assert main(["report", same, "--output", same, "--port", "1", "--bundle", "x.edge"]) == 2
    told = capsys.readouterr().err
    assert "edgesdk report: error: 2 problems:" in told
    assert "--bundle x.edge: is whose models --serve shows. Add --serve, or leave it out." in told
    assert "--port 1: is where --serve listens. Add --serve, or leave it out." in told


def test_report__serve_until_ctrl_c(bundle: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "report", str(bundle), "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "no_proxy": "127.0.0.1"},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.stderr and process.stderr.read()
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert "Conversion report" in answer.read().decode("utf-8")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "stopped" in errors


def test_report__another_bundle_than_the_reports__gets_no_links(
    bundle: Path, tmp_path: Path, make_conv: Callable[..., onnx.ModelProto]
) -> None:
    onnx.save(make_conv(channels=8), tmp_path / "other.onnx")
    convert(tmp_path / "other.onnx", device="raspberry-pi-4", calibration=None, output=bundle)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "report", str(tmp_path / "small.json"), "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "is not the bundle of this report; no links to Netron" in errors


def test_sweep__table_json_and_errors(
    tmp_path: Path, make_conv: Callable[..., onnx.ModelProto], capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(make_conv(), tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    file = tmp_path / "sweep.yaml"
    file.write_text("models:\n  good: {source: good.onnx}\n  bad: {source: bad.onnx}\nboards: [raspberry-pi-4]\n")
    assert main(["sweep", str(file)]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split() == ["model", "recipe", "board", "variant", "size", "time", "worst", "branch", "took"]
    assert "float only" in lines[1]
    assert "FAILED" in lines[2]
    assert "failed: bad, default, raspberry-pi-4:" in printed.err
    assert "1 of 2 cells failed; run it again to try these again." in printed.err
    assert main(["sweep", str(file), "--json", "--jobs", "1"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["resumed"] == 1
    assert [cell["status"] for cell in said["cells"]] == ["float-only", "failed"]
    assert main(["sweep", str(file), "--jobs", "-1"]) == 2
    assert "got '-1', expected a whole number of 0 or more" in capsys.readouterr().err
    assert main(["sweep", str(file), "--jobs", "2", "--cluster", "host:8786"]) == 2
    told = capsys.readouterr().err
    assert "edgesdk sweep: error: 2 problems:" in told
    assert "--jobs 2: counts cells on this machine, and with --cluster none run here. Leave it out; --nthreads" in told
    assert "--cluster host:8786: expected PROTOCOL://HOST:PORT. Say --cluster tcp://host:8786" in told
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 1
    assert "there is no such file" in capsys.readouterr().err
