"""Exports PyTorch modules through torch.onnx: `package.module:factory`, with weights from a state dict."""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import onnx

from edgesdk.errors import ConversionError, MissingExtraError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, read_bytes
from edgesdk_converters.frontends.onnx import describe
from edgesdk_converters.graph.opset import TARGET_OPSET
from edgesdk_converters.spec import ModelSpec

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


class TorchFrontend:
    """`package.module:factory`, where the factory takes no arguments and returns a module."""

    name: ClassVar[str] = "torch"

    def accepts(self, source: str | Path) -> bool:
        """By its form; a file of that name comes first."""
        return bool(_REFERENCE.match(str(source))) and not Path(source).exists()

    def read(self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None) -> SourceModel:
        """Build the module, load its weights, export it to ONNX.

        Raises:
            MissingExtraError: PyTorch is not installed.
            ConversionError: The factory is not there or raises, the weights do not fit, or the spec names no input shapes.
            ModelFormatError: The state dict cannot be read.
        """
        reference = str(source)
        torch = _torch()
        shapes = [hint.shape for hint in spec.inputs.values()]
        if not shapes or any(shape is None for shape in shapes):
            raise ConversionError(
                f"{reference}: a PyTorch module does not say what goes in. State it in a file and pass it with --spec:\n"
                "inputs:\n  input: {shape: [1, 3, <height>, <width>]}"
            )
        module = _build(reference)
        if not isinstance(module, torch.nn.Module):
            raise ConversionError(
                f"{reference}: made a {type(module).__name__}, expected a torch.nn.Module. Name a factory that returns the model."
            )
        digest = _load(torch, module, state_dict, reference)
        module.eval()
        content = _export(torch, module, list(spec.inputs), [tuple(shape) for shape in shapes if shape], reference)
        model = onnx.load_from_string(content)
        name = reference.replace(":", ".") if state_dict is None else Path(state_dict).name
        return describe(
            model,
            file=name,
            sha256=digest or hashlib.sha256(content).hexdigest(),
            tools={"torch": str(torch.__version__)},
        )


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            f"PyTorch models need torch, which does not import here ({error}). Install it: pip install torch"
        ) from error


def _build(reference: str) -> Any:
    module_name, _, factory_name = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that a factory beside the user is found
    try:
        made: Any = importlib.import_module(module_name)
        for part in factory_name.split("."):
            made = getattr(made, part)
    except (ImportError, AttributeError) as error:
        raise ConversionError(
            f"{reference}: cannot be imported: {error}. Give package.module:factory as Python would import it here "
            "(install the package, or run from its folder)."
        ) from error
    try:
        return made()
    except Exception as error:  # whatever the user's code raises
        raise ConversionError(
            f"{reference}: the factory raised {type(error).__name__}: {error}. It is called without arguments; wrap yours in a "
            "function that needs none."
        ) from error


def _load(torch: Any, module: Any, state_dict: Path | None, reference: str) -> str | None:
    if state_dict is None:
        return None
    path = Path(state_dict)
    content, digest = read_bytes(path)
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError ...
        first = str(error).strip().splitlines()[0][:200]
        raise ModelFormatError(
            f"{path.name}: cannot be read as a state dict ({first}). Only tensors are loaded, never code: "
            "save it with torch.save(model.state_dict(), FILE)."
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch lists all missing and unexpected keys in a RuntimeError
        raise ConversionError(
            f"{path.name}: does not fit {reference}: {str(error).strip()[:600]}. Use the state dict of this architecture."
        ) from error
    return digest


def _export(torch: Any, module: Any, names: list[str], shapes: list[tuple[int, ...]], reference: str) -> bytes:
    target = io.BytesIO()
    arguments = tuple(torch.zeros(shape) for shape in shapes)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The tracing exporter is called deprecated, but needs nothing beside torch and writes opset 17 itself.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                arguments,
                target,
                input_names=names,
                output_names=None,
                opset_version=TARGET_OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises its own errors, and the module's
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise ConversionError(
            f"{reference}: torch.onnx does not export it: {first}. Check that the shapes in the spec are the ones it takes."
        ) from error
    return target.getvalue()
