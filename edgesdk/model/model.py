"""A model that is ready to run on this board: sessions, tasks, and as little as possible between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgesdk.backends.api import Array, Session
from edgesdk.bundle.manifest import Manifest, Variant
from edgesdk.model.samples import SampleMaker, Source
from edgesdk.samples import Audio, Picture, Sample, Tensors
from edgesdk.tasks.api import Cascade, Result, Run, Task

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10

_SAMPLES = (Picture, Audio, Tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySplit:
    """Where the time of one sample went, wall clock."""

    pre_ms: float
    """Before the first inference; all of it where a sample completed none (a short block of audio)."""
    inference_ms: float
    """Inside the runtime, summed over the sample's inferences."""
    post_ms: float
    """The rest: decoding, and the work between the inferences of a cascade."""

    @property
    def total_ms(self) -> float:
        """The whole call."""
        return self.pre_ms + self.inference_ms + self.post_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """A result with the time that it took."""

    result: Result
    latency: LatencySplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One bundle of a model: which variant runs where."""

    manifest: Manifest
    identity: str
    """Of the bundle; see `Bundle.identity`."""
    variant: Variant
    backend: str
    session: Session
    task: Task


class Model:
    """A loaded model, or cascade of models. Made by :func:`edgesdk.load`; one thread at a time may use it.

    Attributes:
        name: Of the bundle, or of the cascade.
        version: Of the bundle; for a cascade the sum of its parts' versions, so that it grows with each of them.
        description: Variants, backends and threads in words.
        identities: Identity of each bundle, by its name.
        parts: One for each bundle.
        sample_rate_hz: Of the sound that it takes; None where it takes none.
    """

    def __init__(self, name: str, parts: tuple[Part, ...], cascade: Cascade | None = None) -> None:
        self.name = name
        self.parts = parts
        self.version = sum(part.manifest.version for part in parts)
        self.description = "; ".join(f"{part.variant.id} on {part.session.description}" for part in parts)
        self.identities = {part.manifest.name: part.identity for part in parts}
        self._cascade = cascade
        self._task = parts[0].task
        self._run: Run = parts[0].session.run
        self._runs: dict[str, Run] = {part.manifest.contract.task: part.session.run for part in parts}
        self._clock = _Clock()
        self._clocked = self._clock.around(self._run)
        self._clocked_runs = {name: self._clock.around(run) for name, run in self._runs.items()}
        self._make_sample = SampleMaker(tuple(part.manifest.contract for part in parts))
        self.sample_rate_hz: int | None = self._make_sample.sample_rate_hz

    def __call__(self, source: Source) -> Result:
        """Turn one sample into a result.

        Args:
            source: A sample (`Picture`, `Audio`, `Tensors`); the path of a picture, .wav, .npy or .npz; an array: RGB
                uint8 (H, W, 3) or grey (H, W) for a model that takes pictures, float32 (n,) in -1..1 at the model's
                sample rate for one that takes audio (successive calls continue the stream), else the model's input
                as it is; or a dict of arrays by input name.

        Raises:
            TaskError: The model does not take such a sample.
            SourceError: The file cannot be read.
            BackendError: The runtime failed, or the model is closed.
        """
        # The type test costs less than a call: samples come straight from the app's sources.
        sample = source if isinstance(source, _SAMPLES) else self._make_sample(source)
        if self._cascade is None:
            return self._task(self._run, sample)
        return self._cascade(self._runs, sample)

    def infer(self, sample: Sample) -> Inference:
        """Like a call, and measures it.

        Raises:
            TaskError: The model does not take such a sample.
            BackendError: The runtime failed, or the model is closed.
        """
        clock = self._clock
        clock.first_ns = clock.spent_ns = 0
        begin = time.perf_counter_ns()
        if self._cascade is None:
            result = self._task(self._clocked, sample)
        else:
            result = self._cascade(self._clocked_runs, sample)
        end = time.perf_counter_ns()
        first = clock.first_ns or end
        return Inference(
            result=result,
            latency=LatencySplit(
                pre_ms=(first - begin) / 1e6,
                inference_ms=clock.spent_ns / 1e6,
                post_ms=(end - first - clock.spent_ns) / 1e6,
            ),
        )

    def sample(self, source: str | Path) -> Sample:
        """The sample that this model makes of a file: a picture, wav, npy or npz; see :meth:`__call__`."""
        return self._make_sample(source)

    def reset(self) -> None:
        """Forget the stream so far: recurrent state, audio context, tracks."""
        for part in self.parts:
            part.session.reset()
            part.task.reset()
        if self._cascade is not None:
            self._cascade.reset()
        self._make_sample.reset()

    def close(self) -> None:
        """Free the sessions; idempotent."""
        for part in self.parts:
            part.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.name} version {self.version}: {self.description}>"


class _Clock:
    """Adds up the time inside the runtime over the inferences of one sample."""

    __slots__ = ("first_ns", "spent_ns")

    def __init__(self) -> None:
        self.first_ns = 0
        self.spent_ns = 0

    def around(self, run: Run) -> Run:
        def clocked(inputs: Sequence[Array]) -> Sequence[Array]:
            begin = time.perf_counter_ns()
            outputs = run(inputs)
            self.spent_ns += time.perf_counter_ns() - begin
            self.first_ns = self.first_ns or begin
            return outputs

        return clocked
