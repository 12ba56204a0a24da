"""Backend of ONNX Runtime. Quiet, without spinning, with a cache of optimised graphs, and never silently on the CPU."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgesdk.backends import checks
from edgesdk.backends.api import Array, Availability, ModelFile, SessionOptions, TensorInfo
from edgesdk.backends.base import Boundary
from edgesdk.backends.cache import GraphCache
from edgesdk.backends.threads import choose_threads
from edgesdk.errors import BackendError, BackendFallbackWarning, BackendUnavailableError

CPU = "CPUExecutionProvider"
PIP_LINE = "pip install 'edgesdk[onnx]'"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "onnxruntime-migraphx")
"""Distributions that all install the module ``onnxruntime``."""

FATAL = 4
"""ORT's log severity: errors come as exceptions, and then need not be on the terminal as well."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
} | {f"tensor({name})": name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")}


class OnnxRuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of this backend in a device profile."""

    providers: tuple[str | tuple[str, dict[str, Any]], ...] = (CPU,)
    """Execution providers in order of preference, each a name or a pair of name and options. Every one named here is
    demanded; list CPUExecutionProvider last where ONNX Runtime may run the rest there."""
    arena: bool = True
    """Keep freed memory for the next inference; off saves 30 to 50 MiB on a detector and costs up to a quarter in time."""
    graph_optimization: Literal["all", "extended", "basic", "off"] = "all"
    session: dict[str, str] = msgspec.field(default_factory=dict)
    """Session configuration entries, passed on as they are (``session.disable_prepacking: "1"``)."""


class OnnxRuntimeBackend:
    """Runs ONNX models."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})

    def availability(self) -> Availability:
        """Whether a distribution of ONNX Runtime is installed; imports nothing."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(available=False, reason="onnxruntime is not installed", fix=PIP_LINE)
        return Availability(available=True, runtime=_runtime())

    def objection(self, options: dict[str, Any]) -> str:
        """Why a session with these options cannot run here: an execution provider that this build does not have."""
        wanted = _names(checks.parse_options(self.name, options, OnnxRuntimeOptions))
        if wanted == [CPU]:
            return ""  # every build has it: not worth the import
        return _missing(_import_runtime(), wanted)

    def open(self, model: ModelFile, options: SessionOptions) -> OnnxRuntimeSession:
        """Load a model; see the protocol.

        Raises:
            BackendUnavailableError: onnxruntime is not installed or does not import.
            BackendError: The file is no ONNX model, is truncated, needs a newer runtime or an execution provider that is
                not there, or the options are wrong.
        """
        own = checks.parse_options(self.name, options.extra, OnnxRuntimeOptions)
        ort = _import_runtime()
        if missing := _missing(ort, _names(own)):
            raise BackendError(f"{model.name}: {missing}")
        threads = options.threads or choose_threads(len(model.content), options.cores)
        session = _Loader(ort, model, options, own, threads).load()
        return OnnxRuntimeSession(session, model, threads)


class OnnxRuntimeSession(Boundary):
    """A loaded ONNX model."""

    def __init__(self, session: Any, model: ModelFile, threads: int) -> None:
        inputs = [_info(model.name, node) for node in session.get_inputs()]
        outputs = [_info(model.name, node) for node in session.get_outputs()]
        self._inputs = tuple(
            inputs[at] for at in checks.order(model.name, "input", model.inputs, [i.name for i in inputs])
        )
        self._outputs = tuple(
            outputs[at] for at in checks.order(model.name, "output", model.outputs, [o.name for o in outputs])
        )
        self._model = model.name
        self._session = session
        providers = ", ".join(name.removesuffix("ExecutionProvider") for name in session.get_providers())
        self._description = f"{_runtime()}, {providers}, {threads} thread{'s' if threads > 1 else ''}"
        # All that run() needs, prepared once. The wrapper's own run() checks the feed again and, on an accelerator's
        # error, silently continues on the CPU; the object below it is 1.1 us quicker and does neither.
        self._run = getattr(session, "_sess", session).run
        self._input_names = [info.name for info in self._inputs]
        self._output_names = [info.name for info in self._outputs]
        self._count = len(self._inputs)
        self._open_shapes = any(-1 in info.shape for info in self._inputs)
        self._expected = [(info.shape, info.dtype) for info in self._inputs]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference; see the protocol."""
        if self._session is None:
            raise checks.closed_error(self._model)
        if len(inputs) != self._count:
            raise checks.input_error(self._model, self._inputs, inputs)
        try:
            for array, (shape, dtype) in zip(inputs, self._expected):  # noqa: B905  the count is checked; strict= costs time here
                if (array.shape != shape or (array.dtype is not dtype and array.dtype != dtype)) and not self._fits(
                    inputs
                ):
                    raise checks.input_error(self._model, self._inputs, inputs)
        except AttributeError:  # something that is no array
            raise checks.input_error(self._model, self._inputs, inputs) from None
        try:
            results: list[Array] = self._run(
                self._output_names,
                dict(zip(self._input_names, inputs)),  # noqa: B905  same
                None,
            )
        except Exception as error:  # ORT's exceptions have no common root below Exception
            raise BackendError(
                f"{self._model}: inference failed in {self._description}: {error}. If it is out of memory, use a smaller "
                f"variant or the option arena: false; else convert the model again and compare with `edgesdk verify`."
            ) from error
        return results

    def reset(self) -> None:
        """Nothing to forget: an ONNX graph keeps no state between inferences."""
        if self._session is None:
            raise checks.closed_error(self._model)

    def close(self) -> None:
        """Free the model."""
        self._session = self._run = None

    def _fits(self, inputs: Sequence[Array]) -> bool:
        if not self._open_shapes:
            return False
        return all(checks.matches(array, info) for array, info in zip(inputs, self._inputs, strict=True))


class _Loader:
    """Creates an `InferenceSession`, from the cache of optimised graphs where it can."""

    def __init__(
        self, ort: Any, model: ModelFile, options: SessionOptions, own: OnnxRuntimeOptions, threads: int
    ) -> None:
        self.ort, self.model, self.options, self.own, self.threads = ort, model, options, own, threads

    def load(self) -> Any:
        # Execution providers other than the CPU compile for themselves; their graphs are not ours to keep.
        if self.options.graph_cache is None or self.own.graph_optimization == "off" or _names(self.own) != [CPU]:
            return self._create(self.model.content, self._settings())
        cache = GraphCache(folder=self.options.graph_cache)
        relevant = {"level": self.own.graph_optimization, "session": self.own.session}
        path = cache.path(model_sha256=self.model.sha256, runtime=_runtime(), options=relevant)
        graph = cache.load(path)
        if graph is not None:
            settings = self._settings()
            settings.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            try:
                return self._create(graph, settings)
            except BackendError as error:
                cache.forget(path)
                warnings.warn(
                    f"{path}: the cached graph does not load ({error}). It is built anew; nothing needs to be done.",
                    BackendFallbackWarning,
                    stacklevel=4,
                )
        return self._create_and_keep(cache, path)

    def _create_and_keep(self, cache: GraphCache, path: Path) -> Any:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="edgesdk-")
        except OSError as error:  # a read-only system without a writable /tmp
            warnings.warn(
                f"{path}: the optimised graph cannot be kept ({error}); every start optimises it anew. Set TMPDIR to a "
                "folder that can be written.",
                BackendFallbackWarning,
                stacklevel=4,
            )
            return self._create(self.model.content, self._settings())
        with temporary as folder:
            file = Path(folder) / "graph.ort"
            settings = self._settings()
            settings.optimized_model_filepath = str(file)
            settings.add_session_config_entry("session.save_model_format", "ORT")
            try:
                session = self._create(self.model.content, settings)
            except BackendError:
                # A full disk must not keep the model from running; a wrong model fails here once more, with its reason.
                return self._create(self.model.content, self._settings())
            if file.exists():
                cache.store(path, file.read_bytes())
        return session

    def _settings(self) -> Any:
        ort = self.ort
        level = ort.GraphOptimizationLevel
        settings = ort.SessionOptions()
        settings.log_severity_level = FATAL
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.intra_op_num_threads = self.threads
        settings.inter_op_num_threads = 1
        settings.enable_cpu_mem_arena = self.own.arena
        settings.graph_optimization_level = {
            "all": level.ORT_ENABLE_ALL,
            "extended": level.ORT_ENABLE_EXTENDED,
            "basic": level.ORT_ENABLE_BASIC,
            "off": level.ORT_DISABLE_ALL,
        }[self.own.graph_optimization]
        spinning = str(int(self.options.spinning))
        settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        settings.add_session_config_entry("session.inter_op.allow_spinning", spinning)
        for name, value in self.own.session.items():
            settings.add_session_config_entry(name, value)
        return settings

    def _create(self, content: bytes, settings: Any) -> Any:
        model = self.model.name
        providers = list(self.own.providers)
        try:
            session = self.ort.InferenceSession(content, settings, providers=providers, enable_fallback=0)
        except Exception as error:  # ORT's exceptions have no common root below Exception
            raise BackendError(f"{model}: {_runtime()} does not load it: {error}. {_load_fix(str(error))}") from error
        got = session.get_providers()
        if lost := [name for name in _names(self.own) if name not in got]:
            raise BackendError(
                f"{model}: execution provider {', '.join(lost)} did not start; ONNX Runtime would go on with "
                f"{', '.join(got)}. Check the driver and libraries it needs, or take it out of the profile's providers."
            )
        return session


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(f"backend onnxruntime: {error}. Install it: {PIP_LINE}") from error
    return onnxruntime


@cache
def _runtime() -> str:
    for name in DISTRIBUTIONS:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "onnxruntime of unknown version"


def _names(options: OnnxRuntimeOptions) -> list[str]:
    return [entry if isinstance(entry, str) else entry[0] for entry in options.providers]


def _missing(ort: Any, wanted: Sequence[str]) -> str:
    there = ort.get_available_providers()
    missing = [name for name in wanted if name not in there]
    if not missing:
        return ""
    hints = "".join(checks.nearest(name, there) for name in missing)
    return (
        f"execution provider {', '.join(missing)} is not in this {_runtime()} (it has {', '.join(there)}).{hints} Install "
        f"the build of ONNX Runtime that has it, or take it out of the profile's providers."
    )


def _load_fix(text: str) -> str:
    if "pset" in text or "ONNX Runtime only" in text or "IR version" in text or "ir_version" in text:
        return (
            "Convert it again with an opset that this runtime knows (`edgesdk convert` writes one), or update the "
            "runtime: pip install -U onnxruntime."
        )
    if "protobuf" in text.lower() or "No graph was found" in text:
        return (
            "The file is no ONNX model or is truncated: copy it again and compare its size and sha256 with the source."
        )
    if "not a registered function/op" in text or "NOT_IMPLEMENTED" in text:
        return "It has an operator that this build lacks: replace it before the export, or use a build that has it."
    return "Check the model with `edgesdk check`, or convert it again."


def _info(model: str, node: Any) -> TensorInfo:
    if node.type not in _DTYPES:
        raise BackendError(
            f"{model}: {node.name!r} is a {node.type}, expected a tensor of a type that numpy has "
            f"({', '.join(sorted(set(_DTYPES.values())))}). Export the model with a Cast at this boundary."
        )
    # A dimension without a number (a name, or None) is open.
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorInfo(name=node.name, shape=shape, dtype=np.dtype(_DTYPES[node.type]))
