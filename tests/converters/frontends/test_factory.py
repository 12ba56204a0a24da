from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from edgesdk.errors import ConversionError, MissingExtraError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.factory import FactoryFrontend, build
from edgesdk_converters.spec import ModelSpec

FACTORIES = """
import sys

SIZE = 3

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
            r"raised RuntimeError: no such size \(.*factories_for_test\.py:10\)\. It is called without arguments; wrap yours",
        ),
        ("leaves", r"raised SystemExit: 3 \(.*factories_for_test\.py:13\)\. It is called without arguments"),
        (
            "absent",
            r"factories_for_test has no 'absent'\. It has: broken, helper, leaves, number, needs\. Give package\.module:factory",
        ),
        ("numbr", r"factories_for_test has no 'numbr'\. Did you mean 'number'\? Give package\.module:factory"),
        ("number.numbr", r"number has no 'numbr'\. Give package\.module:factory"),
        (
            "SIZE",
            r"is of type int, expected a function or a class that is called without arguments and returns the model\. Name one",
        ),
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


def test_factory__model_that_is_made_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseEstimator:
        __module__ = "sklearn.base"

    model = BaseEstimator()
    monkeypatch.setitem(sys.modules, "made_for_test", types.SimpleNamespace(model=model, __name__="made_for_test"))
    assert build("made_for_test:model") is model
