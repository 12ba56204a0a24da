from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.profiles import detect, load_profile, read_profile, this_board
from edgesdk.profiles.board import read_board
from edgesdk.profiles.detect import as_found, profile_text

Tree = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "profile", "cores", "clock_hz", "features", "python", "glibc"),
    [
        ("raspberry-pi-zero-2w", "raspberry-pi-zero-2w", "4x Cortex-A53", 1e9, ("neon",), "3.11", "2.36"),
        ("raspberry-pi-4", "raspberry-pi-4", "4x Cortex-A72", 1.8e9, ("neon",), "3.11", "2.36"),
        ("raspberry-pi-5", "raspberry-pi-5", "4x Cortex-A76", 2.4e9, ("neon", "fp16", "dotprod"), "3.11", "2.36"),
        ("raspberry-pi-5-hailo-8l", "raspberry-pi-5-hailo-8l", "4x Cortex-A76", 2.4e9, ("neon", "fp16", "dotprod"), "3.11", "2.36"),
        ("jetson-orin-nano-8gb", "jetson-orin-nano-8gb", "6x Cortex-A78AE", 1.728e9, ("neon", "fp16", "dotprod"), "3.10", "2.35"),
        ("jetson-xavier-nx", "jetson-xavier-nx", "6x Carmel", 1.9072e9, ("neon", "fp16"), "3.8", "2.31"),
        ("rock-5b", "rock-5b", "4x Cortex-A76", 2.4e9, ("neon", "fp16", "dotprod"), "3.11", "2.36"),
        ("imx93-evk", "imx93-evk", "2x Cortex-A55", 1.7e9, ("neon", "fp16", "dotprod"), "3.12", ""),
    ],
)  # fmt: skip
def test_detect__knows_the_board(
    tree: Tree, name: str, profile: str, cores: str, clock_hz: float, features: tuple[str, ...], python: str, glibc: str
) -> None:
    found = detect(tree(name))
    assert found.profile_id == profile
    assert found.exact
    assert found.reasons[0].startswith("the device tree is compatible with ")
    assert found.differences == ()
    first = found.board.cores[0]
    assert f"{first.count}x {first.core}" == cores
    assert first.max_clock_hz == clock_hz
    assert first.features == features
    assert found.board.architecture == "aarch64"
    assert (found.board.python, found.board.glibc) == (python, glibc)
    known = load_profile(profile)
    assert sum(group.count for group in found.board.cores) == known.cpu.cores
    assert set(known.cpu.clusters[0].features) == set(features)
    json.dumps(found.to_json())


def test_detect__a_card_makes_the_more_special_profile_win(tree: Tree) -> None:
    assert "PCI device 1e60:2864 is there" in detect(tree("raspberry-pi-5-hailo-8l")).reasons
    assert detect(tree("raspberry-pi-5")).profile_id == "raspberry-pi-5"


def test_detect__sensors_and_runtimes(tree: Tree) -> None:
    board = detect(tree("jetson-orin-nano-8gb")).board
    sensors = {zone.type: zone.temperature_c for zone in board.thermal_zones}
    assert sensors["tj-thermal"] == 51.156
    assert sensors["cv0-thermal"] is None
    assert board.thermal_zones[4].path == "/sys/class/thermal/thermal_zone4/temp"
    assert board.runtimes == {"numpy": "1.21.5", "onnxruntime-gpu": "1.20.0", "tensorrt": "10.3.0"}
    assert detect(tree("rock-5b")).board.runtimes["rknn-toolkit-lite2"] == "2.3.0"


def test_detect__big_and_little_cores_are_two_groups_the_fastest_first(tree: Tree) -> None:
    cores = detect(tree("rock-5b")).board.cores
    assert [(group.core, group.count) for group in cores] == [("Cortex-A76", 4), ("Cortex-A55", 4)]


def test_detect__x86_takes_the_generic_profile_with_its_own_cores(tree: Tree) -> None:
    found = detect(tree("x86-64"))
    assert found.profile_id == "generic-x86-64"
    assert not found.exact
    assert found.board.model == "Beelink MINI S"
    profile = as_found(load_profile(found.profile_id), found)
    assert profile.cpu.cores == 4
    assert profile.cpu.clusters[0].clock_hz == 3.4e9
    assert "avx_vnni" in profile.cpu.clusters[0].features
    assert profile.memory.size_bytes == 16155460 * 1024


def test_detect__an_unknown_board_says_what_it_could_not_find_out(tree: Tree) -> None:
    found = detect(tree("unknown-aarch64"))
    assert found.profile_id == "generic-aarch64"
    assert found.reasons == ("no profile knows the board 'Acme Edge Box 9000': the generic profile for aarch64",)
    assert [text.split(":")[0] for text in found.unknown] == ["Python", "glibc", "highest clock", "temperature"]
    assert found.board.cores[0].core == "implementer 0x41 part 0xd87"
    assert as_found(load_profile(found.profile_id), found).cpu.cores == 8


def test_detect__another_memory_size_is_said_and_used(tree: Tree) -> None:
    found = detect(tree("raspberry-pi-4-2gb"))
    assert found.differences == ("memory: Linux sees 1.81 GiB, the profile says 4GiB; the board's own size is used",)
    assert as_found(load_profile(found.profile_id), found).memory.size_bytes == 1893452 * 1024


def test_detect__a_32_bit_system_is_told_to_install_the_other(tree: Tree) -> None:
    found = detect(tree("raspberry-pi-4-32bit"))
    assert found.board.architecture == "armv7l"
    assert "install the 64-bit system" in found.differences[0]


def test_detect__a_python_that_is_too_old_points_at_the_advice(tree: Tree) -> None:
    found = detect(tree("jetson-xavier-nx"))
    assert found.board.notes == ("Python 3.8 is older than 3.10, which edgesdk needs: see 'advice' of the profile",)
    assert "uv python install 3.11" in (load_profile(found.profile_id).software.advice or "")


def test_detect__an_empty_tree_is_all_unknown(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert found.profile_id == "generic-aarch64"
    assert len(found.unknown) == 8
    assert found.board.cores == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cpuinfo=st.binary(max_size=300), meminfo=st.binary(max_size=100), model=st.binary(max_size=60))
def test_read_board__any_bytes_are_survived(tmp_path: Path, cpuinfo: bytes, meminfo: bytes, model: bytes) -> None:
    for path, content in (("proc/cpuinfo", cpuinfo), ("proc/meminfo", meminfo), ("proc/device-tree/model", model)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    read_board(tmp_path)


@pytest.mark.parametrize("link", ["busybox", "python3", "/opt/python3.x", "python3.12"])
def test_read_board__odd_links_of_python3_are_survived(tmp_path: Path, link: str) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3").symlink_to(link)
    assert read_board(tmp_path).python == ("3.12" if link == "python3.12" else "")


def test_this_board__never_fails_and_knows_its_cores() -> None:
    profile = this_board()
    assert profile.cpu.cores >= 1
    assert (profile.memory.size_bytes or 0) > 0
    assert profile.backends


def test_this_board__a_users_broken_profile_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = detect().board.pci or ("x",)
    (tmp_path / "mine.yaml").write_text(f"# {words[0]}\nid: [\n")
    monkeypatch.setenv("EDGESDK_PROFILES", str(tmp_path))
    assert this_board().cpu.cores >= 1


@pytest.mark.parametrize(
    "name", ["raspberry-pi-4", "rock-5b", "unknown-aarch64", "x86-64", "imx93-evk", "raspberry-pi-4-2gb"]
)
def test_profile_text__loads_and_says_what_the_board_says(tree: Tree, tmp_path: Path, name: str) -> None:
    found = detect(tree(name))
    file = tmp_path / "my-board.yaml"
    file.write_text(profile_text(found, "my-board"))
    loaded = read_profile(file)
    assert loaded.profile.cpu.cores == sum(group.count for group in found.board.cores)
    assert loaded.profile.cpu.clusters[0].clock_hz == found.board.cores[0].max_clock_hz
    assert loaded.profile.memory.size_bytes == found.board.memory_bytes
    assert loaded.sources["memory.size"] == "detected"
    assert loaded.profile.extends == found.profile_id
