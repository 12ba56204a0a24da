"""Reading a bundle: zip or unpacked folder. No byte leaves this module before its size and hash were checked."""

from __future__ import annotations

import difflib
import hashlib
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgesdk.backends.api import ModelFile
from edgesdk.bundle.decode import decode_manifest, decode_measurements
from edgesdk.bundle.external_data import check_self_contained
from edgesdk.bundle.limits import MANIFEST, MAX_JSON_BYTES, MEASUREMENTS, RESERVED
from edgesdk.bundle.manifest import Manifest, Measurements, Variant
from edgesdk.bundle.store import FolderStore, Store
from edgesdk.bundle.zipstore import ZipStore
from edgesdk.errors import BundleError, BundleIntegrityError, BundleUnsafeError

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10


class Bundle:
    """An open bundle. Use it as a context manager; one thread at a time.

    Attributes:
        path: The zip file or folder.
        manifest: What it says about itself.
        identity: sha256 over the bytes of `manifest.json`, lower-case hex. The manifest holds the hash of every
            other file but the measurements, so two bundles of one identity run the same model.
    """

    def __init__(self, path: Path, store: Store, manifest: Manifest, identity: str) -> None:
        self.path = path
        self.manifest = manifest
        self.identity = identity
        self._store = store

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a bundle: its names, its manifest and that both agree; hashes are checked when a file is read.

        Args:
            path: A zip file, or a folder with `manifest.json`.

        Raises:
            BundleUnsafeError: Names that leave the bundle, links, files that the manifest does not list, zip bombs.
            BundleIntegrityError: A listed file is missing, or has another size.
            BundleVersionError: Its schema is newer than this edgesdk reads.
            BundleError: It is not there, or is no bundle.
        """
        path = Path(path)
        try:
            store: Store = FolderStore(path) if path.is_dir() else ZipStore(_existing(path))
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}.") from error
        try:
            content = _manifest_bytes(path, store)
            manifest = decode_manifest(content, where=str(path))
            _check_listing(path, store, manifest)
        except BaseException:
            store.close()
            raise
        return cls(path, store, manifest, hashlib.sha256(content).hexdigest())

    @cached_property
    def measurements(self) -> Measurements | None:
        """What was measured when the bundle was made; None where it has none.

        Raises:
            BundleError: `measurements.json` is damaged. The model runs without it: it is outside the identity.
        """
        if MEASUREMENTS not in self._store.sizes:
            return None
        content = self._store.read(MEASUREMENTS, MAX_JSON_BYTES, checksum=True)
        return decode_measurements(content, where=str(self.path))

    def read(self, name: str) -> bytes:
        """The content of a file that the manifest lists, with its size and sha256 checked.

        Raises:
            BundleError: The manifest does not list it, or it cannot be read.
            BundleUnsafeError: There is more of it than the manifest says.
            BundleIntegrityError: It is not the file that the manifest names.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            near = difflib.get_close_matches(name, self.manifest.files, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BundleError(
                f"{self.path}: {name!r} is no file of this bundle.{hint} Known: {', '.join(sorted(self.manifest.files))}."
            )
        content = self._store.read(name, entry.size_bytes, checksum=False)
        if len(content) != entry.size_bytes:
            raise BundleIntegrityError(
                f"{self.path}: {name!r} has {len(content)} bytes, the manifest says {entry.size_bytes}. "
                "Copy the bundle again."
            )
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != entry.sha256:
            raise BundleIntegrityError(
                f"{self.path}: {name!r} has sha256 {sha256}, the manifest says {entry.sha256}: changed or damaged. "
                "Copy the bundle again."
            )
        return content

    def model_file(self, variant: Variant) -> ModelFile:
        """A variant's model, checked, ready for a backend.

        Raises:
            BundleError: Like :meth:`read`; ``BundleUnsafeError`` too where the model refers to data outside itself.
        """
        content = self.read(variant.file)
        check_self_contained(content, variant.format, where=f"{self.path}: {variant.file}")
        return ModelFile(
            content=content,
            format=variant.format,
            name=f"{self.manifest.name}/{variant.id}",
            sha256=self.manifest.files[variant.file].sha256,
            inputs=variant.inputs,
            outputs=variant.outputs,
        )

    def verify(self) -> None:
        """Read and check every file.

        Raises:
            BundleIntegrityError: Something is wrong with at least one file; the text has all problems, one a line.
        """
        problems = []
        formats = {variant.file: variant.format for variant in self.manifest.variants}
        for name in sorted(self.manifest.files):
            try:
                content = self.read(name)
                check_self_contained(content, formats.get(name, ""), where=f"{self.path}: {name}")
            except BundleError as error:
                problems.append(str(error))
        try:
            _ = self.measurements
        except BundleError as error:
            problems.append(str(error))
        if problems:
            raise BundleIntegrityError("\n".join(problems))

    def close(self) -> None:
        """Close the file; idempotent."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Bundle {self.manifest.name} version {self.manifest.version} at {self.path}>"


def _manifest_bytes(path: Path, store: Store) -> bytes:
    if MANIFEST not in store.sizes:
        raise BundleError(f"{path}: has no manifest.json, so it is no bundle. Make one with: edgesdk convert")
    return store.read(MANIFEST, MAX_JSON_BYTES, checksum=True)


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if path.exists():
        raise BundleError(f"{path}: is neither a file nor a folder, expected a bundle (.edge).")
    others = sorted(item.name for item in path.parent.glob("*.edge")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, others, n=1) or others[:1]
    hint = f"Did you mean {path.parent / near[0]}?" if near else "Make one with: edgesdk convert"
    raise BundleError(f"{path}: there is no such file, expected a bundle (.edge). {hint}")


def _check_listing(path: Path, store: Store, manifest: Manifest) -> None:
    """The container has exactly the files that the manifest lists, in the sizes that it says."""
    unlisted = sorted(set(store.sizes) - set(manifest.files) - RESERVED)
    if unlisted:
        raise BundleUnsafeError(
            f"{path}: has files that its manifest does not list: {', '.join(unlisted[:10])}. "
            "Take them out; a bundle has only what its manifest names."
        )
    problems = [
        f"{path}: {name!r} is listed in the manifest, but not there. Copy the bundle again."
        if name not in store.sizes
        else f"{path}: {name!r} has {store.sizes[name]} bytes, the manifest says {entry.size_bytes}. "
        "Copy the bundle again."
        for name, entry in sorted(manifest.files.items())
        if store.sizes.get(name) != entry.size_bytes
    ]
    if problems:
        raise BundleIntegrityError("\n".join(problems))
