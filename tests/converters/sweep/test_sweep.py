from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from edgesdk.bundle import Bundle
from edgesdk.errors import ConversionError
from edgesdk_converters.sweep import run_sweep
from edgesdk_converters.sweep.cells import cells_of
from edgesdk_converters.sweep.file import read_sweep
from edgesdk_converters.sweep.local import core_shares
from edgesdk_converters.sweep.results import CellResult, Outcome, Results

Write = Callable[..., Path]
MAIN = "import sys; from edgesdk.cli import main; sys.exit(main())"


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".part") or path.parent.name == "work"]


def test_sweep__one_bad_cell_does_not_stop_the_rest_and_is_tried_again(sweep_file: Write) -> None:
    file = sweep_file(models=2, boards=1)
    (file.parent / "m0.onnx").write_bytes(b"no model at all")
    first = run_sweep(file)
    assert [result.status for result in first.results] == ["failed", "float-only"]
    assert first.failed[0].model == "m0"
    assert "m0.onnx" in first.failed[0].error
    good = first.results[1]
    with Bundle.open(first.folder / good.bundle) as bundle:
        bundle.verify()
    assert (first.folder / good.report).read_text("utf-8").startswith("<!DOCTYPE html>")
    before = stamps(first.folder)
    second = run_sweep(file)
    after = stamps(first.folder)
    assert second.resumed == 1
    assert after["m1.default.raspberry-pi-4.json"] == before["m1.default.raspberry-pi-4.json"]
    assert after["m0.default.raspberry-pi-4.json"] > before["m0.default.raspberry-pi-4.json"]
    assert leftovers(first.folder) == []


def test_results__half_written_outdated_or_without_its_bundle__is_done_again(sweep_file: Write) -> None:
    file = sweep_file(boards=1)
    cell = cells_of(read_sweep(file), file.parent)[0]
    with Results(file.parent / "results") as results:
        done = results.commit(cell, Outcome(status="float-only", bundle=b"bundle"))
        assert results.finished(cell) == done
        written = results.folder / "cells" / f"{cell.slug}.json"
        whole = written.read_bytes()
        for damaged in (whole[:40], b"", b"[]", whole.replace(b"sweep-cell/1", b"sweep-cell/2")):
            written.write_bytes(damaged)
            assert results.finished(cell) is None
        written.write_bytes(whole)
        assert results.finished(msgspec.structs.replace(cell, key="of other inputs")) is None
        assert results.finished(cell) == done
        (results.folder / done.bundle).unlink()
        assert results.finished(cell) is None


def test_sweep__interrupted__keeps_what_is_finished_and_nothing_half(sweep_file: Write) -> None:
    file = sweep_file(models=3, boards=1)
    command = [sys.executable, "-c", MAIN, "sweep", str(file), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cells = file.parent / "results" / "cells"
    deadline = time.monotonic() + 120
    while not (cells.is_dir() and list(cells.glob("*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped" in errors
    assert "of 3 cells are done and kept in " in errors
    assert "the same command does the other" in errors
    finished = list(cells.glob("*.json"))
    assert 1 <= len(finished) < 3
    assert all(json.loads(path.read_text())["status"] == "float-only" for path in finished)
    assert leftovers(file.parent) == []
    bundles = {path.stem for path in (file.parent / "results" / "bundles").iterdir()}
    assert bundles == {path.stem for path in finished}
    assert run_sweep(file).resumed == len(finished)


def test_sweep__killed__its_processes_end_too_and_the_next_run_tidies(sweep_file: Write) -> None:
    file = sweep_file(models=1, boards=1)
    process = subprocess.Popen([sys.executable, "-c", MAIN, "sweep", str(file)], stderr=subprocess.DEVNULL)
    work = file.parent / "results" / "work"
    deadline = time.monotonic() + 120
    while not (work.is_dir() and list(work.glob("*/log.txt"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = _children(process.pid)
    process.kill()
    process.wait()
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (file.parent / "results" / "bundles" / ".m0.edge.x.part").write_bytes(b"half")
    assert [result.status for result in run_sweep(file).results] == ["float-only"]
    assert leftovers(file.parent) == []


def test_sweep__killed_between_cells__does_only_what_is_left(sweep_file: Write) -> None:
    file = sweep_file(models=3, boards=1)
    command = [sys.executable, "-c", MAIN, "sweep", str(file), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cells = file.parent / "results" / "cells"
    deadline = time.monotonic() + 120
    while not (cells.is_dir() and list(cells.glob("*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = _children(process.pid)
    process.kill()
    process.wait()
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = stamps(file.parent / "results")
    assert 1 <= len(before) < 3
    sweep = run_sweep(file)
    assert sweep.resumed == len(before)
    assert [result.status for result in sweep.results] == ["float-only"] * 3
    after = stamps(sweep.folder)
    assert {name: after[name] for name in before} == before
    assert leftovers(file.parent) == []


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_sweep__a_second_one_into_the_same_folder__refused(sweep_file: Write) -> None:
    file = sweep_file(models=1, boards=1)
    with (
        Results(file.parent / "results"),
        pytest.raises(ConversionError, match=r"another sweep writes there\. Wait for it, or name another folder"),
    ):
        run_sweep(file)


def test_sweep__output_that_is_a_file__refused(sweep_file: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversionError, match=r"cannot be a folder of results: .*Name another with --output"):
        run_sweep(sweep_file(), output=tmp_path / "file")


def test_cells__key_follows_contents_not_places(sweep_file: Write, tmp_path: Path) -> None:
    def keys(file: Path) -> list[str]:
        return [cell.key for cell in cells_of(read_sweep(file), file.parent)]

    file = sweep_file(calibrated=True)
    before = keys(file)
    assert len(set(before)) == 2
    file.parent.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "sweep.yaml"
    assert keys(moved) == before
    (tmp_path / "elsewhere" / "samples" / "x.npy").rename(tmp_path / "elsewhere" / "samples" / "y.npy")
    assert not set(keys(moved)) & set(before)


def test_cells__spec_of_another_content_changes_the_key(sweep_file: Write) -> None:
    file = sweep_file(boards=1)
    sweep = yaml.safe_load(file.read_text())
    sweep["models"]["m0"]["spec"] = "model.yaml"
    file.write_text(yaml.safe_dump(sweep))
    spec = file.parent / "model.yaml"
    spec.write_text("task: raw\n")
    first = cells_of(read_sweep(file), file.parent)[0]
    spec.write_text("task: raw\nlicence: MIT\n")
    second = cells_of(read_sweep(file), file.parent)[0]
    assert first.key != second.key
    assert first.slug == second.slug == "m0.default.raspberry-pi-4"


def test_results__failed_without_files_removes_those_of_other_inputs(sweep_file: Write) -> None:
    file = sweep_file(boards=1)
    cell = cells_of(read_sweep(file), file.parent)[0]
    with Results(file.parent / "results") as results:
        good = results.commit(cell, Outcome(status="ok", bundle=b"bundle", report=b"report", seconds=1.234))
        assert good == CellResult(
            key=cell.key,
            model="m0",
            recipe="default",
            board="raspberry-pi-4",
            status="ok",
            seconds=1.23,
            bundle="bundles/m0.default.raspberry-pi-4.edge",
            report="reports/m0.default.raspberry-pi-4.html",
        )
        assert results.finished(cell) == good
        results.commit(cell, Outcome(status="failed", error="it broke"))
        assert results.finished(cell) is None
        assert not (results.folder / good.bundle).exists()


@pytest.mark.parametrize(("jobs", "cells"), [(0, 100), (1, 5), (3, 2), (64, 64)])
def test_core_shares__every_core_once(jobs: int, cells: int) -> None:
    cores = os.sched_getaffinity(0)
    shares = core_shares(jobs, cells)
    assert len(shares) == min(jobs or len(cores), cells)
    assert all(shares)
    if len(shares) <= len(cores):
        used = [core for share in shares for core in share]
        assert sorted(used) == sorted(cores)
