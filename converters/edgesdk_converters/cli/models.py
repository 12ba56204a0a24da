"""`edgesdk models list | fetch NAME...`: the zoo."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgesdk.cli.main import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "exit codes: 0 done; 1 a name is unknown, or a download failed; 2 the command line is wrong; 130 stopped by Ctrl-C\n"
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|fetch")
    listing = verbs.add_parser("list", help="what the zoo holds")
    listing.add_argument("--media", action="store_true", help="list pictures and recordings, too")
    listing.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    fetching = verbs.add_parser("fetch", help="download models (or media) into the cache and print their paths")
    fetching.add_argument(
        "names", nargs="+", metavar="NAME", help="models or media, as `edgesdk models list --media` names them"
    )
    fetching.add_argument(
        "--calibration", metavar="DIR", type=Path, help="also write a calibration set for each model to DIR/NAME"
    )
    fetching.add_argument(
        "--json", action="store_true", help="print one JSON object, name -> path, instead of the paths"
    )


def _run(options: argparse.Namespace) -> int:
    return _list(options) if options.verb == "list" else _fetch(options)


def _list(options: argparse.Namespace) -> int:
    from edgesdk_converters.zoo.catalog import catalog, spec_path
    from edgesdk_converters.zoo.fetch import is_cached

    zoo = catalog()
    tables = {"models": zoo.models, **({"media": zoo.media} if options.media else {})}
    if options.json:
        print(
            json.dumps(
                {
                    kind: {
                        name: {
                            "wheel": f"{entry.wheel} {zoo.wheels[entry.wheel].version}",
                            "file": entry.file,
                            "task": entry.task,
                            "size_bytes": entry.size_bytes,
                            "sha256": entry.sha256,
                            "licence": entry.licence,
                            "about": entry.about,
                            "cached": is_cached(entry),
                            "spec": str(spec_path(name)) if spec_path(name) else None,
                        }
                        for name, entry in table.items()
                    }
                    for kind, table in tables.items()
                },
                indent=2,
            )
        )
        return 0
    for table in tables.values():
        for name, entry in table.items():
            mark = "*" if is_cached(entry) else " "
            size = f"{entry.size_bytes / 1e6:.2f} MB"
            print(f"{mark} {name:26} {size:>9}  {entry.task or '':21} {entry.licence:12} {entry.about}")
    print("* is in the cache. `edgesdk models fetch NAME` downloads one and prints its path.", file=sys.stderr)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from edgesdk_converters.zoo.catalog import catalog, spec_path
    from edgesdk_converters.zoo.fetch import fetch, media

    def say(words: str) -> None:
        print(words, file=sys.stderr)

    zoo = catalog()
    for name in options.names:  # all names are looked at before anything is downloaded
        if name not in zoo.media:
            zoo.model(name)
    paths = {name: (media if name in zoo.media else fetch)(name, report=say) for name in options.names}
    if options.calibration:
        from edgesdk_converters.zoo.samples import calibration_folder

        for name in options.names:
            say(f"{name}: calibration set in {calibration_folder(name, options.calibration / name, report=say)}")
    if options.json:
        print(json.dumps({name: str(path) for name, path in paths.items()}, indent=2))
    else:
        for path in paths.values():
            print(path)
    for name in options.names:
        if spec := spec_path(name):
            say(f"{name}: convert it with --spec {spec}")
    return 0


COMMAND = Command(help="the zoo: list and fetch real models and media", configure=_configure, run=_run)
