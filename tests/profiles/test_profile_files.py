"""Every shipped profile is a test case."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from edgesdk import registry
from edgesdk.profiles import load_profile, profile_ids, profile_json_schema, profiles_folder, read_profile
from edgesdk.profiles.show import lines, plain

FILES = sorted(profiles_folder().glob("*.yaml"))
PROMISED = {
    "raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-5-hailo-8l",
    "jetson-orin-nano-8gb", "jetson-xavier-nx", "coral-dev-board", "imx93-evk", "rock-5b", "qcs6490-rb3",
    "generic-x86-64", "generic-aarch64",
}  # fmt: skip


def test_profiles__all_that_were_promised_are_there() -> None:
    assert {file.stem for file in FILES} >= PROMISED


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_profile__loads_with_a_source_for_each_number(file: Path) -> None:
    loaded = read_profile(file)
    assert loaded.profile.id == file.stem
    assert all(source in loaded.profile.sources for source in loaded.sources.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_profile__describes_no_source_that_nothing_uses(file: Path) -> None:
    own = yaml.safe_load(file.read_text())["sources"]
    assert set(own) <= set(read_profile(file).sources.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_profile__is_valid_by_the_exported_schema_and_names_it(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=profile.schema.json\n")
    schema = json.loads((file.parent / "profile.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


def test_profile_schema__is_the_export() -> None:
    exported = json.dumps(profile_json_schema(), indent=2) + "\n"
    assert (profiles_folder() / "profile.schema.json").read_text() == exported, (
        "write it anew: edgesdk profile schema > device_profiles/profile.schema.json"
    )


@pytest.mark.parametrize("profile_id", profile_ids())
def test_profile__ends_in_the_shipped_backends_on_the_cpu(profile_id: str) -> None:
    profile = load_profile(profile_id)
    on_cpu = [one.name for one in profile.backends if one.accelerator is None]
    assert {"onnxruntime", "tflite"} <= set(on_cpu)
    for one in profile.backends:
        if one.name not in registry.plugins(registry.BACKENDS):
            assert "no plug-in for it is shipped yet" in (one.note or "")


@pytest.mark.parametrize("profile_id", ["jetson-xavier-nx", "coral-dev-board"])
def test_profile__python_too_old_names_the_way_round(profile_id: str) -> None:
    advice = load_profile(profile_id).software.advice or ""
    assert "too old for edgesdk (3.10 or newer). Way round it:" in advice
    assert "pip install" in advice


@pytest.mark.parametrize("profile_id", profile_ids())
def test_profile__can_be_shown(profile_id: str) -> None:
    loaded = read_profile(profile_id)
    text = "\n".join(lines(loaded))
    assert loaded.profile.name in text
    assert all(loaded.profile.sources[name].title in text for name in set(loaded.sources.values()))
    assert json.loads(json.dumps(plain(loaded.profile)))["id"] == profile_id


def test_profiles__unverified_numbers_say_so_in_their_source() -> None:
    for file in FILES:
        for source in read_profile(file).profile.sources.values():
            assert source.status != "unverified" or source.note, f"{file.name}: {source.title} needs a note"
            assert source.status != "published" or source.url, f"{file.name}: {source.title} needs a url"
