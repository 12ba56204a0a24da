from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgesdk.backends import cache as module
from edgesdk.backends.cache import GraphCache, cache_dir, cpu_identity


def test_cache_dir__order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESDK_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/own")
    monkeypatch.delenv("EDGESDK_CACHE")
    assert cache_dir() == Path("/xdg/edgesdk")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/edgesdk")


def test_cpu_identity__tells_cores_and_features_apart(tmp_path: Path) -> None:
    texts = {
        "pi4": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32\nCPU part\t: 0xd08\n",
        "pi5": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n",
        "pi4-hot": "processor\t: 0\nBogoMIPS\t: 54.00\nFeatures\t: fp asimd evtstrm crc32\nCPU part\t: 0xd08\n",
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found[name] = cpu_identity(tmp_path / name)
    assert found["pi4"] != found["pi5"]
    assert found["pi4"] == found["pi4-hot"]  # clocks do not count


def test_path__changes_with_everything_that_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = GraphCache(folder=tmp_path)
    base = {"model_sha256": "a" * 64, "runtime": "onnxruntime 1", "options": {"level": "all"}}
    paths = {cache.path(**base)}  # type: ignore[arg-type]  # one dict of all arguments keeps the table short
    for change in ({"model_sha256": "b" * 64}, {"runtime": "onnxruntime 2"}, {"options": {"level": "basic"}}):
        paths.add(cache.path(**(base | change)))  # type: ignore[arg-type]  # same
    monkeypatch.setattr(module, "cpu_identity", lambda: "another core")
    paths.add(cache.path(**base))  # type: ignore[arg-type]  # same
    assert len(paths) == 5


def test_store__keeps_the_folder_bounded_by_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1200)
    cache = GraphCache(folder=tmp_path)
    for at, name in enumerate("abc"):
        cache.store(tmp_path / f"{name}.graph", b"x" * 300)
        os.utime(tmp_path / f"{name}.graph", (at, at))
    cache.load(tmp_path / "a.graph")  # used just now
    cache.store(tmp_path / "d.graph", b"x" * 300)
    assert {file.name for file in tmp_path.iterdir()} == {"a.graph", "c.graph", "d.graph"}


def test_load__absent_is_none_without_a_warning(tmp_path: Path) -> None:
    assert GraphCache(folder=tmp_path).load(tmp_path / "none.graph") is None
