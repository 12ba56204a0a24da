"""UUIDv7 (RFC 9562), strictly increasing within a process."""

from __future__ import annotations

import os
import random
import threading
import time


class Uuid7:
    """Makes ids that sort in the order they were made, also when the wall clock steps back.

    48 bits of milliseconds, then a 74-bit field whose upper part counts (RFC 9562, 6.2 method 2): within one
    millisecond, or while the clock is behind the last id, the field grows by a random step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Ids need no secrecy, so one urandom seed and a fast generator; os.urandom per id costs more than the id.
        self._random = random.Random(os.urandom(16))  # noqa: S311 - uniqueness, not secrecy
        self._milliseconds = 0
        self._field = 0

    def __call__(self) -> str:
        """A new id, lower-case with dashes."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._milliseconds:
                self._milliseconds = now
                self._field = self._random.getrandbits(73)  # top bit free: room to count up
            else:
                self._field += 1 + self._random.getrandbits(32)
                if self._field >> 74:
                    self._milliseconds += 1
                    self._field = self._random.getrandbits(73)
            milliseconds, field = self._milliseconds, self._field
        text = f"{milliseconds:012x}7{field >> 62:03x}{0x8000000000000000 | field & 0x3FFFFFFFFFFFFFFF:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


uuid7 = Uuid7()
"""The process's generator."""
