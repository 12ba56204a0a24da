"""Inference runtimes behind one protocol, and the choice between them with reasons."""

from edgesdk.backends.api import (
    Availability,
    Backend,
    ChoosyBackend,
    ModelFile,
    Session,
    SessionOptions,
    TensorInfo,
)
from edgesdk.backends.cache import cache_dir
from edgesdk.backends.select import Choice, Selection, candidates, get_backend, session_options

__all__ = [
    "Availability",
    "Backend",
    "Choice",
    "ChoosyBackend",
    "ModelFile",
    "Selection",
    "Session",
    "SessionOptions",
    "TensorInfo",
    "cache_dir",
    "candidates",
    "get_backend",
    "session_options",
]
