"""Tells which profile fits a board, why, and what could not be found out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import ProfileError
from edgesdk.profiles.board import Board, read_board
from edgesdk.profiles.export import SCHEMA_FILE
from edgesdk.profiles.load import load_profile, profile_files, profiles_folder
from edgesdk.profiles.model import Cluster, DeviceProfile
from edgesdk.schema.units import FREQUENCY, SIZE

GENERIC = {"x86_64": "generic-x86-64", "aarch64": "generic-aarch64", "armv7l": "generic-aarch64"}
"""Fallback by instruction set; a 32-bit Arm system takes the 64-bit profile's order, and is told what it lacks."""
_SEEN_SHARE = 0.80
"""Least share of the installed memory that Linux reports: firmware, GPU and kernel take up to 17 % on a Pi Zero 2 W."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Which profile fits a board."""

    profile_id: str
    exact: bool
    """The board was recognised; otherwise the profile is the generic one of its instruction set."""
    reasons: tuple[str, ...]
    """Why this profile."""
    differences: tuple[str, ...]
    """Where the board is not what the profile says."""
    board: Board

    @property
    def unknown(self) -> tuple[str, ...]:
        """What could not be found out."""
        return self.board.unknown

    def to_json(self) -> dict[str, Any]:
        """Plain data, for ``--json``."""
        found = asdict(self.board)
        return {
            "profile": self.profile_id,
            "exact": self.exact,
            "reasons": self.reasons,
            "differences": self.differences,
            "unknown": found.pop("unknown"),
            "notes": found.pop("notes"),
            "board": found,
        }


def detect(root: Path = Path("/")) -> Detection:
    """Find the profile that fits the board.

    Args:
        root: ``/`` is this board; a recorded tree of /proc, /sys, /etc ... is another one.

    Raises:
        ProfileError: A profile that names this board has an error.
    """
    board = read_board(root)
    best: tuple[int, DeviceProfile, tuple[str, ...]] | None = None
    for profile in _candidates(board):
        reasons = _match(profile, board)
        if reasons and (best is None or len(reasons) > best[0]):
            best = (len(reasons), profile, reasons)
    if best is not None:
        _, profile, reasons = best
        differences = _differences(profile, board)
        return Detection(profile_id=profile.id, exact=True, reasons=reasons, differences=differences, board=board)
    named = f"no profile knows the board {board.model!r}" if board.model else "nothing names the board"
    fallback = GENERIC.get(board.architecture, "generic-aarch64")
    reason = f"{named}: the generic profile for {board.architecture or 'an unknown instruction set'}"
    return Detection(profile_id=fallback, exact=False, reasons=(reason,), differences=(), board=board)


def this_board() -> DeviceProfile:
    """The profile of the board that this runs on.

    An unknown board gets the generic profile of its instruction set, with its own cores and memory filled in; so does a
    known board whose memory is another size than the profile's. Never raises for an unknown board.
    """
    try:
        detection = detect()
        profile = load_profile(detection.profile_id)
    except ProfileError:
        # A user's own profile that is broken must not keep every program of this board from starting.
        detection = _generic(read_board())
        profile = load_profile(detection.profile_id)
    return as_found(profile, detection)


def as_found(profile: DeviceProfile, detection: Detection) -> DeviceProfile:
    """The profile with what the board itself says where the profile is silent or differs."""
    board = detection.board
    changes: dict[str, Any] = {}
    if not profile.cpu.clusters and board.cores:
        clusters = tuple(
            # The words of board.FEATURES are those of the profile's Literal.
            msgspec.convert(
                {"core": group.core, "count": group.count, "clock": group.max_clock_hz, "features": group.features},
                Cluster,
            )
            for group in board.cores
        )
        changes["cpu"] = msgspec.structs.replace(profile.cpu, clusters=clusters)
    if board.memory_bytes is not None and (profile.memory.size_bytes is None or _memory_differs(profile, board)):
        changes["memory"] = msgspec.structs.replace(profile.memory, size_bytes=board.memory_bytes)
    return msgspec.structs.replace(profile, **changes) if changes else profile


def profile_text(detection: Detection, profile_id: str) -> str:
    """A profile to start from: extends the one that fits, with what this board says about itself.

    Args:
        detection: What :func:`detect` found.
        profile_id: Its id, the name of the file that it goes into.
    """
    board = detection.board
    lines = [
        f"# yaml-language-server: $schema={profiles_folder() / SCHEMA_FILE}",
        "# Written by `edgesdk profile detect --output`; what is not here comes from the profile under `extends`.",
        "schema: edgesdk.profile/1",
        f"id: {profile_id}",
        f"name: {_quoted(board.model or profile_id)}",
        f"extends: {detection.profile_id}",
    ]
    if board.compatible:
        lines += ["recognise:", f"  compatible: [{', '.join(map(_quoted, board.compatible[:1]))}]"]
    if board.architecture and board.cores:
        lines += ["cpu:", f"  architecture: {board.architecture}", "  source: detected", "  clusters:"]
        for group in board.cores:
            lines += [f"    - core: {_quoted(group.core)}", f"      count: {group.count}"]
            if group.max_clock_hz:
                lines.append(f"      clock: {FREQUENCY.format(group.max_clock_hz)}")
            lines.append(f"      features: [{', '.join(group.features)}]")
    if board.memory_bytes:
        lines += ["memory:", f"  size: {SIZE.format(board.memory_bytes)}", "  source: detected"]
    if board.python or board.glibc or board.os:
        lines.append("software:")
        lines += [f"  os: {_quoted(board.os)}"] if board.os else []
        lines += [f'  python: "{".".join(board.python.split(".")[:2])}"'] if board.python else []
        lines += [f'  glibc: "{board.glibc}"'] if board.glibc else []
        lines.append("  source: detected")
    lines += [
        "sources:",
        "  detected:",
        "    title: edgesdk profile detect, on this board (/proc, /sys and the installed packages)",
        "    status: measured",
    ]
    return "\n".join(lines) + "\n"


def _candidates(board: Board) -> list[DeviceProfile]:
    """Profiles whose file mentions what the board says about itself; the others are not even parsed.

    Parsing all of them would cost a Pi Zero about a second.
    """
    words = [*board.compatible, *board.pci]
    found = []
    for profile_id, file in profile_files().items():
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ProfileError([f"{file}: cannot be read: {error.strerror}."]) from error
        if any(word in text for word in words) or (board.model and board.model[:12] in text):
            found.append(load_profile(profile_id))
    return found


def _match(profile: DeviceProfile, board: Board) -> tuple[str, ...]:
    """Why the profile fits; empty if it does not. A profile that also asks for a card says more, so it wins."""
    known = profile.recognise
    if any(card not in board.pci for card in known.pci):
        return ()
    reasons = [f"the device tree is compatible with {word}" for word in known.compatible if word in board.compatible][
        :1
    ]
    reasons += [f"the device tree's model is {board.model!r}" for word in known.models if board.model.startswith(word)][
        :1
    ]
    if not reasons:
        return ()
    return (*reasons, *(f"PCI device {card} is there" for card in known.pci))


def _differences(profile: DeviceProfile, board: Board) -> tuple[str, ...]:
    found = []
    if board.memory_bytes is not None and profile.memory.size_bytes is not None and _memory_differs(profile, board):
        found.append(
            f"memory: Linux sees {board.memory_bytes / 2**30:.2f} GiB, the profile says "
            f"{SIZE.format(profile.memory.size_bytes)}; the board's own size is used"
        )
    counted = sum(group.count for group in board.cores)
    if profile.cpu.cores and counted and counted != profile.cpu.cores:
        found.append(f"cores: Linux sees {counted}, the profile says {profile.cpu.cores}; some may be switched off")
    if board.architecture and board.architecture != profile.cpu.architecture:
        found.append(
            f"instruction set: the system is {board.architecture}, the profile says {profile.cpu.architecture}; "
            f"install the 64-bit system"
        )
    return tuple(found)


def _memory_differs(profile: DeviceProfile, board: Board) -> bool:
    seen, installed = board.memory_bytes, profile.memory.size_bytes
    return seen is not None and installed is not None and not _SEEN_SHARE * installed <= seen <= installed


def _generic(board: Board) -> Detection:
    fallback = GENERIC.get(board.architecture, "generic-aarch64")
    reasons = ("a profile has an error (edgesdk profile detect shows it): the generic one is used",)
    return Detection(profile_id=fallback, exact=False, reasons=reasons, differences=(), board=board)


def _quoted(text: str) -> str:
    """A YAML scalar in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
