"""`edgesdk verify`: is every file of a bundle the one that its manifest names, and safe to open."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgesdk.cli.main import Command


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an .edge file, or an unpacked folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Read and check every byte; exit 1 with all problems where something is wrong."""
    from edgesdk.bundle import Bundle
    from edgesdk.errors import BundleError

    problems: list[str] = []
    facts: dict[str, object] = {"path": str(options.file)}
    try:
        with Bundle.open(options.file) as bundle:
            manifest = bundle.manifest
            facts |= {
                "name": manifest.name,
                "version": manifest.version,
                "identity": bundle.identity,
                "files": len(manifest.files),
                "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
            }
            bundle.verify()
    except BundleError as error:
        problems = str(error).splitlines()
        facts["error"] = type(error).__name__
    if options.json:
        print(json.dumps({**facts, "ok": not problems, "problems": problems}))
    elif problems:
        print("\n".join(problems), file=sys.stderr)
    else:
        print(
            f"{options.file}: {facts['name']} version {facts['version']} is sound: {facts['files']} files, "
            f"{facts['size_bytes']} bytes, identity {facts['identity']}"
        )
    return 1 if problems else 0


COMMAND = Command(help="check every file of a bundle against its manifest", configure=configure, run=run)
