"""Writing a bundle: the same input always makes the same bytes, and a half-written bundle is never seen."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.check import manifest_problems
from edgesdk.bundle.external_data import check_self_contained
from edgesdk.bundle.limits import MANIFEST, MAX_JSON_BYTES, MAX_TOTAL_BYTES, MEASUREMENTS
from edgesdk.bundle.manifest import FileEntry, Manifest, Measurements
from edgesdk.errors import BundleError

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # what a zip can say at the earliest; real clock times would differ every time


def write_bundle(
    path: str | Path, manifest: Manifest, files: Mapping[str, bytes], measurements: Measurements | None = None
) -> Path:
    """Write a bundle, over an existing one if need be.

    Args:
        path: Where to; by custom ``<name>.edge``. The folder is there already.
        manifest: Its ``files`` and ``schema`` are filled in here.
        files: Content by path inside the bundle: model variants, labels, report.
        measurements: Written as `measurements.json`, outside the bundle's identity.

    Returns:
        ``path``.

    Raises:
        BundleError: The bundle could not be read back (names, references, sizes; all problems at once), a model has
            external data, or the disk refuses.
    """
    path = Path(path)
    listed = {
        name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in sorted(files.items())
    }
    manifest = msgspec.structs.replace(manifest, files=listed)
    problems = manifest_problems(manifest)
    if sum(len(content) for content in files.values()) > MAX_TOTAL_BYTES - 2 * MAX_JSON_BYTES:
        problems.append(f"files have more than {MAX_TOTAL_BYTES - 2 * MAX_JSON_BYTES} bytes together")
    if problems:
        raise BundleError("\n  ".join((f"{path}: is not written, because nobody could read it:", *problems)))
    for variant in manifest.variants:
        check_self_contained(files[variant.file], variant.format, where=f"{path}: {variant.file}")
    entries = [(MANIFEST, _json(manifest, path))]
    if measurements is not None:
        entries.append((MEASUREMENTS, _json(measurements, path)))
    entries += sorted(files.items())
    try:
        _write(path, entries)
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be written: {error.strerror}. Check the folder and the free disk."
        ) from error
    return path


def _json(value: Manifest | Measurements, path: Path) -> bytes:
    try:
        plain: dict[str, Any] = msgspec.to_builtins(value, order="deterministic")
        # The schema equals its default and would be left out; a reader decides by it before anything else.
        content = msgspec.json.encode({"schema": value.schema, **plain})
    except (TypeError, ValueError, RecursionError) as error:  # numpy numbers or other objects in the task's options
        raise BundleError(f"{path}: the manifest is no JSON: {error}. Use plain numbers, text and lists.") from error
    content = msgspec.json.format(content, indent=1) + b"\n"
    if len(content) > MAX_JSON_BYTES:
        raise BundleError(f"{path}: the manifest has {len(content)} bytes, expected at most {MAX_JSON_BYTES}.")
    return content


def _write(path: Path, entries: list[tuple[str, bytes]]) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            # Stored, not deflated: weights hardly shrink, zlib's output differs between builds, and a board that
            # loads the model should not inflate it first.
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
                for name, content in entries:
                    info = zipfile.ZipInfo(name, _EARLIEST)
                    info.create_system = 3
                    info.external_attr = 0o100644 << 16
                    archive.writestr(info, content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
