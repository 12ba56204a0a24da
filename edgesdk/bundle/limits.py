"""What a bundle may contain at most, and which names its files may have. Shared by reading and writing."""

from __future__ import annotations

import re
from collections.abc import Iterable

MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.json"
RESERVED = frozenset({MANIFEST, MEASUREMENTS})
"""The two files that `Manifest.files` does not list."""

MAX_FILES = 256
"""A bundle has a handful of variants, labels and a report."""
MAX_TOTAL_BYTES = 2**31 - 1
"""Below the limit of a protobuf message and of a zip without 64-bit extensions."""
MAX_JSON_BYTES = 16 * 1024 * 1024
"""Manifest and measurements; the largest real manifest (6,600 characters of a text recogniser) has 0.1 MB."""
MAX_RATIO = 200
"""Inflated over deflated size. Weights reach 1.1 to 4, text 10; deflate's ceiling is 1032."""
RATIO_FREE_BYTES = 1024 * 1024
"""Smaller files may have any ratio: they harm nobody."""
MAX_NAME_LENGTH = 200

_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*\Z")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)


def name_problem(name: str) -> str | None:
    """Why ``name`` may not be a file of a bundle; None where it may.

    Allowed are relative paths of ASCII letters, digits and ``._+-`` with ``/`` between folders: every other name means
    different files to different systems.
    """
    shown = repr(name[:MAX_NAME_LENGTH])
    if not name or len(name) > MAX_NAME_LENGTH:
        return f"file name {shown} has {len(name)} characters, expected 1 to {MAX_NAME_LENGTH}"
    if "\\" in name:
        return f"file name {shown} contains a backslash, expected '/' between folders"
    if name.startswith("/"):
        return f"file name {shown} is an absolute path, expected one inside the bundle"
    if re.match(r"[A-Za-z]:", name):
        return f"file name {shown} starts with a drive letter, expected a path inside the bundle"
    parts = name.split("/")
    if ".." in parts:
        return f"file name {shown} leaves the bundle by '..', expected a path inside it. Do not use this file; get it from who made it"
    if name.endswith("/"):
        return f"{shown} is an entry for a folder, expected regular files only (zip with: zip -D -r)"
    for part in parts:
        if not _PART.match(part) or _WINDOWS_DEVICES.match(part):
            return f"file name {shown} is not portable, expected letters, digits and '._+-', no '.' in front: rename it or take it out"
    return None


def clash_problems(names: Iterable[str]) -> list[str]:
    """Names that occur twice, or that differ only by case, or where one is a folder of another."""
    seen: dict[str, str] = {}
    problems = []
    for name in names:
        other = seen.get(name.lower())
        if other is None:
            seen[name.lower()] = name
        elif other == name:
            problems.append(f"{name!r} is there twice, expected once")
        else:
            problems.append(f"{name!r} and {other!r} differ only by case: the same file on some systems")
    for low, name in seen.items():
        folders = (low[:end] for end, letter in enumerate(low) if letter == "/")
        problems += [f"{seen[part]!r} is a file, and a folder of {name!r}" for part in folders if part in seen]
    return problems
