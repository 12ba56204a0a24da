from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgesdk.errors import ConfigError, ProfileError
from edgesdk.schema import parse_document, parse_yaml, read_document, read_yaml
from edgesdk.schema.tree import MAX_BYTES

Types = SimpleNamespace


def test_read_yaml__reads_a_file_with_a_byte_order_mark(tmp_path: Path, types: Types, good: str) -> None:
    file = tmp_path / "app.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + good.encode())
    assert read_yaml(file, types.App) == parse_yaml(good, types.App)


def test_read_yaml__a_missing_file_names_the_folder_it_was_looked_for_in(tmp_path: Path, types: Types) -> None:
    with pytest.raises(ConfigError, match=r"app\.yaml: there is no such file\. Check the path; it is relative to /"):
        read_yaml(tmp_path / "app.yaml", types.App)


def test_read_yaml__a_folder_is_no_file(tmp_path: Path, types: Types) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path, types.App)


def test_read_yaml__latin_1_is_refused_at_its_line(tmp_path: Path, types: Types) -> None:
    file = tmp_path / "app.yaml"
    file.write_bytes(b"name: x\npath: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"app\.yaml:2: byte 0xe9 is no UTF-8\. Save the file as UTF-8\."):
        read_yaml(file, types.App)


def test_read_yaml__a_huge_file_is_not_read_to_its_end(tmp_path: Path, types: Types) -> None:
    file = tmp_path / "app.yaml"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ConfigError, match=f"larger than {MAX_BYTES} bytes"):
        read_yaml(file, types.App)


def test_read_yaml__raises_the_callers_error_class(types: Types) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_yaml("a: 1", types.App, error=ProfileError)
    assert isinstance(caught.value.problems, tuple)
    with pytest.raises(ProfileError):
        parse_yaml("[", types.App, error=ProfileError)


def test_document__problems_of_several_parts_have_their_places(tmp_path: Path, types: Types, good: str) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(good)
    document = read_document(file, types.App)
    assert document.where("streams", "door", "source") == f"{file}:6"
    assert document.where("sources", "camera", "size_wh", 1) == f"{file}:3"
    assert document.where("streams", "no-such") == f"{file}:5"
    assert document.check() is document.value
    document.add(("streams", "door", "run", 0), "model 'faces' is unknown.")
    document.add(("sources",), "too many.")
    with pytest.raises(ConfigError) as caught:
        document.check()
    assert caught.value.problems == (
        f"{file}:2: sources: too many.",
        f"{file}:6: streams.door.run[0]: model 'faces' is unknown.",
    )


def test_parse_document__names_the_file(types: Types, good: str) -> None:
    assert parse_document(good, types.App, file="x.yaml").where("name") == "x.yaml:1"
