"""The seam between edgesdk and inference runtimes. A backend is an entry point of group `edgesdk.backends`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the bundle room imports this one to hand out model files
    from edgesdk.bundle.manifest import Quantization

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """A tensor at a session's boundary."""

    name: str
    shape: tuple[int, ...]
    """-1 where the model leaves a dimension open; a converted model has none."""
    dtype: np.dtype[Any]
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model whose hash has been checked already, or that the caller vouches for."""

    content: bytes
    format: str
    """``onnx`` or ``tflite`` (or what a vendor's backend names)."""
    name: str
    """For messages."""
    sha256: str
    """Key of the optimised-graph cache."""
    inputs: tuple[str, ...] = ()
    """Order in which ``Session.run`` takes the tensors; empty is the file's own order."""
    outputs: tuple[str, ...] = ()
    """Order in which it returns them; empty is the file's own order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session shall run on a shared small board."""

    threads: int = 0
    """Intra-operator threads; 0 lets the backend choose from the board's cores and the model's size."""
    cores: int = 0
    """Cores the board may spend on inference; 0 is all that this process may use."""
    spinning: bool = False
    """Busy-wait between inferences: a little faster alone, ruinous on a shared board."""
    graph_cache: Path | None = None
    """Folder for optimised graphs; None keeps none."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The backend's own options, from the device profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend's runtime is there."""

    available: bool
    runtime: str = ""
    """Distribution and version, for example ``onnxruntime 1.32.0``."""
    reason: str = ""
    """Why it is not available."""
    fix: str = ""
    """The pip line, or what else helps."""


@runtime_checkable
class Session(Protocol):
    """A loaded model. One thread at a time may call :meth:`run`; the runtimes release the GIL in it."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """In the order that :meth:`run` takes."""

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """In the order that :meth:`run` returns."""

    @property
    def description(self) -> str:
        """Runtime, accelerator and threads in words."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference. The returned arrays belong to the caller.

        Raises:
            BackendError: Wrong number, shape or dtype of inputs, the session is closed, or the runtime failed.
        """

    def reset(self) -> None:
        """Forget state that lives inside the model (TFLite resource variables); nothing to do for most."""

    def close(self) -> None:
        """Free the model; idempotent."""


@runtime_checkable
class Backend(Protocol):
    """An inference runtime. Constructing one imports nothing heavy."""

    name: str
    formats: frozenset[str]

    def availability(self) -> Availability:
        """Whether the runtime is installed in a version that works here; never raises.

        It imports nothing heavy, so that selecting one runtime does not load the others: an installation that is
        broken inside shows when a model is opened, as BackendUnavailableError.
        """

    def open(self, model: ModelFile, options: SessionOptions) -> Session:
        """Load a model.

        Raises:
            BackendUnavailableError: The runtime is not installed.
            BackendError: The runtime refuses the model.
        """


@runtime_checkable
class ChoosyBackend(Backend, Protocol):
    """A backend that can tell before a model is opened that the options of a profile cannot be met here."""

    def objection(self, options: dict[str, Any]) -> str:
        """Why not, with the fix (an execution provider that is not in this build), or an empty text.

        Raises:
            BackendError: The options are wrong in themselves.
        """
