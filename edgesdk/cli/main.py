"""Finds commands by entry point, runs one, turns errors into exit codes: 0 ok, 1 failed, 2 usage."""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

import edgesdk
from edgesdk import registry
from edgesdk.errors import EdgeSdkError, PluginError

CONVERTER_COMMANDS = ("convert", "models", "report", "sweep")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
CONVERTERS_PIP_LINE = "pip install edgesdk-converters   (in a checkout: pip install -e ./converters)"

_HINTS = {
    errno.ENOSPC: "Free some space, or name a file on another disk. `edgesdk doctor` shows what is free.",
    errno.EDQUOT: "Free some space, or name a file on another disk.",
    errno.EACCES: "Look at its permissions with ls -l, or name another.",
    errno.EROFS: "Name a file on a disk that can be written.",
    errno.EISDIR: "Name a file.",
    errno.ENOTDIR: "Name a path of folders that are folders.",
    errno.EEXIST: "Name another.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command; what its module binds to ``COMMAND``. The module imports nothing heavy at its top."""

    help: str
    """One line."""
    configure: Callable[[argparse.ArgumentParser], None]
    """Adds its arguments."""
    run: Callable[[argparse.Namespace], int]
    """Does it; returns the exit code. Data to stdout, everything else to stderr."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    level = os.environ.get("EDGESDK_LOG", "WARNING").upper()
    if level not in LOG_LEVELS:
        print(f"edgesdk: error: EDGESDK_LOG is {level!r}, expected one of {', '.join(LOG_LEVELS)}.", file=sys.stderr)
        return 2
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    warnings.showwarning = _show_warning
    known = registry.plugins(registry.COMMANDS)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"edgesdk {edgesdk.__version__}")
        return 0
    name = arguments[0]
    if name not in known:
        print(f"edgesdk: error: {_unknown(name)}", file=sys.stderr)
        return 2
    debug = bool(os.environ.get("EDGESDK_DEBUG"))
    try:
        command: Command = registry.load_plugin(registry.COMMANDS, name)
        parser = argparse.ArgumentParser(prog=f"edgesdk {name}", description=command.help)
        command.configure(parser)
        try:
            options = parser.parse_args(arguments[1:])
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 2
        return command.run(options)
    except EdgeSdkError as error:
        if debug:
            raise
        print(f"edgesdk {name}: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`edgesdk ... | head`): not an error of ours, and nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # The file system's own words, where no command knows better ones: disk full, a folder that may not be written.
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno or 0, "EDGESDK_DEBUG=1 shows where it happened.")
        print(f"edgesdk {name}: error: {where}{error.strerror or error}. {hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"edgesdk {name}: stopped", file=sys.stderr)
        return 130


def _overview() -> str:
    known = registry.plugins(registry.COMMANDS)
    lines = ["usage: edgesdk COMMAND ...", "", "commands:"]
    for name in sorted(known):
        try:
            command: Command = registry.load_plugin(registry.COMMANDS, name)
            lines.append(f"  {name:10} {command.help}")
        except PluginError as error:  # one broken distribution must not hide the other commands
            lines.append(f"  {name:10} broken: {error}")
    missing = [name for name in CONVERTER_COMMANDS if name not in known]
    lines += [f"  {name:10} not installed: {CONVERTERS_PIP_LINE}" for name in missing]
    lines += ["", "edgesdk COMMAND --help tells more; EDGESDK_DEBUG=1 shows tracebacks."]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    known = registry.plugins(registry.COMMANDS)
    if name in CONVERTER_COMMANDS:
        return f"'{name}' belongs to the converters, which are not installed here: {CONVERTERS_PIP_LINE}"
    near = difflib.get_close_matches(name, [*known, *CONVERTER_COMMANDS], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"command '{name}' is unknown.{hint} Known: {', '.join(sorted(known))}."


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del filename, lineno, line, category
    print(f"warning: {message}", file=file or sys.stderr)
