"""The seam between the world and the app. A source is an entry point of group `edgesdk.sources`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import msgspec

from edgesdk.samples import Sample

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10


@runtime_checkable
class Source(Protocol):
    """Delivers samples, one at a time, from one thread. Constructing one opens nothing."""

    Options: ClassVar[type[msgspec.Struct]]
    """Typed options of this kind in `app.yaml` (without ``kind``)."""
    live: ClassVar[bool]
    """True where the world does not wait: cameras, microphones."""

    def __init__(self, options: Any) -> None: ...

    @property
    def description(self) -> str:
        """Device or file, size and rate in words."""

    def open(self) -> None:
        """Open the device or file.

        Raises:
            SourceError: It is not there or busy; the app retries with back-off.
            SourceFormatError: It is there but unreadable; retrying does not help.
        """

    def read(self) -> Sample | None:
        """The next sample, or None at the end of a file. Blocks at most two seconds on a live source.

        Raises:
            SourceError: The device was unplugged or stopped delivering.
        """

    def close(self) -> None:
        """Release it; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
