"""Own zip reader: a small, strict part of the format, in which every byte belongs to one regular file.

Supported: stored and deflated entries, with or without data descriptor. Refused: encryption, links, folders, 64-bit
and multi-disk archives, comments, overlapping entries, names that differ between central directory and local header
(two readers would see two archives). The standard library's reader accepts all of these to some degree.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgesdk.bundle.limits import (
    MAX_FILES,
    MAX_RATIO,
    MAX_TOTAL_BYTES,
    RATIO_FREE_BYTES,
    clash_problems,
    name_problem,
)
from edgesdk.errors import BundleError, BundleIntegrityError, BundleUnsafeError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # traditional, strong, encrypted central directory
_BLOCK = 1 << 20
_MAX_DIRECTORY_BYTES = 1 << 20
_REPACK = "Copy the bundle again; where it was packed by hand, use: zip -X -D -r name.edge manifest.json ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    start: int
    """Offset of the first packed byte."""


class ZipStore:
    """A bundle in a zip file, held open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise BundleError(f"{path}: cannot be opened: {error.strerror}.") from error
        try:
            self._entries = {entry.name: entry for entry in self._directory()}
        except BaseException:
            self._file.close()
            raise
        self.sizes = {name: entry.size_bytes for name, entry in self._entries.items()}

    def _directory(self) -> list[_Entry]:
        total = self._file.seek(0, os.SEEK_END)
        if total < _END.size:
            raise BundleError(f"{self.path}: has {total} bytes, which is no zip file. {_REPACK}")
        magic, disk, first_disk, here, count, size, offset, comment = _END.unpack(
            self._at(total - _END.size, _END.size)
        )
        if magic != b"PK\x05\x06":
            raise BundleError(
                f"{self.path}: is no zip file, is truncated, or has a comment: no end record at its end. {_REPACK}"
            )
        if disk or first_disk or here != count or comment or 0xFFFFFFFF in (size, offset) or count == 0xFFFF:
            raise BundleUnsafeError(f"{self.path}: is a multi-disk or 64-bit zip, expected a plain one. {_REPACK}")
        if count > MAX_FILES or size > _MAX_DIRECTORY_BYTES:
            raise BundleUnsafeError(f"{self.path}: has {count} files, expected at most {MAX_FILES}.")
        if offset + size != total - _END.size:
            raise BundleUnsafeError(f"{self.path}: its directory does not end where the end record begins. {_REPACK}")
        return self._check(self._parse(self._at(offset, size), count, offset), offset)

    def _parse(self, directory: bytes, count: int, end: int) -> list[tuple[_Entry, int]]:
        """Entries with the offset of their local header; ``end`` is where the last one must end."""
        found = []
        at = 0
        problems = []
        for _ in range(count):
            if at + _CENTRAL.size > len(directory):
                raise BundleError(f"{self.path}: its directory ends within an entry. {_REPACK}")
            fields = _CENTRAL.unpack_from(directory, at)
            (magic, _, _, flags, method, _, _, crc, packed, size) = fields[:10]
            (name_length, extra_length, comment_length, _, _, attributes, header) = fields[10:]
            at += _CENTRAL.size
            raw_name = directory[at : at + name_length]
            at += name_length + extra_length + comment_length
            if magic != b"PK\x01\x02" or at > len(directory):
                raise BundleError(f"{self.path}: its directory is damaged. {_REPACK}")
            name = raw_name.decode("utf-8", "backslashreplace")
            problem = name_problem(name) or _entry_problem(name, flags, method, attributes, packed, size)
            if problem is not None:
                problems.append(problem)
                continue
            start = self._local(raw_name, flags, method, header, end)
            entry = _Entry(name=name, method=method, crc=crc, packed_bytes=packed, size_bytes=size, start=start)
            found.append((entry, header))
        if at != len(directory):
            problems.append(f"its directory has {len(directory) - at} bytes after its {count} entries")
        if problems:
            raise BundleUnsafeError("\n".join(f"{self.path}: {problem}" for problem in problems))
        return found

    def _local(self, raw_name: bytes, flags: int, method: int, header: int, end: int) -> int:
        if header + _LOCAL.size > end:
            raise BundleUnsafeError(f"{self.path}: {raw_name!r} lies outside the archive. {_REPACK}")
        fields = _LOCAL.unpack(self._at(header, _LOCAL.size))
        magic, _, local_flags, local_method = fields[:4]
        name_length, extra_length = fields[9:]
        if magic != b"PK\x03\x04":
            raise BundleError(f"{self.path}: {raw_name!r} has no local header where the directory says. {_REPACK}")
        same_name = self._at(header + _LOCAL.size, name_length) == raw_name
        if not same_name or local_method != method or (local_flags ^ flags) & _ENCRYPTED:
            raise BundleUnsafeError(
                f"{self.path}: {raw_name!r} is described differently in its local header. {_REPACK}"
            )
        return int(header + _LOCAL.size + name_length + extra_length)

    def _check(self, found: list[tuple[_Entry, int]], end: int) -> list[_Entry]:
        entries = [entry for entry, _ in found]
        problems = clash_problems(entry.name for entry in entries)
        total = sum(entry.size_bytes for entry in entries)
        if total > MAX_TOTAL_BYTES:
            problems.append(f"its files claim {total} bytes together, expected at most {MAX_TOTAL_BYTES}")
        reached, before = 0, "the beginning of the archive"
        for entry, header in sorted(found, key=lambda item: item[1]):
            if header < reached:
                problems.append(f"{entry.name!r} overlaps {before}: a zip bomb, or damaged")
            reached, before = max(reached, entry.start + entry.packed_bytes), repr(entry.name)
        if reached > end:
            problems.append(f"{before} reaches into the directory: damaged")
        if problems:
            raise BundleUnsafeError("\n".join(f"{self.path}: {problem}" for problem in problems))
        return entries

    def _at(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            content = self._file.read(size)
        except (OSError, ValueError) as error:  # ValueError: the bundle was closed
            raise BundleError(f"{self.path}: cannot be read: {error}.") from error
        if len(content) != size:
            raise BundleError(f"{self.path}: ends at byte {offset + len(content)}, expected more. {_REPACK}")
        return content

    def read(self, name: str, max_bytes: int, *, checksum: bool) -> bytes:
        """Read or inflate one file, stopping as soon as there is more than its header or ``max_bytes`` allows."""
        entry = self._entries[name]
        if entry.size_bytes > max_bytes:
            raise BundleUnsafeError(
                f"{self.path}: {name!r} claims {entry.size_bytes} bytes, expected at most {max_bytes}."
            )
        content = self._at(entry.start, entry.packed_bytes) if entry.method == _STORED else self._inflate(entry)
        if checksum and zlib.crc32(content) != entry.crc:
            raise BundleIntegrityError(f"{self.path}: {name!r} has a wrong CRC-32: damaged. {_REPACK}")
        return content

    def _inflate(self, entry: _Entry) -> bytes:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        parts: list[bytes] = []
        room = entry.size_bytes + 1  # one more than claimed, so that a longer stream shows
        at, left = entry.start, entry.packed_bytes
        try:
            while left and room and not inflater.eof:
                block = self._at(at, min(left, _BLOCK))
                at, left = at + len(block), left - len(block)
                while block and room and not inflater.eof:
                    part = inflater.decompress(block, room)
                    parts.append(part)
                    room -= len(part)
                    block = inflater.unconsumed_tail
        except zlib.error as error:
            raise BundleIntegrityError(f"{self.path}: {entry.name!r} does not inflate: {error}. {_REPACK}") from error
        if room == 0:
            raise BundleUnsafeError(
                f"{self.path}: {entry.name!r} inflates to more than the {entry.size_bytes} bytes it claims: a zip bomb."
            )
        if room != 1 or not inflater.eof or left or inflater.unused_data:
            raise BundleIntegrityError(
                f"{self.path}: {entry.name!r} inflates to {entry.size_bytes + 1 - room} bytes, its header says "
                f"{entry.size_bytes}: damaged. {_REPACK}"
            )
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()


def _entry_problem(name: str, flags: int, method: int, attributes: int, packed: int, size: int) -> str | None:
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK:
        return f"{name!r} is a symbolic link, expected a regular file. Pack the file itself."
    if kind not in (0, stat.S_IFREG) or attributes & 0x10:  # 0x10: DOS folder
        return f"{name!r} is a folder, device or pipe, expected a regular file (zip with: zip -D -r)"
    if flags & _ENCRYPTED:
        return f"{name!r} is encrypted, expected plain content. Encrypt the transport or the disk instead."
    if method not in (_STORED, _DEFLATED):
        return f"{name!r} is packed by method {method}, expected 0 (stored) or 8 (deflated)"
    if method == _STORED and packed != size:
        return f"{name!r} is stored with {packed} bytes, but claims {size}"
    if 0xFFFFFFFF in (packed, size):
        return f"{name!r} needs 64-bit extensions, expected at most {MAX_TOTAL_BYTES} bytes"
    if size > RATIO_FREE_BYTES and size > packed * MAX_RATIO:
        return f"{name!r} claims to inflate {packed} bytes to {size}, expected at most {MAX_RATIO} times: a zip bomb"
    return None
