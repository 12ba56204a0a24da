"""Where edgesdk keeps what it can compute again, and the cache of optimised graphs in it. Never part of a bundle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgesdk.errors import BackendFallbackWarning

MAGIC = b"edgesdk-graph-1\n"
MOST_BYTES = 256 * 1024 * 1024
"""Bound of the whole cache folder; the entries used longest ago go first. Room for some twenty detectors."""

_CPU_LINE = re.compile(
    r"^(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU (?:implementer|architecture|variant|part)|Hardware)"
    r"\s*:\s*(.*)$",
    re.MULTILINE,
)


def cache_dir() -> Path:
    """Folder for caches: EDGESDK_CACHE, else XDG_CACHE_HOME/edgesdk, else ~/.cache/edgesdk. It may not exist yet."""
    if own := os.environ.get("EDGESDK_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "edgesdk"
    try:
        return Path.home() / ".cache" / "edgesdk"
    except RuntimeError:  # a service user without a home and without HOME
        return Path("/var/cache/edgesdk")  # where it cannot be written, that is a warning


@cache
def cpu_identity(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model and instruction sets of this machine's cores; a saved graph may hold layouts that fit only these."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        text = platform.processor()
    facts = sorted({f"{name}={value}" for name, value in _CPU_LINE.findall(text)})
    return ";".join([platform.machine(), *facts])


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCache:
    """Optimised graphs, one file each: a head with the sha256 of the rest, then the graph."""

    folder: Path

    def path(self, *, model_sha256: str, runtime: str, options: dict[str, Any]) -> Path:
        """File of a graph: keyed by the model, the runtime's version, the session's options and the CPU."""
        key = json.dumps([model_sha256, runtime, options, cpu_identity()], sort_keys=True, default=str)
        return self.folder / f"{model_sha256[:16]}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.graph"

    def load(self, path: Path) -> bytes | None:
        """The graph, or None where there is none. A damaged file warns, is removed, and counts as none."""
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # the latter shows again, with its fix, when it is stored
            return None
        except OSError as error:
            _warn(f"{path}: cannot be read ({error}). The graph is optimised anew; make the cache folder readable.")
            return None
        head = len(MAGIC) + 65
        graph = content[head:]
        if content[:head] != _head(graph):
            _warn(f"{path}: the cached graph is damaged. It is built anew; nothing needs to be done.")
            self.forget(path)
            return None
        with contextlib.suppress(OSError):  # a read-only cache still serves; it only cannot note the use
            os.utime(path)
        return graph

    def forget(self, path: Path) -> None:
        """Remove a graph."""
        with contextlib.suppress(OSError):
            path.unlink()

    def store(self, path: Path, graph: bytes) -> None:
        """Write a graph: temporary file, then an atomic rename. What prevents it is a warning, no error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_head(graph) + graph)
                Path(name).replace(path)
            except OSError:
                self.forget(Path(name))
                raise
            self._prune(path)
        except OSError as error:
            _warn(
                f"{path}: the optimised graph cannot be kept ({error}); every start optimises it anew. Free some space, "
                f"or set EDGESDK_CACHE to a folder that can be written."
            )

    def _prune(self, newest: Path) -> None:
        entries = []
        for file in self.folder.glob("*.graph"):
            with contextlib.suppress(FileNotFoundError):  # another process prunes too
                stat = file.stat()
                entries.append((stat.st_mtime_ns, stat.st_size, file))
        total = sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries):
            if total <= MOST_BYTES:
                return
            if file != newest:
                self.forget(file)
                total -= size


def _head(graph: bytes) -> bytes:
    return MAGIC + hashlib.sha256(graph).hexdigest().encode() + b"\n"


def _warn(text: str) -> None:
    warnings.warn(text, BackendFallbackWarning, stacklevel=3)
