"""How many threads a session gets on a shared small board, when nobody says."""

from __future__ import annotations

import os

SMALL_MODEL_BYTES = 3 * 1024 * 1024
"""Up to this file size one thread is used.

Tuned with onnxruntime 1.32 without spinning on two cores, quickest quarter of 30 interleaved runs, two threads against
one: DS-CNN (0.09 MB) 141 against 102 us, PP-OCR cls (0.6 MB) 1.83 against 1.39 ms: slower; PP-OCR det (4.7 MB) 20 against
26 ms: quicker. Between them lie the Silero VAD files (2.3 and 2.8 MB, 0.2 ms), which one thread serves best. File size is a
rough measure of work; ``threads`` overrides it.
"""

MOST_THREADS = 4
"""Beyond four, convolutions of this size scale little (published for a Pi 4: 2.3 to 2.7 times from one to four)."""


def usable_cores() -> int:
    """Cores that this process may run on: its affinity, not what the board has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def choose_threads(model_size_bytes: int, cores: int = 0) -> int:
    """Threads for a model of this size.

    Args:
        model_size_bytes: Size of the model file.
        cores: Cores that inference may use; 0 is all that this process may use.

    Returns:
        One for small models. Else all the cores but one when there are more than two: capture and publishing need
        one, and a worker thread that waits for a core holds up every parallel section.
    """
    if model_size_bytes <= SMALL_MODEL_BYTES:
        return 1
    usable = min(cores, usable_cores()) if cores else usable_cores()
    return max(1, min(usable - 1 if usable > 2 else usable, MOST_THREADS))
