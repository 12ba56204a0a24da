"""Backend of TensorFlow Lite models: LiteRT (ai-edge-litert), else tflite-runtime 2.14. Both have one interface."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache, partial
from importlib import metadata
from typing import Any

import msgspec
import numpy as np

from edgesdk.backends import checks
from edgesdk.backends.api import Array, Availability, ModelFile, SessionOptions, TensorInfo
from edgesdk.backends.base import Boundary
from edgesdk.backends.flatbuffer import find_damage
from edgesdk.backends.quiet import captured_stderr
from edgesdk.backends.threads import choose_threads
from edgesdk.bundle.manifest import Quantization
from edgesdk.errors import BackendError, BackendUnavailableError

PIP_LINE = "pip install 'edgesdk[tflite]'"
OLD_PIP_LINE = "pip install 'edgesdk[tflite-runtime]'"
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
"""Package and distribution, the preferred one first."""


class Delegate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An accelerator's delegate."""

    library: str
    """Shared library, for example ``libedgetpu.so.1`` or ``/usr/lib/libvx_delegate.so``."""
    options: dict[str, str] = msgspec.field(default_factory=dict)


class TfliteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of this backend in a device profile."""

    xnnpack: bool = True
    """The CPU delegate that the runtimes apply by themselves; off runs the built-in kernels."""
    delegate: Delegate | None = None
    """Demanded: where it does not load, the session does not open."""
    preserve_all_tensors: bool = False
    """Keep intermediate tensors readable, for debugging; costs memory."""


class TfliteBackend:
    """Runs TFLite models."""

    name = "tflite"
    formats = frozenset({"tflite"})

    def availability(self) -> Availability:
        """Whether one of the two runtimes is installed in a version that works; imports neither."""
        found = _find()
        if found is None:
            return Availability(
                available=False,
                reason="neither ai-edge-litert nor tflite-runtime is installed",
                fix=f"{PIP_LINE}   (32-bit boards: {OLD_PIP_LINE})",
            )
        if clash := _numpy_clash(found[0]):
            return Availability(
                available=False, runtime=_runtime(found), reason=clash, fix=f"{PIP_LINE} or {OLD_PIP_LINE}"
            )
        return Availability(available=True, runtime=_runtime(found))

    def open(self, model: ModelFile, options: SessionOptions) -> TfliteSession:
        """Load a model; see the protocol.

        Raises:
            BackendUnavailableError: No runtime is installed, or it does not import, or it does not fit numpy.
            BackendError: The file is no TFLite model, is truncated, needs a newer runtime or a delegate that does not
                load, or the options are wrong.
        """
        own = checks.parse_options(self.name, options.extra, TfliteOptions)
        there = self.availability()
        found = _find()
        if found is None or not there.available:
            raise BackendUnavailableError(f"backend tflite: {there.reason}. Install one: {there.fix}")
        if damage := _damage(found[0], model.content):
            raise BackendError(
                f"{model.name}: no whole TFLite model: {damage}. Copy it again and compare its size and sha256 with the "
                f"source."
            )
        threads = options.threads or choose_threads(len(model.content), options.cores)
        create = partial(_create, _import(found[0]), found, model, own, threads)
        return TfliteSession(create, model, _describe(found, own, threads))


class TfliteSession(Boundary):
    """A loaded TFLite model."""

    def __init__(self, create: Any, model: ModelFile, description: str) -> None:
        self._create = create
        self._model = model.name
        self._description = description
        interpreter = create()
        inputs = _in_order(interpreter, model, "input", model.inputs)
        outputs = _in_order(interpreter, model, "output", model.outputs)
        self._inputs = tuple(_info(name, detail) for name, detail in inputs)
        self._outputs = tuple(_info(name, detail) for name, detail in outputs)
        self._indices_in = [detail["index"] for _, detail in inputs]
        self._indices_out = [detail["index"] for _, detail in outputs]
        # Resource variables live beside the interpreter's own: reset_all_variables() leaves them as they are (tried
        # with both runtimes), and only a new interpreter starts from their initial values.
        self._has_resources = any(op["op_name"] == "VAR_HANDLE" for op in interpreter._get_ops_details())  # noqa: SLF001  both runtimes have it; there is no public way
        self._count = len(self._inputs)
        self._interpreter: Any = None
        self._set: Any = None
        self._invoke: Any = None
        self._get: Any = None
        self._bind(interpreter)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference; see the protocol. ``get_tensor`` copies, so the results are the caller's."""
        if self._interpreter is None:
            raise checks.closed_error(self._model)
        if len(inputs) != self._count:
            raise checks.input_error(self._model, self._inputs, inputs)
        try:
            for array, (index, shape, dtype) in zip(inputs, self._expected):  # noqa: B905  the count is checked; strict= costs time here
                if array.shape != shape or (array.dtype is not dtype and array.dtype != dtype):
                    raise checks.input_error(self._model, self._inputs, inputs)
                self._set(index, array)
            self._invoke()
            get = self._get
            return [get(index, 0) for index in self._indices_out]  # 0 is the main subgraph
        except AttributeError:  # something that is no array
            raise checks.input_error(self._model, self._inputs, inputs) from None
        except BackendError:
            raise
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"{self._model}: inference failed in {self._description}: {error}. With a delegate, try without it; else "
                f"convert the model again."
            ) from error

    def reset(self) -> None:
        """Forget variables inside the model. A model with resource variables is loaded anew, which takes longer."""
        if self._interpreter is None:
            raise checks.closed_error(self._model)
        if self._has_resources:
            self._bind(self._create())
        else:
            self._interpreter.reset_all_variables()

    def close(self) -> None:
        """Free the model."""
        self._interpreter = self._create = self._set = self._get = self._invoke = None

    def _bind(self, interpreter: Any) -> None:
        """Prepare all that run() needs."""
        self._interpreter = interpreter
        # The methods below the wrapper's: they are what set_tensor, invoke and get_tensor call after checks that are
        # done here already. Either runtime without them serves through the public ones.
        low = getattr(interpreter, "_interpreter", None)
        self._set = getattr(low, "SetTensor", interpreter.set_tensor)
        self._invoke = getattr(low, "Invoke", interpreter.invoke)
        self._get = getattr(low, "GetTensor", interpreter.get_tensor)
        self._expected = [
            (index, info.shape, info.dtype) for index, info in zip(self._indices_in, self._inputs, strict=True)
        ]


def runtime_package() -> str:
    """Python package of the runtime that is used here, or an empty text."""
    found = _find()
    return found[0] if found else ""


def _find() -> tuple[str, str] | None:
    return next((pair for pair in RUNTIMES if importlib.util.find_spec(pair[0]) is not None), None)


@cache
def _runtime(found: tuple[str, str]) -> str:
    try:
        return f"{found[1]} {metadata.version(found[1])}"
    except metadata.PackageNotFoundError:
        return f"{found[1]} of unknown version"


def _numpy_clash(package: str) -> str:
    if package == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        return f"tflite-runtime was built for numpy 1 and crashes on the installed numpy {np.__version__}"
    return ""


def _import(package: str) -> Any:
    try:
        return importlib.import_module(f"{package}.interpreter")
    except (ImportError, AttributeError) as error:  # AttributeError: built against another numpy
        raise BackendUnavailableError(
            f"backend tflite: {package} is installed but does not import: {error}. Install it again: {PIP_LINE}"
        ) from error


def _damage(package: str, content: bytes) -> str:
    if package == "tflite_runtime":
        return find_damage(content)
    return "" if content[4:8] == b"TFL3" else f"bytes 4 to 7 are {content[4:8]!r}, expected b'TFL3'"


def _create(module: Any, found: tuple[str, str], model: ModelFile, own: TfliteOptions, threads: int) -> Any:
    lines: list[str] = []
    try:
        with captured_stderr() as lines:
            settings: dict[str, Any] = {}
            if own.delegate is not None:
                settings["experimental_delegates"] = [_load_delegate(module, model.name, own.delegate)]
            if not own.xnnpack:
                resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                settings["experimental_op_resolver_type"] = resolver
            interpreter = module.Interpreter(
                model_content=model.content,
                num_threads=threads,
                experimental_preserve_all_tensors=own.preserve_all_tensors,
                **settings,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError, SystemError) as error:  # SystemError: how pybind11 reports a clash with numpy
        text = " ".join(dict.fromkeys([str(error).strip(), *lines]))
        raise BackendError(
            f"{model.name}: {_runtime(found)} does not load it: {text} {_load_fix(text, found)}"
        ) from error
    return interpreter


def _load_delegate(module: Any, model: str, delegate: Delegate) -> Any:
    try:
        # Looked at first, because the wrapper's __del__ raises after a library that is not there or is no delegate.
        _ = ctypes.CDLL(delegate.library).tflite_plugin_create_delegate
        return module.load_delegate(delegate.library, delegate.options)
    except (ValueError, OSError, AttributeError) as error:  # AttributeError: a library that is no delegate
        raise BackendError(
            f"{model}: delegate {delegate.library} does not load: {error}. Install the accelerator's runtime, check that "
            f"the device is there, or take `delegate` out of the profile's options to run on the CPU."
        ) from error


def _load_fix(text: str, found: tuple[str, str]) -> str:
    if "Didn't find op" in text or "Unsupported" in text or "version" in text:
        return (
            f"The file needs a newer runtime: pip install -U {found[1]}, or convert it again for this one (tflite-runtime "
            f"2.14 knows the operators of TensorFlow 2.14)."
        )
    if "custom op" in text.lower() or "unresolved" in text.lower():
        return "It has an operator that this runtime lacks: replace it before the export."
    return "The file is no TFLite model or is damaged: copy it again and compare its size and sha256 with the source."


def _describe(found: tuple[str, str], own: TfliteOptions, threads: int) -> str:
    where = own.delegate.library if own.delegate else "XNNPACK" if own.xnnpack else "built-in kernels"
    return f"{_runtime(found)}, {where}, {threads} thread{'s' if threads > 1 else ''}"


def _in_order(interpreter: Any, model: ModelFile, kind: str, wanted: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Name and details of the wanted tensors; names are the tensors' own or, where those do not fit, the signature's."""
    details = interpreter.get_input_details() if kind == "input" else interpreter.get_output_details()
    names = [detail["name"] for detail in details]
    if wanted and not set(wanted) <= set(names):
        names = _signature_names(interpreter, kind, details) or names
    return [(names[at], details[at]) for at in checks.order(model.name, kind, wanted, names)]


def _signature_names(interpreter: Any, kind: str, details: Sequence[dict[str, Any]]) -> list[str]:
    """The names that the file's signature gives to these tensors; empty where none names all of them."""
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        named = runner.get_input_details() if kind == "input" else runner.get_output_details()
        by_index = {detail["index"]: name for name, detail in named.items()}
        if all(detail["index"] in by_index for detail in details):
            return [by_index[detail["index"]] for detail in details]
    return []


def _info(name: str, detail: dict[str, Any]) -> TensorInfo:
    shape = tuple(int(size) for size in detail["shape"])
    parameters = detail["quantization_parameters"]
    scales = tuple(float(scale) for scale in parameters["scales"])
    quantization = None
    if scales:
        zero_points = tuple(int(point) for point in parameters["zero_points"])
        axis = int(parameters["quantized_dimension"]) if len(scales) > 1 else None
        quantization = Quantization(scale=scales, zero_point=zero_points, axis=axis)
    return TensorInfo(name=name, shape=shape, dtype=np.dtype(detail["dtype"]), quantization=quantization)
