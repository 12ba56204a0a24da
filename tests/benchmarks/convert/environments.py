"""Environments of the peers: made on demand, pinned, kept under the benchmark's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEERS = Path(__file__).parent / "peers"
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool that is compared with, and how to get it."""

    name: str
    script: str
    """In `peers/`."""
    requirements: tuple[str, ...] = ()
    """Pinned; empty runs in this environment."""
    newest: bool = False
    """Whether it wants Python 3.12 or newer."""


ORT = Peer(name="onnxruntime.quantization", script="ort_static.py")
NNCF = Peer(
    name="NNCF 3.4.0", script="nncf_ptq.py", requirements=("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0")
)
LITERT = Peer(
    name="litert-quantizer 0.11.0",
    script="litert_static.py",
    requirements=("litert-quantizer==0.11.0", "ai-edge-litert==2.3.0"),
)
ONNX2TF = Peer(name="onnx2tf 2.6.9", script="onnx2tf_int8.py", requirements=("onnx2tf==2.6.9",), newest=True)


class PeerError(Exception):
    """The peer could not be installed, or failed; the text is what it said."""


def cache() -> Path:
    """Where data, environments and results stay between runs: ``EDGESDK_BENCH_CACHE``, else `build/bench-convert`."""
    given = os.environ.get("EDGESDK_BENCH_CACHE")
    return Path(given) if given else Path(__file__).resolve().parents[3] / "build" / "bench-convert"


def python_of(peer: Peer) -> Path:
    """The interpreter that runs a peer.

    Raises:
        PeerError: There is no Python for it, or pip fails.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder = cache() / "venvs" / peer.requirements[0].replace("==", "-")
    if not (folder / "ready").is_file():
        base = _newest_python() if peer.newest else sys.executable
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [base, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.requirements],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise PeerError(f"cannot be installed here: {_last(done.stderr)}")
        (folder / "ready").touch()
    return folder / "bin" / "python"


def run(peer: Peer, folder: Path, model: Path, feeds: dict[str, NDArray[Any]], **more: str) -> dict[str, Any]:
    """What the peer's script answered, with paths of the files that it wrote into ``folder``.

    Args:
        peer: Which.
        folder: Is emptied.
        model: Float ONNX, static shapes.
        feeds: Calibration samples by input name, with a leading sample axis.
        more: Further entries of the job.

    Raises:
        PeerError: It cannot be installed, or failed; with its own last words.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = python_of(peer)
    np.savez(folder / "calibration.npz", **feeds)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    job = {"model": str(model), "calibration": str(folder / "calibration.npz"), "output": str(folder), **more}
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=folder, delete=False) as file:
        json.dump({**job, "timeout_s": TIMEOUT_S}, file)
    try:
        done = subprocess.run(
            [str(python), "-W", "ignore", str(PEERS / peer.script), file.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"did not end within {2 * TIMEOUT_S} s") from None
    if done.returncode:
        raise PeerError(_last(done.stderr) or f"ended with {done.returncode}")
    (folder / "calibration.npz").unlink()
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _newest_python() -> str:
    found = [os.environ.get("EDGESDK_BENCH_PYTHON312", ""), sys.executable if sys.version_info >= (3, 12) else ""]
    found += [shutil.which(name) or "" for name in ("python3.13", "python3.12")]
    found += [str(path) for path in sorted((Path.home() / ".pyenv" / "versions").glob("3.1[23].*/bin/python"))]
    for candidate in found:
        if candidate and subprocess.run([candidate, "-c", "import venv"], check=False).returncode == 0:
            return candidate
    raise PeerError("wants Python 3.12 or newer, none was found. Name one: EDGESDK_BENCH_PYTHON312=/path/to/python3.12")


def _last(text: str) -> str:
    """The line of a traceback that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "Error: " in line or "Exception: " in line]
    return (telling or lines or [""])[-1][:240]
