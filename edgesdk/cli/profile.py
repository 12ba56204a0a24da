"""``edgesdk profile``: the boards that edgesdk knows, and the one that this is."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgesdk.cli.main import Command
from edgesdk.errors import EdgeSdkError, ProfileError


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        found = verbs.add_parser(name, help=text, description=text)
        found.set_defaults(verb_run=run)
        return found

    listing = verb("list", _list, "All boards in one table.")
    showing = verb("show", _show, "One board, each number with its source.")
    showing.add_argument("id", metavar="ID", help="a profile's id, or its file")
    checking = verb("validate", _validate, "Check profile files; exit 1 and every problem if something is wrong.")
    checking.add_argument("files", metavar="FILE", nargs="+", type=Path)
    detecting = verb("detect", _detect, "Which profile fits this board, why, and what could not be found out.")
    detecting.add_argument("--output", metavar="FILE", type=Path, help="write a profile to start from")
    detecting.add_argument("--force", action="store_true", help="overwrite the file of --output")
    detecting.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="a recorded tree of another board"
    )
    for one in (listing, showing, checking, detecting):
        one.add_argument("--json", action="store_true", help="plain data on stdout")
    verb("schema", _schema, "JSON Schema of the profile files, for editors.")


def _run(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = options.verb_run
    return run(options)


def _list(options: argparse.Namespace) -> int:
    from edgesdk.profiles import load_profile, profile_ids
    from edgesdk.profiles.show import plain
    from edgesdk.schema.units import SIZE

    profiles = [load_profile(one) for one in profile_ids()]
    if options.json:
        print(json.dumps([plain(profile) for profile in profiles], indent=2))
        return 0
    rows: list[Sequence[str]] = [("ID", "BOARD", "CORES", "MEMORY", "ACCELERATOR", "PYTHON", "BACKENDS")]
    for one in profiles:
        cores = " + ".join(f"{cluster.count}x {cluster.core.split(' (')[0]}" for cluster in one.cpu.clusters)
        memory = SIZE.format(one.memory.size_bytes) if one.memory.size_bytes else "-"
        names = ", ".join(accelerator.name.split(",")[0] for accelerator in one.accelerators)
        backends = ", ".join(dict.fromkeys(backend.name for backend in one.backends))
        rows.append((one.id, one.name, cores or "-", memory, names or "-", one.software.python or "-", backends))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _show(options: argparse.Namespace) -> int:
    from edgesdk.profiles import read_profile
    from edgesdk.profiles.show import lines, plain

    loaded = read_profile(options.id)
    if options.json:
        files = [str(file) for file in loaded.files]
        print(json.dumps({**plain(loaded.profile), "files": files, "number_sources": loaded.sources}, indent=2))
    else:
        print("\n".join(lines(loaded)))
    return 0


def _validate(options: argparse.Namespace) -> int:
    from edgesdk.profiles import read_profile

    results: list[dict[str, Any]] = []
    for file in options.files:
        try:
            loaded = read_profile(Path(file))
            chain = [str(one) for one in loaded.files]
            results.append({"file": str(file), "ok": True, "id": loaded.profile.id, "files": chain, "problems": []})
        except EdgeSdkError as error:
            problems = error.problems if isinstance(error, ProfileError) else (str(error),)
            results.append({"file": str(file), "ok": False, "problems": list(problems)})
    if options.json:
        print(json.dumps(results, indent=2))
    for result in results:
        if not options.json and result["ok"]:
            print(f"{result['file']}: ok, profile {result['id']}")
        for problem in result["problems"]:
            print(problem, file=sys.stderr)
    return 0 if all(result["ok"] for result in results) else 1


def _detect(options: argparse.Namespace) -> int:
    from edgesdk.profiles import detect

    if not options.root.is_dir():
        raise ProfileError([f"{options.root}: there is no such folder. Give a folder that holds proc, sys and etc."])
    found = detect(options.root)
    written = _write(found, options.output, force=options.force) if options.output else None
    if options.json:
        print(json.dumps({**found.to_json(), "written": None if written is None else str(written)}, indent=2))
        return 0
    board = found.board
    print(
        f"profile   {found.profile_id}" + ("" if found.exact else "  (generic: this board has no profile of its own)")
    )
    for reason in found.reasons:
        print(f"  because   {reason}")
    for difference in found.differences:
        print(f"  differs   {difference}")
    print(f"board     {board.model or '-'}")
    for group in board.cores:
        clock = f" at {group.max_clock_hz / 1e9:g} GHz" if group.max_clock_hz else ""
        print(f"cores     {group.count}x {group.core}{clock}  {' '.join(group.features)}".rstrip())
    if board.memory_bytes:
        print(f"memory    {board.memory_bytes / 2**30:.2f} GiB")
    for zone in board.thermal_zones:
        temperature = "-" if zone.temperature_c is None else f"{zone.temperature_c:.1f} C"
        print(f"sensor    {zone.type or '-'}  {temperature}  {zone.path}")
    print(f"system    {board.os or '-'}, Python {board.python or '-'}, glibc {board.glibc or '-'}")
    print("runtimes  " + (", ".join(f"{name} {version}" for name, version in board.runtimes.items()) or "none"))
    for unknown in found.unknown:
        print(f"unknown   {unknown}")
    for note in board.notes:
        print(f"note      {note}")
    if written is not None:
        print(f"written   {written}: fill in what is missing, then edgesdk profile validate {written}")
    return 0


def _write(found: Any, output: Path, *, force: bool) -> Path:
    from edgesdk.profiles import read_profile
    from edgesdk.profiles.detect import profile_text

    wanted = re.sub(r"[^a-z0-9]+", "-", output.stem.lower()).strip("-") or "my-board"
    if wanted != output.stem or output.suffix != ".yaml":
        raise ProfileError(
            [
                f"{output}: a profile's file is its id and '.yaml', lower-case with dashes. Write --output {output.with_name(wanted)}.yaml"
            ]
        )
    if wanted == found.profile_id:
        raise ProfileError(
            [
                f"{output}: '{wanted}' is the profile that the new one extends. Choose another name, such as my-{wanted}.yaml"
            ]
        )
    if output.exists() and not force:
        raise ProfileError([f"{output}: the file exists. Add --force to overwrite it."])
    partial = output.with_name(f".{wanted}.partial")
    try:
        partial.write_text(profile_text(found, wanted), encoding="utf-8")
        os.replace(partial, output)  # noqa: PTH105 - Path.replace is the same call; this one is known to be atomic
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        fix = "Free some space, or name another" if error.errno == errno.ENOSPC else "Make the folder, or name another"
        raise ProfileError([f"{output}: cannot be written: {error.strerror or error}. {fix}."]) from error
    read_profile(output)
    return output


def _schema(options: argparse.Namespace) -> int:
    from edgesdk.profiles import profile_json_schema

    del options
    print(json.dumps(profile_json_schema(), indent=2))
    return 0


COMMAND = Command(help="boards: list, show ID, validate FILE, detect, schema", configure=_configure, run=_run)
