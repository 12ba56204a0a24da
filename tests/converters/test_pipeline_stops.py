"""What a conversion leaves behind when it stops: wherever that is, nothing half-written, and nothing of its own in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk.bundle import Bundle
from edgesdk.errors import BundleError
from edgesdk_converters.pipeline import Conversion, convert

STEPS = (
    "load_profile",
    "read_source",
    "formats_for",
    "demand_recipes",
    "open_family",
    "media_of",
    "build_contract",
    "make_task",
    "gather",
    "Judge",
    "choose",
    "calibration_findings",
    "_plans",
    "Manifest",
    "Measurements",
    "examined",
    "write_bundle",
)
"""Everything that the pipeline calls by name, in order."""
METHODS = (
    "edgesdk_converters.calibration.sets.CalibrationSet.from_folder",
    "edgesdk_converters.quantize.quantizer.Quantizer.plan",
    "edgesdk_converters.quantize.quantizer.Quantizer.apply",
    "edgesdk_converters.variants.graph.lower",
    "edgesdk_converters.variants.graph.halve",
    "edgesdk_converters.guard.judge.Judge.compare",
    "edgesdk_converters.guard.judge.measure",
    "edgesdk_converters.guard.judge.peak_memory",
    "edgesdk_converters.examining.make_examples",
    "edgesdk_converters.examining.sensitivity",
)
"""What is called inside of these."""


class StoppedError(Exception):
    """Nobody catches it."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to write to, and an empty temporary one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def run(small: onnx.ModelProto, tmp_path: Path, folder: Path, calibration: Path) -> Callable[..., Conversion]:
    onnx.save(small, tmp_path / "model.onnx")

    def _run(**more: Any) -> Conversion:
        arguments: dict[str, Any] = {
            "device": "raspberry-pi-4",
            "calibration": calibration,
            "output": folder / "out.edge",
            "report": folder / "out.html",
            "optimize": "size",
            **more,
        }
        return convert(tmp_path / "model.onnx", **arguments)

    return _run


def left(folder: Path) -> list[str]:
    """Files in the folder, and in the temporary one; ONNX Runtime puts a mark of its own there, once per user."""
    places = (folder, folder.parent / "temporary")
    return sorted(path.name for place in places for path in place.rglob("*") if path.name != ".ses")


def stop_at(monkeypatch: pytest.MonkeyPatch, target: str, error: type[BaseException]) -> list[str]:
    """Make ``target`` raise; returns where it was called."""
    called: list[str] = []

    def stop(*_: Any, **__: Any) -> None:
        called.append(target)
        raise error

    monkeypatch.setattr(target, stop)
    return called


@pytest.mark.parametrize(
    ("step", "error"),
    [
        *((f"edgesdk_converters.pipeline.{name}", KeyboardInterrupt) for name in STEPS),
        *((name, error) for name in METHODS for error in (KeyboardInterrupt, StoppedError)),
    ],
)
def test_convert__stopped_anywhere_leaves_nothing(
    run: Callable[..., Conversion],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[BaseException],
) -> None:
    called = stop_at(monkeypatch, step, error)
    with pytest.raises(error):
        run(formats=None if step.endswith("lower") else ("onnx",))
    assert called
    assert left(folder) == []


def test_convert__stopped_while_the_bundle_is_written_leaves_the_old_one(
    run: Callable[..., Conversion], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"out.edge", "out.html"}
    written: list[str] = []
    real = zipfile.ZipFile.writestr

    def stop(self: zipfile.ZipFile, info: Any, data: Any, *more: Any) -> None:
        written.append(str(info))
        if len(written) > 2:
            raise KeyboardInterrupt
        real(self, info, data, *more)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", stop)
        with pytest.raises(KeyboardInterrupt):
            run(version=2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_convert__disk_full_is_an_error_and_leaves_the_old_one(
    run: Callable[..., Conversion], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(
        BundleError, match=r"cannot be written: No space left on device\. Check the folder and the free"
    ):
        run()
    assert left(folder) == []


def test_convert__stopped_while_the_report_is_written_leaves_no_half_report(
    run: Callable[..., Conversion], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        run(report=folder / "out.json")
    # Neither: the bundle is synced the same way.
    assert left(folder) == []
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr("edgesdk_converters.report.write.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            run(report=folder / "out.json")
    with Bundle.open(folder / "out.edge") as bundle:
        bundle.verify()
    assert [path.name for path in folder.iterdir()] == ["out.edge"]


@pytest.mark.parametrize("pictures", [False, True], ids=["arrays", "pictures"])
def test_convert__twice_makes_the_same_bytes_in_both_formats(
    run: Callable[..., Conversion], tmp_path: Path, folder: Path, pictures: bool
) -> None:
    more: dict[str, Any] = {"recipe": ["auto", "w8", "w8a16"], "allow": "to see them all", "name": "same"}
    if pictures:
        cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
        rng = np.random.default_rng(3)
        (tmp_path / "pictures").mkdir()
        for number in range(30):
            cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
        more["calibration"] = tmp_path / "pictures"
    found = []
    for name in ("a", "b"):
        done = run(output=folder / f"{name}.edge", report=folder / f"{name}.json", **more)
        with Bundle.open(done.bundle) as bundle:
            bundle.verify()
            found.append({file: bundle.read(file) for file in bundle.manifest.files} | {"id": bundle.identity.encode()})
    assert found[0] == found[1]
    assert {file for file in found[0] if "int8" in file} == {"model.int8.onnx", "model.int8.tflite"}


_PROCESS = """
import hashlib, sys
from pathlib import Path
from edgesdk.bundle import Bundle
from edgesdk_converters.guard import Budget
from edgesdk_converters.pipeline import convert

model, calibration, output = map(Path, sys.argv[1:])
# A budget that the simple plans miss: the search ranks nodes and mixes precisions.
done = convert(model, device="raspberry-pi-4", calibration=calibration, output=output, optimize="size",
               budget=Budget(min_snr_db=45), allow="whatever comes closest", name="same")
with Bundle.open(done.bundle) as bundle:
    for name in sorted(bundle.manifest.files):
        print(name, hashlib.sha256(bundle.read(name)).hexdigest())
    print(bundle.identity)
"""


def test_convert__another_process_makes_the_same_bytes(
    small: onnx.ModelProto, tmp_path: Path, calibration: Path
) -> None:
    # Sets of text are in another order with every hash seed: nothing may hang on it.
    onnx.save(small, tmp_path / "model.onnx")
    found = []
    for seed in ("1", "2"):
        arguments = [tmp_path / "model.onnx", calibration, tmp_path / f"{seed}.edge"]
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, *map(str, arguments)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(done.stdout)
    assert found[0] == found[1]
    assert "model.int8.tflite" in found[0]


_CLI = "import sys; from edgesdk.cli.main import main; sys.exit(main(sys.argv[1:]))"


def test_convert__ctrl_c_in_the_terminal_leaves_nothing(
    small: onnx.ModelProto, folder: Path, tmp_path: Path, calibration: Path
) -> None:
    onnx.save(small, tmp_path / "model.onnx")
    output = folder / "out.edge"
    command = [sys.executable, "-c", _CLI, "convert", str(tmp_path / "model.onnx"), "--device", "raspberry-pi-4"]
    command += ["--calibration", str(calibration), "--output", str(output), "--report", str(folder / "out.html")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(folder.parent / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "everything int8" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate()
    assert "everything int8" in said[-1], said
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert left(folder) == []
