from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgesdk.app import load_config
from edgesdk.app.config import source_kind
from edgesdk.cli.main import main

# Test files are no package: the writers of small bundles live beside the tests that run them.
_spec = importlib.util.spec_from_file_location("bundles_for_init", Path(__file__).with_name("test_run.py"))
assert _spec is not None
assert _spec.loader is not None
_bundles: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_bundles)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    _bundles.write_classifier(tmp_path / "models" / "see.edge")
    _bundles.write_listener(tmp_path / "models" / "hear.edge")
    return tmp_path


def test_init__pictures_get_the_camera_and_sound_the_microphone(folder: Path) -> None:
    assert main(["init", "models/see.edge", "models/hear.edge"]) == 0
    text = (folder / "app.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=app.schema.json\n")
    config = load_config(folder / "app.yaml")
    assert {name: source_kind(options) for name, options in config.sources.items()} == {
        "camera": "v4l2",
        "mic": "microphone",
    }
    assert config.sources["mic"].rate_hz == 16000
    assert config.streams["view"].run == ("classifier",)
    assert config.streams["view"].policy == "latest"
    assert config.streams["sound"].policy == "drop_oldest"
    assert config.models["classifier"].files == (folder / "models" / "see.edge",)


def test_init__the_schema_beside_it_takes_the_file(folder: Path) -> None:
    assert main(["init", "models/see.edge"]) == 0
    schema = json.loads((folder / "app.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load((folder / "app.yaml").read_text()))


@pytest.mark.parametrize(
    ("source", "kind"),
    [("/dev/video2", "v4l2"), ("camera", "v4l2"), ("photos", "images"), ("clip.mp4", "video"), ("fake", "fake")],
)
def test_init__source__as_named(folder: Path, source: str, kind: str) -> None:
    (folder / "photos").mkdir()
    assert main(["init", "models/see.edge", "--source", source]) == 0
    (options,) = load_config(folder / "app.yaml").sources.values()
    assert source_kind(options) == kind


def test_init__what_it_wrote__runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "models/see.edge", "--source", "fake", "--output", "doorway.yaml", "--name", "door way"]) == 0
    text = (folder / "doorway.yaml").read_text().replace("samples: 100", "samples: 3").replace(".edge", ".edge")
    (folder / "doorway.yaml").write_text(text.replace('see.edge"', 'see.edge", backend: fake'))
    capsys.readouterr()
    assert main(["run", "doorway.yaml", "--json"]) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["outbox"]["accepted"] == 3
    assert (folder / "door-way.outbox").exists()


def test_init__existing_file__is_kept_unless_forced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app.yaml").write_text("mine")
    assert main(["init", "models/see.edge"]) == 1
    assert "app.yaml: exists already. Name another file with --output, or write over it with --force." in (
        capsys.readouterr().err
    )
    assert (folder / "app.yaml").read_text() == "mine"
    assert main(["init", "models/see.edge", "--force"]) == 0
    assert load_config(folder / "app.yaml").name == "classifier"


def test_init__that_cannot_be_written__leaves_nothing_behind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app.yaml").mkdir()
    assert main(["init", "models/see.edge", "--force"]) == 1
    assert "app.yaml: cannot be written: Is a directory. Check the free disk" in capsys.readouterr().err
    assert not list(folder.glob(".*.partial"))


def test_init__foreign_schema_file__is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app.schema.json").write_text("{}")
    assert main(["init", "models/see.edge"]) == 1
    assert "app.schema.json: exists already, and is no schema of edgesdk" in capsys.readouterr().err
    assert not (folder / "app.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["models/see.edge", "--source", "nothing.xyz"],
            "--source nothing.xyz: is no source. Expected camera, microphone",
        ),
        (["models/see.edge", "--source", "microphone"], "delivers audio, which none of the bundles takes"),
        (["models/gone.edge"], "gone.edge"),
        (["models/see.edge", "--output", "no/where.yaml"], "there is no such folder. Make it"),
    ],
)
def test_init__bad_arguments__say_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["init", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "app.yaml").exists()


def test_init__broker__is_written_with_its_files_relative_to_the_app(folder: Path) -> None:
    (folder / "gate 7.pass").write_text("secret")
    (folder / "ca.pem").write_text("")
    (folder / "apps").mkdir()
    arguments = ["--broker", "mqtts://broker.example", "--username", "gate-7"]
    arguments += ["--password-file", "gate 7.pass", "--ca-file", "ca.pem", "--output", "apps/door.yaml"]
    assert main(["init", "models/see.edge", *arguments]) == 0
    mqtt = load_config(folder / "apps" / "door.yaml").telemetry.mqtt
    assert mqtt is not None
    assert (mqtt.url, mqtt.username) == ("mqtts://broker.example", "gate-7")
    assert Path(str(mqtt.password_file)).samefile(folder / "gate 7.pass")
    assert "../ca.pem" in (folder / "apps" / "door.yaml").read_text()


def test_init__broker_without_credentials__is_one_key(folder: Path) -> None:
    assert main(["init", "models/see.edge", "--broker", "mqtt://127.0.0.1:1883"]) == 0
    text = (folder / "app.yaml").read_text()
    assert '  mqtt:\n    url: "mqtt://127.0.0.1:1883"\n  outbox:' in text
    assert "# mqtt:" not in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--username", "gate-7"], "go with a broker. Add --broker URL.", 2),
        (["--broker", "broker:1883"], "--broker: got 'broker:1883', expected mqtt://host[:port]", 1),
        (["--broker", "mqtt://b", "--ca-file", "models"], "Write --broker mqtts://b:8883, or leave --ca-file out.", 1),
        (["--broker", "mqtts://b", "--ca-file", "gone.pem"], "--ca-file: gone.pem is not there", 1),
        (["--broker", "mqtt://b", "--password-file", "p"], "without a user name. Add --username NAME.", 1),
        (["--broker", "mqtt://me:secret@b"], "Use --username and --password-file.", 1),
    ],
)
def test_init__bad_broker__speaks_of_the_options(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, code: int
) -> None:
    assert main(["init", "models/see.edge", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "secret" not in error
    assert not (folder / "app.yaml").exists()
