from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError
from edgesdk.schema import ByteCount, Seconds, parse_yaml

Types = SimpleNamespace


def problems(text: str, type_: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, type_, file="app.yaml")
    return caught.value.problems


def test_parse_yaml__every_kind_of_type(types: Types, good: str) -> None:
    app = parse_yaml(good, types.App)
    assert app == types.App(
        name="doorway",
        sources={
            "camera": types.Camera(device="/dev/video0", size_wh=(1280, 720), rate_hz=15.0),
            "mic": types.Microphone(rate_hz=16000.0),
        },
        streams={
            "door": types.Stream(source="camera", run=("faces",), deadline_s=0.1, threshold=1.0, level=types.Level.HIGH)
        },
        path=Path("/var/lib/edgesdk"),
        size_bytes=256 << 20,
        every_s=300.0,
        counts={1: [2, 3]},
        options={"anything": ["goes", {"here": 1.5}]},
    )
    assert type(app.streams["door"].threshold) is float


def test_parse_yaml__all_problems_at_once_in_the_order_of_the_file(types: Types) -> None:
    text = """\
nam: 3
sources:
  camera: {kind: v4l, device: 3}
  front: {kind: v4l2, device: 3, size_wh: [1280], rate: 15}
  mic: {rate: 16khz}
  other: 5
streams:
  door: {source: camera, run: faces, policy: lates, deadline_s: 100, threshold: 1.5, live: yes}
  gate: {source: camera, run: [3], deadline: 100, level: hihg}
size: 1.5
every: 3
counts: {one: [1]}
path:
"""
    assert problems(text, types.App) == (
        (
            "app.yaml:1: key 'nam' is unknown. Did you mean 'name'? Known: name, sources, streams, path, size, every, "
            "counts, options."
        ),
        "app.yaml:3: sources.camera.kind: 'v4l' is unknown. Did you mean 'v4l2'? Known: v4l2, microphone.",
        "app.yaml:4: sources.front.device: got '3', expected text. Write \"3\" in quotes.",
        "app.yaml:4: sources.front.size_wh: got a list of 1, expected a list of 2: a whole number, a whole number.",
        "app.yaml:4: sources.front.rate: 15 has no unit. Write 15Hz (or 15kHz if that is meant).",
        "app.yaml:5: sources.mic: key 'kind' is missing. Add 'kind:' with one of v4l2, microphone.",
        "app.yaml:6: sources.other: got '5', expected a mapping with kind: v4l2, microphone.",
        "app.yaml:8: streams.door.run: got 'faces', expected a list of text. Write [faces].",
        "app.yaml:8: streams.door.policy: 'lates' is unknown. Did you mean 'latest'? Known: latest, block.",
        (
            "app.yaml:8: streams.door: key 'deadline_s' is unknown. Did you mean 'deadline'? Known: source, run, policy, "
            "deadline, threshold, live, level."
        ),
        "app.yaml:8: streams.door.threshold: got '1.5', expected at most 1.",
        "app.yaml:8: streams.door.live: got 'yes', expected true or false. Write true.",
        "app.yaml:9: streams.gate.run[0]: got '3', expected text. Write \"3\" in quotes.",
        "app.yaml:9: streams.gate.deadline: 100 has no unit. Write 100s (or 100ms if that is meant).",
        "app.yaml:9: streams.gate.level: 'hihg' is unknown. Did you mean 'high'? Known: low, high.",
        "app.yaml:10: size: 1.5 has no unit. Write 1.5B (or 1.5MiB if that is meant).",
        "app.yaml:11: every: 3 has no unit. Write 3s (or 3ms if that is meant).",
        "app.yaml:12: counts.one: got 'one', expected a whole number.",
    )


def test_parse_yaml__a_missing_key_says_what_belongs_there(types: Types) -> None:
    assert problems("sources: {}\n", types.App) == ("app.yaml:1: key 'name' is missing. Add 'name:' with text.",)


def test_parse_yaml__an_empty_value_is_not_the_default(types: Types) -> None:
    found = problems("name: x\nsources:\nstreams: {a: {source: , run: []}}\n", types.App)
    assert found == (
        "app.yaml:2: sources: got nothing, expected a mapping of names to a mapping with kind: v4l2, microphone.",
        "app.yaml:3: streams.a.source: got nothing, expected text.",
    )


def test_parse_yaml__what_post_init_says_has_a_place(types: Types) -> None:
    text = "name: x\nsources: {}\nstreams:\n  a: {source: s, run: [], policy: block, deadline: 1s}\n"
    assert problems(text, types.App) == (
        "app.yaml:4: streams.a: policy block keeps everything, so it has no deadline. Remove 'deadline'.",
    )


def test_parse_yaml__merge_keys_name_the_other_way(types: Types) -> None:
    text = "name: x\nsources: {}\nstreams:\n  a: &a {source: s, run: []}\n  b:\n    <<: *a\n    live: false\n"
    assert "app.yaml:6: streams.b: key '<<' is unknown. Merge keys are not read; write the keys out" in "\n".join(
        problems(text, types.App)
    )


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (int, '"12"', "got '12', expected a whole number. Write 12 without quotes, separators or units."),
        (int, "1_000", "Write 1000 without quotes, separators or units."),
        (float, "0,5", "Write 0.5 without quotes, separators or units."),
        (float, ".nan", "got '.nan', expected a number."),
        (int, "3.0", "expected a whole number. Write 3."),
        (int, "true", "got 'true', expected a whole number."),
        (bool, "off", "expected true or false. Write false."),
        (bool, "1", "expected true or false. Write true."),
        (list[int], "{a: 1}", "got a mapping, expected a list of a whole number."),
        (dict[str, int], "[1]", "got a list of 1, expected a mapping of names to a whole number."),
        (int | str, "[1]", "got a list of 1, expected a whole number or text."),
        (str | None, "[]", "got a list of 0, expected text."),
    ],
)
def test_parse_yaml__wrong_scalars_and_containers(type_: Any, text: str, message: str) -> None:
    assert message in problems(text, type_)[0]


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (Annotated[Seconds, msgspec.Meta(gt=0, le=60)], "0s", "got '0s', expected more than 0s."),
        (Annotated[Seconds, msgspec.Meta(gt=0, le=60)], "2min", "got '2min', expected at most 60s."),
        (Annotated[str, msgspec.Meta(max_length=2)], "abc", "got 'abc', expected at most 2 characters."),
        (Annotated[ByteCount, msgspec.Meta(ge=1024)], "1B", "got '1B', expected at least 1KiB."),
        (Annotated[int, msgspec.Meta(ge=1)] | None, "0", "got '0', expected at least 1."),
        (
            Annotated[tuple[Path, ...], msgspec.Meta(min_length=1)],
            "[]",
            "got a list of 0, expected at least 1 of them.",
        ),
        (Annotated[dict[str, int], msgspec.Meta(max_length=1)], "{a: 1, b: 2}", "expected at most 1 of them."),
        (Annotated[str, msgspec.Meta(pattern="^[a-z]+$")], "A1", "got 'A1', expected text that matches ^[a-z]+$."),
    ],
)
def test_parse_yaml__constraints_are_said_in_words(type_: Any, text: str, message: str) -> None:
    assert message in problems(text, type_)[0]


def test_parse_yaml__unions_keep_their_order() -> None:
    # Equal to Python, and of the same hash: a cache by equality would mix them up.
    float_first: Any = float | int
    int_first: Any = int | float
    assert float_first == int_first
    assert type(parse_yaml("1", float_first)) is float
    assert type(parse_yaml("1", int_first)) is int


@given(text=st.text(max_size=60))
def test_parse_yaml__text_survives_quoting(text: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(one):08X}" for one in text) + '"'
    assert parse_yaml(quoted, str) == text
