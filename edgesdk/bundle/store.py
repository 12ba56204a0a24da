"""Where the files of a bundle lie: one protocol, and its form over an unpacked folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from edgesdk.bundle.limits import MAX_FILES, MAX_TOTAL_BYTES, clash_problems, name_problem
from edgesdk.errors import BundleError, BundleUnsafeError


class Store(Protocol):
    """Named files of a bundle. Every name has passed :func:`edgesdk.bundle.limits.name_problem`."""

    sizes: dict[str, int]
    """Size in bytes that the container claims, by name. Never trusted while reading."""

    def read(self, name: str, max_bytes: int, *, checksum: bool) -> bytes:
        """The content of one file.

        Args:
            name: A key of :attr:`sizes`.
            max_bytes: Reading stops with an error as soon as there is more.
            checksum: Check the container's own checksum, where it has one; for files without a sha256.

        Raises:
            BundleUnsafeError: There is more than ``max_bytes``.
            BundleError: It cannot be read.
        """

    def close(self) -> None:
        """Release the file; idempotent."""


class FolderStore:
    """A bundle unpacked into a folder: regular files only, no links of either kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}
        problems: list[str] = []
        self._scan("", problems)
        problems += clash_problems(self.sizes)
        total = sum(self.sizes.values())
        if total > MAX_TOTAL_BYTES:
            problems.append(f"its files have {total} bytes together, expected at most {MAX_TOTAL_BYTES}")
        if problems:
            raise BundleUnsafeError("\n".join(f"{folder}: {problem}" for problem in problems))

    def _scan(self, prefix: str, problems: list[str]) -> None:
        with os.scandir(self.folder / prefix) as entries:
            for entry in sorted(entries, key=lambda item: item.name):
                name = prefix + entry.name
                facts = entry.stat(follow_symlinks=False)
                problem = name_problem(name)
                if problem is None and len(self.sizes) >= MAX_FILES:
                    raise BundleUnsafeError(f"{self.folder}: has more than {MAX_FILES} files.")
                if problem is not None:
                    problems.append(problem)
                elif stat.S_ISLNK(facts.st_mode):
                    problems.append(f"{name!r} is a symbolic link, expected a regular file. Copy the file itself.")
                elif stat.S_ISDIR(facts.st_mode):
                    self._scan(name + "/", problems)
                elif not stat.S_ISREG(facts.st_mode):
                    problems.append(f"{name!r} is a device or pipe, expected a regular file")
                elif facts.st_nlink > 1:
                    problems.append(
                        f"{name!r} has {facts.st_nlink} hard links: somebody can change it from outside the bundle. "
                        "Copy the folder with: cp -r --no-preserve=links"
                    )
                else:
                    self.sizes[name] = facts.st_size

    def read(self, name: str, max_bytes: int, *, checksum: bool) -> bytes:
        """Read one file; its links are looked at again on the open file."""
        del checksum  # A file system has none of its own.
        try:
            # O_NONBLOCK: a pipe that was put there since the scan must not hang us.
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                    raise BundleUnsafeError(f"{self.folder}: {name!r} was replaced by a link while being read.")
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise BundleError(f"{self.folder}: {name!r} cannot be read: {error.strerror}.") from error
        if len(content) > max_bytes:
            raise BundleUnsafeError(f"{self.folder}: {name!r} has more than the {max_bytes} bytes allowed for it.")
        return content

    def close(self) -> None:
        """Nothing is held open."""
