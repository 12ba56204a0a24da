"""`edgesdk run`, with real bundles on the fake backend, in its own process where signals and pipes matter."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from edgesdk.bundle import Manifest, write_bundle
from edgesdk.bundle.manifest import (
    AudioInput,
    Contract,
    ImageInput,
    InputSpec,
    Licence,
    OutputSpec,
    Provenance,
    StateInput,
    Variant,
)
from edgesdk.cli.main import main

APP = """\
schema: edgesdk.app/1
name: test
device: board
models: {m: {bundle: m.edge, backend: fake}}
sources: {s: {kind: fake, samples: 12}}
streams: {door: {source: s, run: [m]}}
telemetry: {outbox: {path: a.outbox}}
"""


def write_classifier(path: Path) -> Path:
    model = {
        "schema": "edgesdk.fake-model/1",
        "inputs": [{"name": "x", "shape": [1, 4, 4, 3]}],
        "outputs": [{"name": "y", "shape": [1, 2], "op": "mean", "of": ["x"]}],
    }
    contract = Contract(
        task="image-classification",
        inputs=(InputSpec(name="x", shape=(1, 4, 4, 3), dtype="float32", source=ImageInput(layout="NHWC")),),
        outputs=(OutputSpec(name="y", shape=(1, 2), dtype="float32"),),
        labels=("cat", "dog"),
    )
    return _write(path, "classifier", contract, model)


def write_listener(path: Path) -> Path:
    model = {
        "schema": "edgesdk.fake-model/1",
        "inputs": [{"name": "x", "shape": [1, 512]}, {"name": "s", "shape": [1, 4]}],
        "outputs": [
            {"name": "y", "shape": [1, 1], "op": "fill", "value": 0.9},
            {"name": "t", "shape": [1, 4], "op": "copy", "of": ["s"]},
        ],
    }
    contract = Contract(
        task="voice-activity",
        inputs=(
            InputSpec(
                name="x", shape=(1, 512), dtype="float32", source=AudioInput(sample_rate_hz=16000, chunk_samples=512)
            ),
            InputSpec(name="s", shape=(1, 4), dtype="float32", source=StateInput(from_output="t")),
        ),
        outputs=(
            OutputSpec(name="y", shape=(1, 1), dtype="float32"),
            OutputSpec(name="t", shape=(1, 4), dtype="float32"),
        ),
    )
    return _write(path, "listener", contract, model)


def _write(path: Path, name: str, contract: Contract, model: dict[str, Any]) -> Path:
    variant = Variant(
        id="fp32",
        file="model.onnx",
        format="onnx",
        precision="fp32",
        inputs=tuple(one.name for one in contract.inputs),
        outputs=tuple(one.name for one in contract.outputs),
    )
    manifest = Manifest(
        name=name,
        contract=contract,
        variants=(variant,),
        files={},
        provenance=Provenance(source_file="fake.json", source_sha256="0" * 64),
        licence=Licence(name="MIT"),
    )
    return write_bundle(path, manifest, {"model.onnx": json.dumps(model).encode()})


@pytest.fixture
def app_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    write_classifier(tmp_path / "m.edge")
    path = tmp_path / "app.yaml"
    path.write_text(APP)
    return path


def test_run__json__one_object_per_event_and_the_counts_last(
    app_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(app_yaml), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results = [event for event in events if event["event"] == "result"]
    assert len(results) == 12
    assert results[0]["result"]["kind"] == "classification"
    assert {"event": "source-ended", "source": "s", "delivered": 12} in events
    assert events[-1]["event"] == "end"
    assert events[-1]["outbox"]["accepted"] == 12
    assert len({event["id"] for event in results}) == 12


def test_run__lines__only_what_is_new_and_a_summary(app_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(app_yaml)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("door")
    assert len(lines) < 12
    assert "door: 12 samples, 0 dropped, 12 results, 12 published, 0 failed, 0 late" in lines
    assert "outbox: 12 accepted, 0 delivered, 12 waiting" in lines


def test_run__sound__is_heard_by_the_model(app_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_listener(app_yaml.parent / "m.edge")
    app_yaml.write_text(APP.replace("kind: fake,", "kind: fake, media: audio,"))
    assert main(["run", str(app_yaml), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["result"]["kind"] for event in events if event["event"] == "result"] == ["voice_activity"] * 12
    assert events[-1]["streams"]["door"]["models"]["m"]["failed"] == 0


def test_run__wrong_medium__is_counted_and_reported_as_failing(
    app_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app_yaml.write_text(APP.replace("kind: fake,", "kind: fake, media: audio,"))
    assert main(["run", str(app_yaml), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(event["event"] == "sample-failed" for event in events) == 12
    (failing,) = [event for event in events if event["event"] == "model-failing"]
    assert failing["reason"].startswith("TaskError: ")


def test_run__bad_file__all_problems_with_lines_and_exit_code_1(
    app_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app_yaml.write_text(APP.replace("source: s,", "source: t,").replace("m.edge", "n.edge"))
    assert main(["run", str(app_yaml)]) == 1
    errors = capsys.readouterr().err
    assert f"{app_yaml}:4: models.m.bundle: there is no bundle" in errors
    assert f"{app_yaml}:6: streams.door.source: source 't' is unknown." in errors


def test_run__model_does_not_load__exit_code_1_with_the_reason(
    app_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (app_yaml.parent / "m.edge").write_bytes(b"PK no bundle")
    assert main(["run", str(app_yaml)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "edgesdk run: error: model 'm'" in captured.err
    assert not (app_yaml.parent / "a.outbox").exists()


def test_run__check__runs_nothing(app_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(app_yaml), "--check"]) == 0
    assert capsys.readouterr().out == f"{app_yaml}: ok\n"
    assert not (app_yaml.parent / "a.outbox").exists()


def test_run__duration__ends_an_endless_app(app_yaml: Path) -> None:
    app_yaml.write_text(APP.replace("samples: 12", "samples: null, pace: real-time, rate: 100Hz"))
    before = set(threading.enumerate())
    assert main(["run", str(app_yaml), "--duration", "300ms"]) == 0
    assert set(threading.enumerate()) <= before


def test_run__duration_without_unit__is_a_usage_error(app_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(app_yaml), "--duration", "5"]) == 2
    assert "5 has no unit. Write 5s" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_run__preview_port_that_is_none__is_a_usage_error(
    app_yaml: Path, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    assert main(["run", str(app_yaml), f"--preview-port={port}"]) == 2
    assert f"got '{port}', expected a whole number from 0 to 65535" in capsys.readouterr().err


def test_run__a_bundle_instead_of_an_app__names_the_command(app_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = app_yaml.parent / "m.edge"
    assert main(["run", str(bundle)]) == 1
    assert f"is a bundle, expected an app.yaml. Write one for it: edgesdk init {bundle}" in capsys.readouterr().err


def _start(app_yaml: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "from edgesdk.cli import main; exit(main())",
            "run",
            str(app_yaml),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def test_run__preview__serves_on_loopback_until_the_signal(app_yaml: Path) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    app_yaml.write_text(APP.replace("samples: 12", "samples: null, pace: real-time, rate: 50Hz"))
    with _start(app_yaml, "--preview", "--json") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        assert found is not None
        process.stdout.readline()
        with urllib.request.urlopen(f"{found[0]}streams/door.jpg", timeout=20) as answer:
            assert answer.read(2) == b"\xff\xd8"
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    end = json.loads(out.splitlines()[-1])
    assert end["streams"]["door"]["accepted"] == end["outbox"]["accepted"]


def test_run__no_broker_at_the_start__results_wait_and_go_out_in_the_next_run(
    app_yaml: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    from edgesdk.telemetry.broker import EmbeddedBroker
    from edgesdk.telemetry.collector import Collector

    plain = app_yaml.read_text()
    app_yaml.write_text(plain.replace("telemetry: {", 'telemetry: {mqtt: {url: "mqtt://127.0.0.1:1"}, '))
    assert main(["run", str(app_yaml)]) == 0
    assert "outbox: 12 accepted, 0 delivered, 12 waiting" in capsys.readouterr().out
    assert "mqtt://127.0.0.1:1: cannot be reached" in caplog.text
    assert "Results wait in the outbox; check address and network." in caplog.text
    with EmbeddedBroker() as broker, Collector(broker.url, "edgesdk/+/+/+/results") as collector:
        app_yaml.write_text(plain.replace("telemetry: {", f'telemetry: {{mqtt: {{url: "{broker.url}"}}, '))
        assert main(["run", str(app_yaml)]) == 0
        assert collector.wait_for(lambda now: len(now.ids) >= 24, 20.0)
    assert "outbox: 12 accepted, 24 delivered, 0 waiting" in capsys.readouterr().out


def test_run__disk_full_to_the_end__exits_1_and_counts_what_is_lost(app_yaml: Path) -> None:
    """A process whose files may not grow beyond 200 kB (RLIMIT_FSIZE): writes fail as on a full disk."""
    app_yaml.write_text(app_yaml.read_text().replace("samples: 12", "samples: 1500"))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        f"from edgesdk.cli.main import main; sys.exit(main(['run', {str(app_yaml)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    lost = re.search(r"error: (\d+) results are lost: they could not be written to the outbox", done.stderr)
    told = re.search(r"outbox: (\d+) accepted, 0 delivered, \d+ waiting, (\d+) lost", done.stdout)
    assert lost is not None, done.stderr
    assert told is not None, done.stdout
    assert int(told[1]) + int(told[2]) == 1500
    assert int(told[2]) == int(lost[1])


def test_run__reader_has_gone__ends_cleanly(app_yaml: Path) -> None:
    app_yaml.write_text(APP.replace("samples: 12", "samples: null, pace: real-time, rate: 50Hz"))
    with _start(app_yaml, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
