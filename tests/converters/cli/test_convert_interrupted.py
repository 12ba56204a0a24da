"""Ctrl-C in a real process, at many moments: no half-written file, no file of the source changed, exit code 130."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesdk.bundle import Bundle

MAIN = "import sys; from edgesdk.cli import main; sys.exit(main())"
STEPS = (
    "reading",
    "activation ranges",
    "looking at the calibration samples",
    "report: what each node costs",
    "report: examples",
)


@pytest.fixture
def command(tmp_path: Path, small: onnx.ModelProto) -> list[str]:
    onnx.save(small, tmp_path / "m.onnx")
    (tmp_path / "samples").mkdir()
    values = np.random.default_rng(0).normal(size=(60, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "samples" / "x.npy", values)
    (tmp_path / "out").mkdir()
    more = ["--calibration", str(tmp_path / "samples"), "--output", str(tmp_path / "out" / "m.edge")]
    more += ["--report", str(tmp_path / "out" / "m.html"), "--optimize", "size", "--format", "onnx"]
    return [sys.executable, "-c", MAIN, "convert", str(tmp_path / "m.onnx"), "--device", "raspberry-pi-4", *more]


def whole(folder: Path) -> list[str]:
    """What lies there; the bundle has to be one that can be used."""
    names = sorted(file.name for file in folder.iterdir())
    assert set(names) <= {"m.edge", "m.html"}, names
    if "m.edge" in names:
        with Bundle.open(folder / "m.edge") as bundle:
            bundle.verify()
    if "m.html" in names:
        assert (folder / "m.html").read_text("utf-8").endswith("</html>\n")
    return names


@pytest.mark.parametrize("step", STEPS)
def test_convert__interrupted_at_a_step(command: list[str], tmp_path: Path, step: str) -> None:
    before = (tmp_path / "m.onnx").read_bytes()
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            said.append(text)
            if step in text:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.readlines()
        assert process.wait(60) == 130, said
    assert said[-1] == "edgesdk convert: stopped\n"
    assert not any("Traceback" in text for text in said), said
    # The bundle comes before the report, each of them whole or not at all.
    assert whole(tmp_path / "out") in ([], ["m.edge"])
    assert (tmp_path / "m.onnx").read_bytes() == before


@pytest.mark.slow
def test_convert__interrupted_at_any_moment(command: list[str], tmp_path: Path) -> None:
    begin = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    took = time.monotonic() - begin
    rng = np.random.default_rng(0)
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    for moment in np.linspace(0.5, 1.05, 5) + rng.uniform(-0.05, 0.05, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(max(0.0, float(moment) * took))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in {0, 130, -signal.SIGINT}, errors
        whole(tmp_path / "out")


def test_convert__an_existing_bundle_survives_an_interruption(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "m.edge").write_bytes(b"the one before")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for text in process.stderr:
        if "activation ranges" in text:
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=60)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["m.edge"]
    assert (tmp_path / "out" / "m.edge").read_bytes() == b"the one before"


def test_convert__on_a_terminal__draws_bars_and_cleans_up(command: list[str], tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while block := os.read(leader, 65536):
                drawn.append(block)
        except OSError:  # the other end has closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process.communicate(timeout=120)
    reader.join()
    os.close(leader)
    text = b"".join(drawn).decode()
    assert process.returncode == 0, text
    assert "activation ranges [" in text  # how far it gets between two drawings depends on the machine
    assert text.endswith("\r\x1b[2K")
