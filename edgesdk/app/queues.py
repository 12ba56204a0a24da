"""The bounded queue between capture and inference, with a named policy for when it is full."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from edgesdk.app.config import Policy
from edgesdk.sources import Source

T = TypeVar("T")

PLACES: dict[str, int] = {"latest": 1, "block": 8, "drop_oldest": 50}
"""Default places. block: enough to ride out one slow inference; drop_oldest: 5 s of sound in blocks of 100 ms."""


class Closed(Exception):  # noqa: N818 - control flow between two threads, no error
    """The queue is closed and empty."""


class SampleQueue(Generic[T]):
    """Hands samples from one thread to another.

    Args:
        policy: See :data:`edgesdk.app.config.Policy`.
        places: Bound; None is the policy's default.

    Attributes:
        accepted: Samples put in.
        dropped: Samples that were overtaken by newer ones, or thrown away by :meth:`abort`.
    """

    def __init__(self, policy: Policy, places: int | None = None) -> None:
        self.policy = policy
        self.places = 1 if policy == "latest" else (places or PLACES[policy])
        self.accepted = 0
        self.dropped = 0
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Put one in; with ``block`` wait for a place.

        Returns:
            False where the queue was closed and took nothing.
        """
        with self._changed:
            if self.policy == "block":
                self._changed.wait_for(lambda: self._closed or len(self._items) < self.places)
            if self._closed:
                return False
            while len(self._items) >= self.places:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self.accepted += 1
            self._changed.notify_all()
            return True

    def get(self) -> T:
        """The oldest item; waits for one.

        Raises:
            Closed: There is none, and none will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Take nothing more; what is inside can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Close, and throw away what is inside."""
        with self._changed:
            self._closed = True
            self.dropped += len(self._items)
            self._items.clear()
            self._changed.notify_all()


def default_policy(source: Source) -> Policy:
    """The queue policy where a stream names none; see :class:`edgesdk.app.config.StreamConfig`."""
    if not source.live:
        return "block"
    return "drop_oldest" if getattr(source, "media", "picture") == "audio" else "latest"
