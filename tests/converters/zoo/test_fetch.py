"""Fetching from the zoo: what is pinned is what arrives."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from edgesdk.errors import ZooError
from edgesdk_converters.zoo import fetch as fetch_function
from edgesdk_converters.zoo.catalog import catalog


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return __import__("edgesdk_converters.zoo.fetch", fromlist=["fetch"])


@pytest.mark.zoo
def test_fetch__file_has_the_pinned_hash(zoo: Callable[[str], Path]) -> None:
    entry = catalog().model("silero-vad")
    content = zoo("silero-vad").read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert len(content) == entry.size_bytes


@pytest.mark.zoo
def test_fetch__damaged_cache_is_fetched_again(
    zoo: Callable[[str], Path], module: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = fetch_function("silero-vad")
    good.write_bytes(b"damaged")
    assert hashlib.sha256(fetch_function("silero-vad").read_bytes()).hexdigest() == catalog().model("silero-vad").sha256


def test_fetch__wheel_with_another_file_is_refused(
    module: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "silero_vad-6.2.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(catalog().model("silero-vad").file, b"something else")

    @contextmanager
    def downloaded(name: str, report: object) -> Iterator[Path]:
        yield wheel

    monkeypatch.setattr(module, "_downloaded", downloaded)
    with pytest.raises(ZooError, match=r"silero_vad_16k_op15.onnx has sha256 [0-9a-f]{64}, expected 7ed98ddb|not kept"):
        fetch_function("silero-vad")
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_fetch__package_that_the_index_does_not_have_says_what_to_check(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = catalog()
    broken = msgspec.structs.replace(
        zoo, wheels={**zoo.wheels, "silero-vad": msgspec.structs.replace(zoo.wheels["silero-vad"], version="0.0.0.1")}
    )
    monkeypatch.setattr(module, "catalog", lambda: broken)
    with pytest.raises(ZooError, match=r"cannot fetch silero-vad 0.0.0.1: .*Fix: check the network"):
        fetch_function("silero-vad")
