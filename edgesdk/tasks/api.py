"""The seam between a model's tensors and a typed result. A task is an entry point of group `edgesdk.tasks`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.samples import Sample

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], Sequence[Array]]
"""One inference: arrays in the order of ``Contract.inputs`` in, in the order of ``Contract.outputs`` out."""


@runtime_checkable
class Result(Protocol):
    """What a task makes of one sample. Implementations are frozen dataclasses in `edgesdk.tasks.results`."""

    kind: ClassVar[str]
    """Name in payloads, for example ``faces``."""

    def to_json(self) -> dict[str, Any]:
        """Plain dict, list, str, int, float, bool; no numpy; floats rounded to what they mean."""


@runtime_checkable
class Task(Protocol):
    """Turns samples into results by driving a session. Constructed once per model, with its contract.

    The constructor raises ``TaskError`` when the contract's shapes or options do not fit, naming both.
    """

    contract: Contract

    def __init__(self, contract: Contract) -> None: ...

    def __call__(self, run: Run, sample: Sample) -> Result:
        """Pre-process, infer (once or several times), post-process.

        Raises:
            TaskError: The sample is of a kind, shape or dtype that this model does not take.
        """

    def feeds(self, sample: Sample) -> list[list[Array]]:
        """The input arrays that this sample would make, one list per inference, for calibration.

        States are zeros here: whoever calibrates a stateful model runs it and feeds its states forward.
        """

    def reset(self) -> None:
        """Forget the stream so far (recurrent state, context)."""


@runtime_checkable
class StreamingTask(Task, Protocol):
    """A task that a long recording goes through block by block; others get it as a whole."""

    def stream_feeds(self, blocks: Iterable[Sample]) -> Iterator[list[Array]]:
        """What ``feeds`` makes of the whole, from its blocks in order, the last of them with ``last`` set."""


@runtime_checkable
class Cascade(Protocol):
    """Several models that make one result together. An entry point of group `edgesdk.cascades`."""

    tasks: ClassVar[tuple[str, ...]]
    """Names of the tasks it is made of, in order; a bundle for each is needed unless it is in ``optional``."""
    optional: ClassVar[frozenset[str]]

    def __init__(self, parts: dict[str, Task]) -> None: ...

    def __call__(self, runs: dict[str, Run], sample: Sample) -> Result:
        """Run the parts; ``runs`` is keyed by task name."""

    def reset(self) -> None:
        """Forget the stream so far."""
