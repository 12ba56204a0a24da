"""The names that users write are the ones we promise: every ``__all__`` resolves, and the documented calls exist."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import get_origin

import pytest

import edgesdk

PACKAGES = [
    "edgesdk",
    *(f"edgesdk.{info.name}" for info in pkgutil.iter_modules(edgesdk.__path__) if info.ispkg and info.name != "cli"),
]


@pytest.mark.parametrize("name", PACKAGES)
def test_package__all_is_complete_and_documented(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    assert package.__doc__.strip()
    names = package.__all__
    assert len(set(names)) == len(names)
    missing = [item for item in names if not hasattr(package, item)]
    assert not missing


@pytest.mark.parametrize("name", PACKAGES)
def test_package__classes_and_functions_have_docstrings(name: str) -> None:
    package = importlib.import_module(name)
    public = [getattr(package, item) for item in package.__all__]
    # Python 3.10 calls the alias Callable[...] a class.
    own = [item for item in public if get_origin(item) is None and (inspect.isclass(item) or inspect.isfunction(item))]
    bare = [item.__name__ for item in own if not item.__doc__]
    assert not bare


def test_edgesdk__promised_names() -> None:
    assert set(edgesdk.__all__) >= {"App", "Model", "load", "__version__"}


def test_edgesdk__unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'edgesdk' has no attribute 'lode'"):
        _ = edgesdk.lode


def test_load__signature() -> None:
    parameters = inspect.signature(edgesdk.load).parameters
    assert list(parameters) == ["bundles", "backend", "variant", "profile", "threads"]
    assert parameters["bundles"].kind is inspect.Parameter.VAR_POSITIONAL
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(parameters)[1:])
