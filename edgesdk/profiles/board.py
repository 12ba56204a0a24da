"""Reads what a Linux system says about its board: /proc, /sys, the device tree, and what is installed.

Everything is read below ``root``, so that a recorded tree of another board reads like this one. What cannot be found
out is said, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import struct
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution
from pathlib import Path

from edgesdk.profiles.model import OLDEST_PYTHON

RUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "tensorrt", "hailort", "rknn-toolkit-lite2",
    "openvino", "ncnn", "pycoral", "opencv-python-headless", "opencv-python", "sounddevice", "numpy",
)  # fmt: skip
"""Distributions whose presence decides what a board can run."""

# MIDR implementer and part, as Linux prints them. Source: arch/arm64/include/asm/cputype.h of Linux 6.12.
CORES = {
    (0x41, 0xC07): "Cortex-A7", (0x41, 0xD03): "Cortex-A53", (0x41, 0xD04): "Cortex-A35", (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57", (0x41, 0xD08): "Cortex-A72", (0x41, 0xD09): "Cortex-A73", (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76", (0x41, 0xD0C): "Neoverse-N1", (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1", (0x41, 0xD41): "Cortex-A78", (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD46): "Cortex-A510", (0x41, 0xD47): "Cortex-A710", (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C", (0x41, 0xD4D): "Cortex-A715", (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720", (0x4E, 0x003): "Denver 2", (0x4E, 0x004): "Carmel",
    (0x51, 0x804): "Kryo 4xx Gold", (0x51, 0x805): "Kryo 4xx Silver",
}  # fmt: skip

# Words of /proc/cpuinfo's Features (Arm) and flags (x86) to the words of a profile.
FEATURES = {
    "asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16",
    "sve": "sve", "sve2": "sve2", "sse4_1": "sse4_1", "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c",
    "avx512f": "avx512f", "avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni", "amx_int8": "amx_int8",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreGroup:
    """Equal cores, as the kernel sees them."""

    core: str
    """Name, or the numbers of an unknown design."""
    count: int
    max_clock_hz: float | None
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalZone:
    """A sensor under /sys/class/thermal."""

    type: str
    path: str
    temperature_c: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What the system says."""

    model: str
    """Of the device tree, or of the firmware (DMI); '' is unknown."""
    compatible: tuple[str, ...]
    architecture: str
    """aarch64, x86_64, armv7l; '' is unknown."""
    cores: tuple[CoreGroup, ...]
    """The fastest first."""
    memory_bytes: int | None
    """As Linux sees it: a little less than is installed."""
    thermal_zones: tuple[ThermalZone, ...]
    pci: tuple[str, ...]
    """``vendor:device`` in hex."""
    os: str
    python: str
    glibc: str
    runtimes: dict[str, str]
    """Version by distribution name."""
    unknown: tuple[str, ...]
    """What could not be found out, and why."""
    notes: tuple[str, ...] = ()
    """What stands in the way here, and what to do."""


@dataclass(slots=True)
class _Reader:
    root: Path
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, path: str) -> str | None:
        """A file's text without trailing NUL and white space; None where it is missing or not readable."""
        try:
            content = (self.root / path).read_bytes()[: 1 << 20]
        except (OSError, ValueError):
            return None
        return content.decode("utf-8", "replace").rstrip("\0\n ")

    def number(self, path: str) -> int | None:
        text = self.text(path)
        return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else None

    def names(self, path: str, pattern: str) -> list[str]:
        """Names in a folder, in natural order."""
        try:
            found = [name for name in os.listdir(self.root / path) if re.fullmatch(pattern, name)]  # noqa: PTH208 - names only
        except OSError:
            return []
        return sorted(
            found, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
        )


def read_board(root: Path = Path("/")) -> Board:
    """Ask the system below ``root``; ``/`` is this one. Never raises for what is missing."""
    reader = _Reader(root)
    live = root == Path("/")
    processors = _processors(reader)
    architecture = _architecture(processors, live=live)
    if not architecture:
        reader.unknown.append("instruction set: /proc/cpuinfo has neither 'flags' nor 'CPU architecture'")
    python, glibc, runtimes = _installed_here(reader) if live else _installed_there(reader)
    return Board(
        model=_model(reader),
        compatible=_compatible(reader),
        architecture=architecture,
        cores=_cores(reader, processors),
        memory_bytes=_memory(reader),
        thermal_zones=_thermal(reader),
        pci=_pci(reader),
        os=_os(reader),
        python=python,
        glibc=glibc,
        runtimes=runtimes,
        unknown=tuple(reader.unknown),
        notes=tuple(reader.notes),
    )


def _processors(reader: _Reader) -> list[dict[str, str]]:
    """Blocks of /proc/cpuinfo that describe a processor."""
    text = reader.text("proc/cpuinfo")
    if text is None:
        reader.unknown.append("cores: /proc/cpuinfo cannot be read")
        return []
    blocks = [dict(re.findall(r"^([^\n:]+?)\s*:[ \t]*(.*)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    return [block for block in blocks if "processor" in block]


def _architecture(processors: list[dict[str, str]], *, live: bool) -> str:
    first = processors[0] if processors else {}
    if "flags" in first:
        return "x86_64" if " lm " in f" {first['flags']} " else ""
    if "Features" in first:
        return "aarch64" if "asimd" in first["Features"].split() else "armv7l"
    machine = platform.machine() if live else ""
    return machine if machine in ("aarch64", "x86_64", "armv7l") else ""


def _cores(reader: _Reader, processors: list[dict[str, str]]) -> tuple[CoreGroup, ...]:
    groups: dict[tuple[str, float | None, tuple[str, ...]], int] = {}
    for block in processors:
        clock_khz = reader.number(f"sys/devices/system/cpu/cpu{block['processor']}/cpufreq/cpuinfo_max_freq")
        words = (block.get("flags") or block.get("Features", "")).split()
        features = tuple(dict.fromkeys(FEATURES[word] for word in words if word in FEATURES))
        key = (_core_name(block), None if clock_khz is None else clock_khz * 1000.0, features)
        groups[key] = groups.get(key, 0) + 1
    if any(clock is None for _, clock, _ in groups):
        reader.unknown.append(
            "highest clock: no cpufreq under /sys/devices/system/cpu (a virtual machine, or no governor)"
        )
    found = [
        CoreGroup(core=core, count=count, max_clock_hz=clock, features=features)
        for (core, clock, features), count in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: -(group.max_clock_hz or 0)))


def _core_name(block: dict[str, str]) -> str:
    numbers = [re.fullmatch(r"0x[0-9a-f]{1,4}", block.get(key, "")) for key in ("CPU implementer", "CPU part")]
    if all(numbers):
        implementer, part = (int(found.group(), 16) for found in numbers if found)
        return CORES.get((implementer, part), f"implementer 0x{implementer:02x} part 0x{part:03x}")
    return block.get("model name", "unknown").strip()


def _memory(reader: _Reader) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", reader.text("proc/meminfo") or "", re.MULTILINE)
    if match is None:
        reader.unknown.append("memory: /proc/meminfo has no MemTotal")
        return None
    return int(match.group(1)) * 1024


def _model(reader: _Reader) -> str:
    model = reader.text("proc/device-tree/model") or reader.text("sys/firmware/devicetree/base/model")
    if model:
        return model
    parts = [reader.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    found = " ".join(part for part in parts if part)
    if not found:
        reader.unknown.append("board: neither a device tree model nor DMI names (a virtual machine or a container)")
    return found


def _compatible(reader: _Reader) -> tuple[str, ...]:
    text = reader.text("proc/device-tree/compatible") or reader.text("sys/firmware/devicetree/base/compatible")
    return tuple(part for part in (text or "").split("\0") if part)


def _thermal(reader: _Reader) -> tuple[ThermalZone, ...]:
    zones = []
    for name in reader.names("sys/class/thermal", r"thermal_zone\d+"):
        base = f"sys/class/thermal/{name}"
        millidegrees = reader.number(f"{base}/temp")
        temperature = None if millidegrees is None else millidegrees / 1000
        zones.append(
            ThermalZone(type=reader.text(f"{base}/type") or "", path=f"/{base}/temp", temperature_c=temperature)
        )
    if not zones:
        reader.unknown.append("temperature: no zone under /sys/class/thermal")
    return tuple(zones)


def _pci(reader: _Reader) -> tuple[str, ...]:
    found = []
    for name in reader.names("sys/bus/pci/devices", r"[0-9a-f:.]+"):
        ids = [reader.text(f"sys/bus/pci/devices/{name}/{part}") for part in ("vendor", "device")]
        if all(ids):
            found.append(":".join((one or "").removeprefix("0x") for one in ids))
    return tuple(found)


def _os(reader: _Reader) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', reader.text("etc/os-release") or "", re.MULTILINE)
    if match is None:
        reader.unknown.append("operating system: /etc/os-release has no PRETTY_NAME")
        return ""
    return match.group(1)


def _installed_here(reader: _Reader) -> tuple[str, str, dict[str, str]]:
    if struct.calcsize("P") == 4:
        reader.notes.append(
            "this Python is a 32-bit program: there are no wheels of onnxruntime or ai-edge-litert for it. Install the "
            "64-bit system, or use tflite-runtime: pip install 'edgesdk[tflite-runtime]'"
        )
    name, version = platform.libc_ver()
    if name != "glibc":
        reader.unknown.append("glibc: this Python runs on another C library; wheels named manylinux do not install")
        version = ""
    return platform.python_version(), version, _versions(sys.path)


def _installed_there(reader: _Reader) -> tuple[str, str, dict[str, str]]:
    """The same of a recorded tree: Debian's package list, the link of /usr/bin/python3, folders of packages."""
    try:
        link = os.readlink(reader.root / "usr/bin/python3")  # noqa: PTH115 - the link's text, not where it leads
    except OSError:
        link = ""
    named = re.search(r"python(\d+\.\d+)$", link)
    python = named.group(1) if named else ""
    if not python:
        reader.unknown.append("Python: no /usr/bin/python3 in this tree that links to a version")
    status = reader.text("var/lib/dpkg/status") or ""
    match = re.search(r"^Package: libc6\n(?:.+\n)*?Version: (?:\d+:)?(\d+\.\d+)", status, re.MULTILINE)
    if match is None:
        reader.unknown.append("glibc: libc6 is not in /var/lib/dpkg/status of this tree")
    places = [
        str(reader.root / place)
        for place in ("usr/lib/python3/dist-packages", f"usr/local/lib/python{python}/dist-packages")
    ]
    if python and tuple(int(part) for part in python.split(".")[:2]) < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        reader.notes.append(f"Python {python} is older than {needed}, which edgesdk needs: see 'advice' of the profile")
    return python, match.group(1) if match else "", _versions(places)


def _versions(places: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in RUNTIMES:
        # By name, not all there are: reading the metadata of every installed package takes a Pi Zero seconds.
        first = next(iter(Distribution.discover(name=name, path=places)), None)
        if first is not None:
            found[name] = first.version
    return dict(sorted(found.items()))
