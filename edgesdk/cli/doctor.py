"""`edgesdk doctor`: what this board has, what is missing, and the exact line that fixes it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgesdk.cli.main import Command

if TYPE_CHECKING:
    from edgesdk.backends.api import Backend

Status = Literal["ok", "optional", "missing", "warning"]
_SMALL_DISK_BYTES = 512 * 1024 * 1024
"""Below this, the outbox (256 MiB by default) and the caches get tight."""
_SMALL_MEMORY_BYTES = 128 * 1024 * 1024
"""onnxruntime needs some 50 MB before the first weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    area: str
    status: Status
    """``missing``: something is wrong until it is installed; ``optional``: not there, and needed only for what the line
    names; ``warning``: works, but not well."""
    found: str
    fix: str = ""
    """The command or the step; empty where nothing is to be done."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Look, and print; exit 1 where no backend can run a model."""
    findings = list(examine())
    ready = any(finding.status == "ok" for finding in findings if finding.area.startswith("backend "))
    if options.json:
        print(json.dumps({"ok": ready, "findings": [asdict(finding) for finding in findings]}, indent=1))
        return 0 if ready else 1
    width = max(len(finding.area) for finding in findings)
    for finding in findings:
        print(f"{finding.status:8}  {finding.area:{width}}  {finding.found}")
        if finding.fix:
            print(f"{'':8}  {'':{width}}  -> {finding.fix}")
    if not ready:
        print("nothing here can run a model: install a backend by one of the lines above", file=sys.stderr)
    return 0 if ready else 1


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it matters."""
    yield python_finding(sys.version_info[:3])
    yield _system()
    yield memory_finding(Path("/proc/meminfo"))
    yield _profile()
    yield from backend_findings(_backends())
    yield package_finding("pictures and video", "cv2", "opencv-python-headless", "vision")
    yield from camera_findings(Path("/dev"))
    yield _sound()
    yield package_finding("demo's broker", "iotcore", "iotcore", "broker", imports=False)
    yield _converters()
    yield disk_finding(Path.cwd(), "disk (this folder)")
    yield _cache()


def python_finding(version: tuple[int, int, int]) -> Finding:
    """The interpreter, against the versions that edgesdk is tested on."""
    found = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version < (3, 10):
        return Finding(
            area="Python", status="warning", found=found, fix="use Python 3.10 or newer: python3.11 -m venv env"
        )
    return Finding(area="Python", status="ok", found=found)


def _system() -> Finding:
    libc, version = platform.libc_ver()
    found = f"{platform.machine()}, {platform.system()} {platform.release()}, {libc or 'no glibc'} {version}".rstrip()
    number = tuple(int(part) for part in version.split(".") if part.isdigit())
    if libc != "glibc" or number < (2, 28):
        fix = "wheels of the runtimes need glibc 2.28: Debian 10, Ubuntu 20.04 or newer"
        return Finding(area="system", status="warning", found=found, fix=fix)
    return Finding(area="system", status="ok", found=found)


def memory_finding(meminfo: Path) -> Finding:
    """Memory that programs can still get, from /proc/meminfo."""
    try:
        pairs = (line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        sizes = {name: int(value.split()[0]) * 1024 for name, value in pairs if value.split()[:1]}
        total, free = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, KeyError, ValueError) as error:
        return Finding(area="memory", status="warning", found=f"not known: {meminfo}: {error}")
    found = f"{free / 2**20:.0f} MiB free of {total / 2**20:.0f} MiB"
    if free < _SMALL_MEMORY_BYTES:
        return Finding(area="memory", status="warning", found=found, fix="end other programs, or add swap in zram")
    return Finding(area="memory", status="ok", found=found)


def _profile() -> Finding:
    from edgesdk.errors import EdgeSdkError
    from edgesdk.profiles import detect

    try:
        detection = detect()
    except EdgeSdkError as error:
        return Finding(area="profile", status="warning", found=str(error), fix="edgesdk profile validate FILE")
    found = f"{detection.profile_id}: {'; '.join(detection.reasons)}"
    if not detection.exact:
        fix = "to tune it for this board: edgesdk profile detect --output my-board.yaml"
        return Finding(area="profile", status="ok", found=found, fix=fix)
    return Finding(area="profile", status="ok", found=found)


def _backends() -> Iterator[Backend]:
    from edgesdk import registry
    from edgesdk.backends import get_backend

    # The fake one runs no models; it is always there and would hide that nothing else is.
    return (get_backend(name) for name in sorted(registry.plugins(registry.BACKENDS)) if name != "fake")


def backend_findings(backends: Iterable[Backend]) -> Iterator[Finding]:
    """Each inference runtime, really imported. One is enough: beside one that works, the others are optional."""
    found = [(backend, backend.availability()) for backend in backends]
    absent: Status = "optional" if any(there.available for _, there in found) else "missing"
    for backend, there in found:
        area = f"backend {backend.name}"
        if there.available:
            formats = ", ".join(sorted(backend.formats))
            yield Finding(area=area, status="ok", found=f"{there.runtime}, runs {formats}")
        else:
            # A runtime that is named in spite of not working is there, but broken.
            status: Status = "missing" if there.runtime else absent
            yield Finding(area=area, status=status, found=there.reason, fix=there.fix)


def package_finding(area: str, module: str, distribution: str, extra: str, *, imports: bool = True) -> Finding:
    """An optional package: whether it imports, and its version. One that is there but does not import is ``missing``.

    Args:
        area: What it is for.
        module: Name to import.
        distribution: Name to look its version up by.
        extra: Extra of edgesdk that installs it.
        imports: Really import it; else only look for it.
    """
    import importlib.util
    from importlib.metadata import PackageNotFoundError, version

    fix = f"pip install 'edgesdk[{extra}]'"
    absent = Finding(
        area=area, status="optional", found=f"{distribution} is not installed; needed only for: {area}", fix=fix
    )
    try:
        if imports:
            loaded = importlib.import_module(module)
        elif importlib.util.find_spec(module) is None:
            return absent
    except ModuleNotFoundError as error:
        if error.name == module:
            return absent
        return Finding(area=area, status="missing", found=f"{module} does not import: {error}", fix=fix)
    except (ImportError, OSError) as error:  # a shared library of the system is missing, or another one's version
        return Finding(area=area, status="missing", found=f"{module} does not import: {error}", fix=fix)
    try:
        number = version(distribution)
    except PackageNotFoundError:  # from the system's packages, under another name
        number = str(getattr(loaded, "__version__", "of unknown version")) if imports else "of unknown version"
    return Finding(area=area, status="ok", found=f"{module} {number}")


def camera_findings(folder: Path) -> Iterator[Finding]:
    """Video devices, and whether we may open them."""
    from edgesdk.sources.v4l2 import video_nodes

    nodes = video_nodes(folder)
    if not nodes:
        fix = (
            "plug one in (Raspberry Pi camera module: sudo apt install libcamera-tools libcamera-v4l2, "
            "start edgesdk by libcamerify; container: --device /dev/video0)"
        )
        yield Finding(area="camera", status="optional", found=f"no {folder}/video*", fix=fix)
    for node in nodes:
        if os.access(node, os.R_OK | os.W_OK):
            yield Finding(area="camera", status="ok", found=str(node))
        else:
            fix = "sudo usermod -aG video $USER, then log in again"
            yield Finding(area="camera", status="warning", found=f"{node} may not be opened", fix=fix)


def _sound() -> Finding:
    finding = package_finding("microphone", "sounddevice", "sounddevice", "speech")
    if finding.status == "missing" and "PortAudio" in finding.found:
        return Finding(
            area="microphone",
            status="optional",  # `edgesdk[all]` brings sounddevice to boards that hear nothing
            found="sounddevice is installed, but the system's PortAudio library is not",
            fix="sudo apt install libportaudio2",
        )
    if finding.status != "ok":
        return finding
    return _input_devices(finding.found)


def _input_devices(package: str) -> Finding:
    import sounddevice

    area = "microphone"
    try:
        names = [str(device["name"]) for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
    except sounddevice.PortAudioError as error:
        return Finding(area=area, status="warning", found=f"{package}; {error}", fix="check: arecord -l")
    if not names:
        return Finding(
            area=area, status="optional", found=f"{package}; no input device", fix="plug one in; check: arecord -l"
        )
    return Finding(area=area, status="ok", found=f"{package}; {', '.join(names[:5])}")


def _converters() -> Finding:
    import importlib.util

    if importlib.util.find_spec("edgesdk_converters") is None:
        found = "edgesdk-converters is not installed; a board does not need it"
        return Finding(area="converters", status="ok", found=found)
    return Finding(area="converters", status="ok", found="edgesdk-converters is installed")


def disk_finding(folder: Path, area: str, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage) -> Finding:
    """Free space where ``folder`` lies or will lie.

    Args:
        folder: May not exist yet.
        area: Its line in the report.
        usage: Total, used and free bytes of a folder.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = usage(existing)[2]
    found = f"{free / 2**20:.0f} MiB free at {folder}"
    if not os.access(existing, os.W_OK):
        fix = f"sudo chown $USER {existing}, or work in another folder"
        return Finding(area=area, status="warning", found=f"{found}, but it cannot be written", fix=fix)
    if free < _SMALL_DISK_BYTES:
        fix = "free some space: sudo apt clean; pip cache purge"
        return Finding(area=area, status="warning", found=found, fix=fix)
    return Finding(area=area, status="ok", found=found)


def _cache() -> Finding:
    from edgesdk.backends.cache import cache_dir

    return disk_finding(cache_dir(), "disk (cache)")


COMMAND = Command(help="what this board has, what is missing, the line that fixes it", configure=configure, run=run)
