"""Remembers which variant of a bundle won on this board, so that only the first load times them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgesdk.backends.cache import cache_dir, cpu_identity

LOG = logging.getLogger(__name__)


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache remembers of one bundle on this board."""

    choice: int
    """Index into the candidates, which the file's name covers."""
    variant: str
    """For people who look into the cache."""
    backend: str
    """Likewise; a board may list one backend twice, with other options."""
    promise: str = ""
    """Text of the warning about a promise that did not hold; told at every load."""


def winner_file(identity: str, facts: Sequence[object]) -> Path:
    """Where the winner of a bundle is kept.

    Args:
        identity: Of the bundle.
        facts: Whatever else decides who wins: candidates, runtime versions, options; as JSON.
    """
    key = json.dumps([identity, cpu_identity(), facts], default=str)
    return cache_dir() / "winners" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def recall(file: Path) -> Winner | None:
    """The winner, or None where none is known."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Winner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # not there, or damaged: timed anew
        return None


def remember(file: Path, winner: Winner) -> None:
    """Keep the winner: temporary file, then an atomic rename. A folder that cannot be written is logged, no error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as temporary:
                temporary.write(msgspec.json.encode(winner))
            Path(name).replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        LOG.warning(
            "%s: cannot be written (%s), so every load times the variants anew. Set EDGESDK_CACHE to a folder that can.",
            file,
            error,
        )
