"""`edgesdk init BUNDLE...`: writes an app.yaml to start from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgesdk.cli.main import Command
from edgesdk.errors import ConfigError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles", metavar="BUNDLE", nargs="+", type=Path, help="an .edge file; several may be a cascade"
    )
    parser.add_argument(
        "--source",
        metavar="SOURCE",
        action="append",
        default=[],
        help="camera, microphone, fake, /dev/videoN, or a file or folder; may be given for pictures and for sound",
    )
    parser.add_argument("--name", help="name of the app; default: the first bundle's")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("app.yaml"), help="default: app.yaml")
    parser.add_argument("--force", action="store_true", help="write over an existing file")


def _run(options: argparse.Namespace) -> int:
    from edgesdk.app.config import SCHEMA_FILE, app_json_schema
    from edgesdk.app.loading import parse_config
    from edgesdk.app.template import render

    output: Path = options.output
    folder = output.absolute().parent
    if not folder.is_dir():
        raise ConfigError([f"{folder}: there is no such folder. Make it, or name another with --output."])
    if output.exists() and not options.force:
        raise ConfigError(
            [f"{output}: exists already. Name another file with --output, or write over it with --force."]
        )
    schema = folder / SCHEMA_FILE
    if schema.exists() and not options.force and not _is_ours(schema):
        raise ConfigError([f"{schema}: exists already, and is no schema of edgesdk. Move it, or use --force."])
    text = render(options.bundles, options.source, folder=folder, name=options.name)
    parse_config(text, base=folder, file=str(output), check_files=True)
    output.write_text(text, encoding="utf-8")
    schema.write_text(json.dumps(app_json_schema(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {output}, and {schema.name} beside it for your editor")
    print(f"next: edgesdk run {output} --preview")
    return 0


def _is_ours(schema: Path) -> bool:
    try:
        found = json.loads(schema.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("$id") == schema.name


COMMAND = Command(help="write an app.yaml to start from", configure=_configure, run=_run)
