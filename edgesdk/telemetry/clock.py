"""Time as payloads carry it: RFC 3339, whether the clock is set, and which boot this is."""

from __future__ import annotations

import ctypes
import time
import uuid
from functools import cache
from pathlib import Path

MAX_TIME_NS = 253_402_300_800 * 10**9
"""First nanosecond of the year 10000, which RFC 3339 cannot write."""

_TIMESYNC = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STA_UNSYNC = 0x40
_STATUS_OFFSET = 5 * ctypes.sizeof(ctypes.c_long)
# struct timex: modes (int, padded), offset, freq, maxerror, esterror (longs), then status (int); man 2 adjtimex
_CACHE_S = 10.0


def rfc3339(time_ns: int) -> str:
    """``2026-11-23T18:37:16.123456Z`` for nanoseconds since 1970, in [0, MAX_TIME_NS)."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def read_clock_synced(timesync: Path = _TIMESYNC) -> bool | None:
    """Ask the kernel (adjtimex), then systemd-timesyncd's mark; None when neither can tell."""
    status = _kernel_status()
    if status is not None and not status & _STA_UNSYNC:
        return True
    if timesync.exists():
        return True
    return None if status is None else False


def _kernel_status() -> int | None:
    buffer = ctypes.create_string_buffer(512)  # struct timex has 208 bytes; modes = 0 only reads
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.adjtimex(buffer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return ctypes.c_int.from_buffer(buffer, _STATUS_OFFSET).value


class ClockState:
    """``clock_synced``, asked at most every ten seconds."""

    def __init__(self) -> None:
        self._value: bool | None = None
        self._until = -1.0

    def synced(self) -> bool | None:
        """Whether the clock is set; None when the board cannot tell."""
        now = time.monotonic()
        if now >= self._until:
            self._value, self._until = read_clock_synced(), now + _CACHE_S
        return self._value


@cache
def boot_id() -> str:
    """The kernel's id of this boot; where there is none, an id of this process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())
