"""`edgesdk init BUNDLE...`: writes an app.yaml to start from."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.cli.main import Command
from edgesdk.errors import ConfigError

if TYPE_CHECKING:
    from edgesdk.telemetry.settings import MqttSettings


_AS_OPTIONS = {
    "telemetry.mqtt.url:": "--broker:",
    "url: mqtt": "--broker mqtt",
    "telemetry.mqtt.username and password_file": "--username and --password-file",
    "username: NAME beside it": "--username NAME",
    "telemetry.mqtt.password_file:": "--password-file:",
    "telemetry.mqtt.ca_file:": "--ca-file:",
    "leave ca_file out": "leave --ca-file out",
}
"""The words of a wrong `telemetry.mqtt` for whoever typed options instead."""


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
    parser.add_argument("--broker", metavar="URL", help="mqtt://host[:port] or mqtts://host[:port]; default: none yet")
    parser.add_argument("--username", metavar="NAME", help="of this board at the broker")
    parser.add_argument("--password-file", metavar="FILE", help="holds the password; chmod 600")
    parser.add_argument("--ca-file", metavar="FILE", help="CA that signed the certificate of an mqtts broker")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("app.yaml"), help="default: app.yaml")
    parser.add_argument("--force", action="store_true", help="write over an existing file")


def _run(options: argparse.Namespace) -> int:
    from edgesdk.app.config import SCHEMA_FILE, app_json_schema
    from edgesdk.app.loading import parse_config
    from edgesdk.app.template import render

    if options.broker is None and (options.username or options.password_file or options.ca_file):
        print(
            "edgesdk init: error: --username, --password-file and --ca-file go with a broker. Add --broker URL.",
            file=sys.stderr,
        )
        return 2
    broker = None if options.broker is None else _broker(options)
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
    text = render(options.bundles, options.source, folder=folder, name=options.name, broker=broker)
    parse_config(text, base=folder, file=str(output), check_files=True)
    _write(schema, json.dumps(app_json_schema(), indent=2) + "\n")
    _write(output, text)
    print(f"wrote {output}, and {schema.name} beside it for your editor")
    print(f"next: edgesdk run {output} --preview")
    return 0


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(
            [
                f"{file}: cannot be written: {error.strerror or error}. Check the free disk and the folder's permissions, or name another with --output."
            ]
        ) from error


def _broker(options: argparse.Namespace) -> MqttSettings:
    from edgesdk.telemetry.settings import MqttSettings, TelemetrySettings, check

    found = MqttSettings(
        url=options.broker, username=options.username, password_file=options.password_file, ca_file=options.ca_file
    )
    try:
        check(TelemetrySettings(mqtt=found))
    except ConfigError as error:
        problems = list(error.problems)
        for key, flag in _AS_OPTIONS.items():
            problems = [problem.replace(key, flag) for problem in problems]
        raise ConfigError(problems) from error
    return found


def _is_ours(schema: Path) -> bool:
    try:
        found = json.loads(schema.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("$id") == schema.name


COMMAND = Command(help="write an app.yaml to start from", configure=_configure, run=_run)
