from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgesdk.errors import ConversionError, MissingExtraError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.factory import FactoryFrontend
from edgesdk_converters.spec import ModelSpec

FACTORIES = """
import sys

def broken():
    return helper()

def helper():
    raise RuntimeError("no such size")

def leaves():
    sys.exit(3)

def number():
    return 3

def needs():
    import keras
    return keras
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "factories_for_test.py").write_text(FACTORIES)
    (tmp_path / "broken_for_test.py").write_text("x = 1\ny = 1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("factories_for_test", "broken_for_test"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "factories_for_test"


def test_factory__accepts_references_only() -> None:
    accepts = FactoryFrontend().accepts
    assert accepts("package.module:factory")
    assert not accepts("model.onnx")
    assert not accepts("C:\\models\\x.onnx")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "broken",
            r"raised RuntimeError: no such size \(.*factories_for_test\.py:8\)\. It is called without arguments; wrap yours",
        ),
        ("leaves", r"raised SystemExit: 3 \(.*factories_for_test\.py:11\)\. It is called without arguments"),
        ("absent", r"cannot be imported: .*'absent'\. Give package\.module:factory"),
        (
            "number",
            r"made a builtins\.int, expected a torch\.nn\.Module, a Keras model or a scikit-learn estimator\. Name a factory",
        ),
    ],
)
def test_factory__bad(module: str, factory: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_source(f"{module}:{factory}", ModelSpec())


def test_factory__module_that_is_not_there() -> None:
    with pytest.raises(
        ConversionError, match=r"No module named 'nowhere_at_all'\. Give package\.module:factory.*run from its folder"
    ):
        read_source("nowhere_at_all.models:make", ModelSpec())


def test_factory__module_that_raises(module: str) -> None:
    with pytest.raises(
        ConversionError,
        match=r"importing broken_for_test raised ZeroDivisionError.*broken_for_test\.py:2\)\. Import it",
    ):
        read_source("broken_for_test:make", ModelSpec())


def test_factory__library_that_is_missing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"needs keras.*pip install 'edgesdk-converters\[tensorflow\]'"):
        read_source(f"{module}:needs", ModelSpec())
