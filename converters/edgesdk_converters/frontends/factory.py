"""Runs `package.module:factory`, and hands what it returns to the exporter of its library: PyTorch, Keras or scikit-learn."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar

from edgesdk.errors import ConversionError, MissingExtraError
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.spec import ModelSpec

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")
_EXTRAS = {"torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow", "sklearn": "sklearn"}
"""Library -> the extra that brings it and its exporter."""


class FactoryFrontend:
    """`package.module:factory`, where the factory takes no arguments and returns a model."""

    name: ClassVar[str] = "factory"

    def accepts(self, source: str | Path) -> bool:
        """By its form; a file of that name comes first."""
        return bool(_REFERENCE.match(str(source))) and not Path(source).exists()

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Build the model, load its weights, export it to ONNX.

        Raises:
            MissingExtraError: The model's library is not installed.
            ConversionError: The factory is not there, raises, or returns something else than a model.
        """
        del trust_pickle  # the factory is the user's own code
        reference = str(source)
        model = build(reference)
        library = library_of(model)
        if library == "torch":
            from edgesdk_converters.frontends.torch import export_module

            return export_module(model, spec, reference=reference, state_dict=state_dict)
        if library == "tensorflow":
            from edgesdk_converters.frontends.tensorflow import export_keras

            return export_keras(model, spec, file=reference.replace(":", "."), sha256=None, weights=state_dict)
        if library == "sklearn":
            from edgesdk_converters.frontends.sklearn import export_estimator

            if state_dict is not None:
                raise ConversionError(
                    f"{reference}: made a scikit-learn estimator, which has no state dict. Leave --state-dict out, and return the "
                    "fitted estimator."
                )
            return export_estimator(model, spec, file=reference.replace(":", "."), sha256=None)
        raise ConversionError(
            f"{reference}: made a {type(model).__module__}.{type(model).__qualname__}, expected a torch.nn.Module, a Keras model or "
            "a scikit-learn estimator. Name a factory that returns the model."
        )


def library_of(model: object) -> str | None:
    """The library whose class ``model`` is of: torch, tensorflow (Keras too) or sklearn; None for others."""
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if package == "torch" and any(one.__name__ == "Module" for one in type(model).__mro__):
            return "torch"
        if package in {"keras", "tensorflow", "tf_keras"} and hasattr(model, "layers"):
            return "tensorflow"
        if package == "sklearn" and base.__name__ == "BaseEstimator":
            return "sklearn"
    return None


def build(reference: str) -> Any:
    """Call the factory.

    Raises:
        MissingExtraError: It imports torch, tensorflow, keras or sklearn, which is not installed.
        ConversionError: It is not there, or raises; with the line that raised.
    """
    module_name, _, factory_name = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that a factory beside the user is found
    try:
        made: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        _missing(reference, error)
        raise ConversionError(
            f"{reference}: cannot be imported: {error}. Give package.module:factory as Python would import it here "
            "(install the package, or run from its folder)."
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ConversionError(
            f"{reference}: importing {module_name} raised {_last(error)}. Import it in Python, and correct that line."
        ) from error
    for part in factory_name.split("."):
        if not hasattr(made, part):
            raise ConversionError(
                f"{reference}: {getattr(made, '__name__', module_name)} has no {part!r}.{_near(made, part)} Give package.module:factory as Python "
                "would import it here."
            )
        made = getattr(made, part)
    if not isinstance(made, type) and library_of(made) is not None:
        return made  # the model itself, made when its module was imported
    if not callable(made):
        raise ConversionError(
            f"{reference}: is of type {type(made).__name__}, expected a function or a class that is called without arguments and returns the model. "
            "Name one."
        )
    try:
        return made()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        if isinstance(error, ModuleNotFoundError):
            _missing(reference, error)
        raise ConversionError(
            f"{reference}: the factory raised {_last(error)}. It is called without arguments; wrap yours in a function that "
            "needs none, or correct that line."
        ) from error


def _near(owner: Any, name: str) -> str:
    """The nearest thing of that name which can be called, in words; what there is where nothing is near."""
    known = [key for key, value in vars(owner).items() if not key.startswith("_") and callable(value)]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    own = [key for key in known if getattr(vars(owner)[key], "__module__", None) == getattr(owner, "__name__", "")]
    return f" It has: {', '.join(own[:10])}." if own else ""


def _missing(reference: str, error: ModuleNotFoundError) -> None:
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    if extra is not None:
        raise MissingExtraError(
            f"{reference}: needs {error.name}, which does not import here ({error}). "
            f"Install it: pip install 'edgesdk-converters[{extra}]'"
        ) from error


def _last(error: BaseException) -> str:
    """The last line of the traceback, and where: in the user's own code rather than in a library that it called."""
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1].rstrip(".")[:400]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(("<", sys.base_prefix))]
    frame = (own or frames)[-1] if own or frames else None
    return f"{said} ({frame.filename}:{frame.lineno})" if frame is not None else said
