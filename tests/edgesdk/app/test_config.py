from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from edgesdk.app import AppConfig, app_json_schema, load_config
from edgesdk.app.config import SCHEMA_FILE, device_id, source_kind
from edgesdk.app.loading import parse_config
from edgesdk.errors import ConfigError

ROOT = Path(__file__).parents[3]
GOOD = """\
schema: edgesdk.app/1
name: doorway
device: gate-7
models:
  faces: {bundle: models/faces.edge}
  text:  {bundles: [det.edge, rec.edge], backend: onnxruntime, threads: 2}
sources:
  camera: {kind: v4l2, device: /dev/video0, size_wh: [1280, 720], rate: 15Hz}
  mic:    {kind: microphone, rate: 16kHz}
  clip:   {kind: video, path: media/clip.mp4, pace: fast}
streams:
  door:   {source: camera, run: [faces], policy: latest, deadline: 100ms, publish: {when: change, every: 10s}}
  signs:  {source: clip, run: [text, faces]}
telemetry:
  mqtt:   {url: "mqtts://broker.example:8883", username: gate-7, password_file: mqtt.pass, ca_file: /etc/ca.pem}
  outbox: {path: doorway.outbox, max_size: 256MiB, when_full: drop_oldest}
"""


def _problems(text: str, **options: bool) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, base=Path("/base"), file="app.yaml", **options)
    return list(caught.value.problems)


def test_parse__the_design_example__paths_are_taken_from_its_folder() -> None:
    config = parse_config(GOOD, base=Path("/base"))
    assert isinstance(config, AppConfig)
    assert config.models["faces"].files == (Path("/base/models/faces.edge"),)
    assert config.models["text"].files == (Path("/base/det.edge"), Path("/base/rec.edge"))
    assert source_kind(config.sources["camera"]) == "v4l2"
    assert config.sources["camera"].rate_hz == 15.0
    assert config.sources["clip"].path == Path("/base/media/clip.mp4")
    assert config.streams["door"].deadline_s == 0.1
    assert config.telemetry.outbox.path == "/base/doorway.outbox"
    assert config.telemetry.mqtt is not None
    assert config.telemetry.mqtt.password_file == "/base/mqtt.pass"
    assert config.telemetry.mqtt.ca_file == "/etc/ca.pem"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("rate: 15Hz", "rate: 15", r"app.yaml:8: sources.camera.rate: 15 has no unit. Write 15Hz"),
        ("deadline: 100ms", "deadline: 100", r"has no unit. Write 100"),
        ("kind: microphone", "kind: microphon", "'microphon' is unknown. Did you mean 'microphone'?"),
        ("policy: latest", "policy: newest", "Known: latest, block, drop_oldest"),
        ("policy: latest", "polcy: latest", "Did you mean 'policy'?"),
        ("source: camera", "source: camra", "app.yaml:12: streams.door.source: source 'camra' is unknown. Did you mean 'camera'?"),
        ("run: [faces]", "run: [facs]", "streams.door.run[0]: model 'facs' is unknown. Did you mean 'faces'?"),
        ("run: [text, faces]", "run: [text, text]", "model 'text' stands here twice. Delete one"),
        ("run: [faces]", "run: []", "app.yaml:12: streams.door.run"),
        ("policy: latest", "policy: latest, queue: 5", "policy latest has one place. Delete `queue`"),
        ("when: change, every", "every", "means something only with `when: change`. Add it"),
        ("deadline: 100ms", "deadline: 0s", "is not longer than 0s. Leave it out"),
        ("backend: onnxruntime", "backend: onnxruntim", "backend 'onnxruntim' is unknown. Did you mean 'onnxruntime'?"),
        ("{bundle: models/faces.edge}", "{}", "needs either `bundle: FILE` or"),
        ("name: doorway", "name: door way", "'door way' is no name: expected 1 to 64 letters, digits, - and _ (topics use it). Write 'door-way'."),
        ("device: gate-7", "device: gate/7", "Write 'gate-7'."),
        ("schema: edgesdk.app/1", "schema: edgesdk.app/2", "edgesdk.app/1"),
    ],
)  # fmt: skip
def test_parse__bad__names_place_and_fix(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    problems = _problems(GOOD.replace(old, new, 1))
    assert len(problems) == 1
    assert problems[0].startswith("app.yaml:")
    assert problem in problems[0]


def test_parse__several__are_told_together_in_order() -> None:
    text = (
        GOOD.replace("source: camera", "source: cam").replace("run: [text", "run: [txt").replace("gate-7\n", "a b\n", 1)
    )
    assert len(_problems(text)) == 3
    wrong_values = text.replace("rate: 15Hz", "rate: 15").replace("max_size: 256MiB", "max_size: 256")
    lines = [int(problem.split(":")[1]) for problem in _problems(wrong_values)]
    assert lines == [8, 12, 13, 16]


@pytest.mark.parametrize(
    "text", ["", "[]", "a", "streams: 3", "streams: {a: 3}", "streams: {a: {run: b}}", "a: [", "\t"]
)
def test_parse__anything_else__is_refused_with_its_line(text: str) -> None:
    assert all(problem.startswith("app.yaml:") for problem in _problems(text))


def test_load__missing_bundles_and_files__are_told_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert f"{path}:5: models.faces.bundle: there is no bundle {tmp_path}/models/faces.edge. Check the path" in text
    assert f"{path}:6: models.text.bundles[1]: there is no bundle" in text
    assert f"{path}:15: telemetry.mqtt.ca_file: /etc/ca.pem is not there" in text
    assert isinstance(load_config(path, check_files=False), AppConfig)


@pytest.mark.parametrize(
    ("configured", "variable", "expected"),
    [("gate-7", "other", "gate-7"), (None, "gate 7/östlich", "gate-7-stlich"), (None, "", None)],
)
def test_device_id__file_then_variable_then_host_name(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, variable: str, expected: str | None
) -> None:
    monkeypatch.setenv("EDGESDK_DEVICE", variable)
    monkeypatch.setattr("socket.gethostname", lambda: "board.example.org")
    assert device_id(configured) == (expected or "board-example-org")


def test_json_schema__is_the_exported_one() -> None:
    exported = json.loads((ROOT / "docs" / SCHEMA_FILE).read_text())
    assert exported == app_json_schema(), "run: python -m edgesdk.app > docs/app.schema.json"


def test_json_schema__takes_the_good_and_refuses_the_bad() -> None:
    validator = jsonschema.Draft202012Validator(app_json_schema())
    validator.validate(yaml.safe_load(GOOD))
    for old, new in (("rate: 15Hz", "rate: 15"), ("kind: v4l2", "kind: v4l"), ("policy: latest", "policy: newest")):
        assert not validator.is_valid(yaml.safe_load(GOOD.replace(old, new)))
