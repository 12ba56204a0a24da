from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk.errors import ProfileError, ProfileNotFoundError
from edgesdk.profiles import load, load_profile, profile_ids, profiles_folder, read_profile

Write = Callable[..., Path]


def problems(id_or_path: str | Path) -> str:
    with pytest.raises(ProfileError) as caught:
        load_profile(id_or_path)
    return str(caught.value)


def test_load_profile__values_are_in_the_units_of_their_names() -> None:
    profile = load_profile("raspberry-pi-4")
    assert profile.id == "raspberry-pi-4"
    assert profile.cpu.cores == 4
    assert profile.cpu.clusters[0].core == "Cortex-A72"
    assert profile.cpu.clusters[0].clock_hz == 1.8e9
    assert profile.memory.size_bytes == 4 << 30
    assert profile.thermal.soft_limit_c == 80.0
    assert [one.name for one in profile.backends][:2] == ["onnxruntime", "tflite"]
    assert profile.software.python == "3.11"


def test_load_profile__an_unknown_id_names_the_nearest_and_how_to_add_ones_own() -> None:
    with pytest.raises(
        ProfileNotFoundError, match=r"'raspberry-pi4' is unknown\. Did you mean 'raspberry-pi-4'\?"
    ) as caught:
        load_profile("raspberry-pi4")
    assert "put raspberry-pi4.yaml into a folder and name it in EDGESDK_PROFILES" in str(caught.value)


def test_load_profile__by_path_and_by_the_users_folder(write: Write) -> None:
    file = write("my-board")
    assert load_profile(file) == load_profile("my-board") == load_profile(str(file))
    assert "my-board" in profile_ids()
    assert "raspberry-pi-4" in profile_ids()


def test_load_profile__the_users_profile_hides_the_shipped_one(write: Write) -> None:
    write("raspberry-pi-4")
    assert load_profile("raspberry-pi-4").name == "My board"


def test_load_profile__a_users_folder_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGESDK_PROFILES", os.pathsep.join([str(tmp_path), str(tmp_path / "gone")]))
    assert problems("raspberry-pi-4") == (
        f"EDGESDK_PROFILES: {tmp_path / 'gone'} is no folder. Create it, or correct the variable."
    )


def test_profiles_folder__is_the_checkouts_or_the_packages() -> None:
    assert (profiles_folder() / "raspberry-pi-4.yaml").is_file()


def test_profiles_folder__the_packages_own_comes_first_and_none_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "__file__", str(tmp_path / "edgesdk" / "profiles" / "load.py"))
    packaged, checkout = tmp_path / "edgesdk" / "_device_profiles", tmp_path / "device_profiles"
    message = f"neither {packaged} nor {checkout} is a folder. Reinstall: pip install --force-reinstall edgesdk"
    with pytest.raises(ProfileNotFoundError, match=re.escape(message)):
        profiles_folder()
    checkout.mkdir()
    assert profiles_folder() == checkout
    packaged.mkdir(parents=True)
    assert profiles_folder() == packaged


# -- extends -------------------------------------------------------------------------------------------------------


def test_extends__merges_mappings_replaces_lists_and_removes_null(write: Write) -> None:
    write("base")
    write(
        "mine",
        "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: base\n"
        "memory: {size: 2GiB, source: scale}\nthermal: {hard_limit: null}\n"
        "backends: [{name: tflite}]\nsources:\n  scale: {title: Seen, status: measured}\n",
    )
    loaded = read_profile("mine")
    profile = loaded.profile
    assert profile.memory.size_bytes == 2 << 30
    assert profile.memory.kind == "LPDDR4"
    assert profile.thermal.soft_limit_c == 70.0
    assert profile.thermal.hard_limit_c is None
    assert [one.name for one in profile.backends] == ["tflite"]
    assert profile.cpu.cores == 4
    assert [file.stem for file in loaded.files] == ["mine", "base"]
    assert loaded.sources["memory.size"] == "scale"
    assert loaded.sources["cpu.clusters[0].clock"] == "sheet"
    assert loaded.sources["thermal.soft_limit"] == "sheet"


def test_extends__a_chain_of_three(write: Write) -> None:
    head = "schema: edgesdk.profile/1\nid: {0}\nname: {0}\nextends: {1}\n"
    write("a")
    write("b", head.format("b", "a") + "description: middle\n")
    write("c", head.format("c", "b"))
    loaded = read_profile("c")
    assert [file.stem for file in loaded.files] == ["c", "b", "a"]
    assert loaded.profile.description is None
    assert loaded.profile.cpu.cores == 4


def test_extends__itself_is_refused(write: Write) -> None:
    file = write("mine", "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: mine\n")
    assert problems("mine") == (
        f"{file}:4: extends: the profile extends itself: mine -> mine. Remove this line, or name another profile."
    )


def test_extends__a_circle_is_refused_with_the_chain(write: Write) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("c", "b")):
        write(one, f"schema: edgesdk.profile/1\nid: {one}\nname: {one}\nextends: {other}\n")
    assert "c.yaml:4: extends: the profile extends itself: b -> c -> b. Remove this line" in problems("a")


def test_extends__an_unknown_parent_names_the_nearest(write: Write) -> None:
    file = write("mine", "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: rasberry-pi-5\n")
    assert f"{file}:4: extends: profile 'rasberry-pi-5' is unknown. Did you mean 'raspberry-pi-5'? Known: " in problems(
        "mine"
    )


def test_extends__a_file_instead_of_an_id(write: Write) -> None:
    write("mine", "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: raspberry-pi-5.yaml\n")
    assert "'raspberry-pi-5.yaml' is unknown. Write the id, without the suffix: raspberry-pi-5. Known: " in problems(
        "mine"
    )


def test_extends__a_problem_of_the_parent_names_the_parents_file(write: Write, board: str) -> None:
    base = write("base", board.replace("id: mine", "id: base").replace("1GiB", "1"))
    write("mine", "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: base\n")
    assert f"{base}:8: memory.size: 1 has no unit. Write 1B (or 1MiB if that is meant)." in problems("mine")


# -- what is wrong in a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: My board", "nam: My board", "mine.yaml:3: key 'nam' is unknown. Did you mean 'name'?"),
        ("id: mine", "id: Mine_1", "mine.yaml:2: id: got 'Mine_1', expected text that matches ^[a-z0-9]+(-[a-z0-9]+)*$"),
        ("id: mine", "id: other", "mine.yaml:2: id: 'other' is not the file's name 'mine'. Write 'id: mine', or rename the file to other.yaml."),
        ("profile/1", "profile/2", "mine.yaml:1: schema: 'edgesdk.profile/2' is unknown. Did you mean 'edgesdk.profile/1'?"),
        ("clock: 1.2GHz", "clock: 1200000000", "cpu.clusters[0].clock: 1200000000 has no unit. Write 1200000000Hz"),
        ("name: onnxruntime", "name: onnxruntim", "mine.yaml:11: backends[0].name: backend 'onnxruntim' is unknown. Did you mean 'onnxruntime'?"),
        ("name: tflite", "name: tensorTR", "backends[1].name: backend 'tensorTR' is unknown. Did you mean 'tensorrt'?"),
        ("name: tflite", "name: tflite, accelerator: npu", "backends[1].accelerator: 'npu' is no id of 'accelerators'. Known: none."),
        ('{os: My Linux, python: "3.11"', '{os: My Linux, python: "3.9"', "software.python: Python 3.9 is older than 3.10, which edgesdk needs. Add 'advice:' that names the way round it."),
        ('python: "3.11"', "python: 3.11", "software.python: got '3.11', expected text. Write \"3.11\" in quotes."),
        ("soft_limit: 70C", "soft_limit: 90C", "thermal: soft_limit 90C is above hard_limit 85C. Exchange them."),
        ("architecture: aarch64", "architecture: arm64", "cpu.architecture: 'arm64' is unknown. Did you mean 'aarch64'?"),
        ("count: 4", "count: 0", "cpu.clusters[0].count: got '0', expected at least 1."),
        ("backends: [{name: onnxruntime, options: {arena: false}}, {name: tflite}]", "backends: []", "backends: got a list of 0, expected at least 1 of them."),
    ],
)  # fmt: skip
def test_load_profile__what_is_wrong_where_and_the_fix(
    write: Write, board: str, old: str, new: str, message: str
) -> None:
    assert old in board
    file = write("mine", board.replace(old, new))
    assert message in problems(file)


# -- every number has a source -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "kind: LPDDR4, source: sheet",
            "kind: LPDDR4",
            (
                "mine.yaml:8: memory.size: 1GiB has no source. Add 'source: ID' to 'memory' (or 'source: {size: ID}'), with ID "
                "described under 'sources'. Known: guess, sheet."
            ),
        ),
        ("{soft_limit: sheet, hard_limit: guess}", "{soft_limit: sheet}", "thermal.hard_limit: 85C has no source."),
        (
            "hard_limit: guess",
            "hard_limit: gues",
            "mine.yaml:9: thermal.source: 'gues' is not described under 'sources'. Did you mean 'guess'?",
        ),
        ('python: "3.11", source: sheet', 'python: "3.11"', "software.python: 3.11 has no source."),
        (
            "  source: sheet\n",
            "",
            "mine.yaml:6: cpu.clusters[0].count: 4 has no source. Add 'source: ID' to 'cpu.clusters[0]'",
        ),
    ],
)
def test_load_profile__a_number_without_a_source_is_an_error(
    write: Write, board: str, old: str, new: str, message: str
) -> None:
    assert old in board
    file = write("mine", board.replace(old, new))
    assert message in problems(file)


def test_load_profile__an_overridden_number_does_not_inherit_the_others_source(write: Write) -> None:
    write("base")
    file = write("mine", "schema: edgesdk.profile/1\nid: mine\nname: Mine\nextends: base\nmemory: {size: 2GiB}\n")
    assert f"{file}:5: memory.size: 2GiB has no source. Add 'source: ID' to 'memory'" in problems("mine")


def test_load_profile__hostile_files_are_refused(write: Write) -> None:
    assert "is not allowed" in problems(write("mine", "name: !!python/object/apply:os.system ['true']\n"))
    assert "expected a mapping" in problems(write("mine", "- 1\n"))
    assert "expected a mapping" in problems(write("mine", ""))
    assert "extends: got a mapping, expected text" in problems(write("mine", "extends: {a: 1}\n"))


def test_load_profile__imports_nothing_heavy() -> None:
    code = "import sys, edgesdk.profiles as p; p.this_board(); print(*sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "EDGESDK_PROFILES"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not re.findall(r"\b(numpy|onnxruntime|cv2|paho|onnx|torch|tensorflow)\b", run.stdout)
