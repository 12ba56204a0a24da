"""Lets processes on one machine take turns in timing, where somebody runs several conversions at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

LOCK_FILE = "EDGESDK_TIMING_LOCK"
"""Environment variable that names the file whose lock is the turn; without it nobody waits for anybody."""


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Hold the lock: no other process that was told of it measures meanwhile. It is free again when its holder dies."""
    path = os.environ.get(LOCK_FILE)
    if not path:
        yield
        return
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
