"""What all built-in sources share: the context manager, the pace, and being woken when the app stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import msgspec

from edgesdk import registry
from edgesdk.errors import PluginError
from edgesdk.samples import Sample
from edgesdk.sources.api import Source

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10

Pace = Literal["real-time", "fast"]
"""real-time: a file is delivered as its clock says; fast: as fast as it is taken."""
Media = Literal["picture", "audio", "any"]


_EXAMPLES = {"rate": "rate: 15Hz", "block": "block: 100ms", "size_wh": "size_wh: [640, 480]"}


def check_above_zero(**options: float | tuple[int, ...] | None) -> None:
    """Refuse zero (and less) in options that are divided by or that are sizes; None is not given.

    Raises:
        ValueError: msgspec and edgesdk.schema turn one of a constructor into an error of their own, with its place.
    """
    for name, value in options.items():
        if value is not None and min(value if isinstance(value, tuple) else (value,)) <= 0:
            shown = list(value) if isinstance(value, tuple) else f"{value:g}"
            raise ValueError(f"{name} is {shown}, expected more than 0, for example {_EXAMPLES[name]}")


@runtime_checkable
class Interruptible(Protocol):
    """A source whose waiting can be cut short; optional, for sources that may wait longer than two seconds."""

    def interrupt(self) -> None:
        """Make a :meth:`Source.read` that waits return soon. Called from another thread; only before close."""


class SourceBase:
    """Base of the built-in sources; a user's own source may use it or not.

    Attributes:
        media: What it delivers; the app derives the default queue policy from it.
    """

    Options: ClassVar[type[msgspec.Struct]]
    live: ClassVar[bool] = False
    media: ClassVar[Media] = "any"

    def __init__(self, options: Any) -> None:
        self.options = options
        self._interrupted = threading.Event()

    def open(self) -> None:
        """See :class:`edgesdk.sources.api.Source`."""
        raise NotImplementedError

    def read(self) -> Sample | None:
        """See :class:`edgesdk.sources.api.Source`."""
        raise NotImplementedError

    def close(self) -> None:
        """See :class:`edgesdk.sources.api.Source`."""

    def interrupt(self) -> None:
        """Wake a :meth:`read` that waits for its pace; every later wait returns at once."""
        self._interrupted.set()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pacer:
    """Holds a file source to the clock of its content.

    A reader that falls behind is not held, and catches up; it is never made to skip, since dropping is the queue's
    decision, where it is counted.
    """

    def __init__(self, pace: Pace, interrupted: threading.Event) -> None:
        self._real_time = pace == "real-time"
        self._interrupted = interrupted
        self._start_s: float | None = None

    def wait_until(self, media_time_s: float) -> None:
        """Wait until ``media_time_s`` after the first call's moment (of media time 0); not at all where fast."""
        if not self._real_time:
            return
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        ahead_s = self._start_s + media_time_s - now_s
        if ahead_s > 0:
            self._interrupted.wait(ahead_s)


def source_class(kind: str) -> type[Source]:
    """The class registered for ``kind``.

    Raises:
        PluginError: The kind is unknown (with the nearest one), or does not load, or is no source.
    """
    found = registry.load_plugin(registry.SOURCES, kind)
    if not (isinstance(found, type) and hasattr(found, "Options") and hasattr(found, "read")):
        raise PluginError(
            f"{registry.SOURCES}: {kind!r} is registered as {found!r}, which is no source: expected a class with "
            "Options, live, open(), read(), close(). See edgesdk.sources.api.Source."
        )
    return cast("type[Source]", found)


def make_source(kind: str, options: Mapping[str, Any] | msgspec.Struct | None = None) -> Source:
    """A closed source of ``kind``.

    Args:
        kind: Entry point of group ``edgesdk.sources``.
        options: Its typed options, or their field values by attribute name (units as the attribute says).
    """
    cls = source_class(kind)
    if isinstance(options, msgspec.Struct):
        return cls(options)
    return cls(cls.Options(**(options or {})))
