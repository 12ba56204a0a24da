"""`edgesdk report`: the report of a conversion as HTML, from its JSON or from a bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command
from edgesdk.errors import ConversionError

if TYPE_CHECKING:
    from edgesdk_converters.report.record import Record
    from edgesdk_converters.report.serve import NetronViewer

IN_BUNDLE = "report.json"
"""File of a bundle that holds the record of its conversion, where it was asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "exit codes: 0 written, or served until Ctrl-C; 1 the file is no report; 2 the command line is wrong; 130 stopped by Ctrl-C\n"
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="what `edgesdk convert --report FILE.json` wrote, or a bundle (.edge file or unpacked folder)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="the report to write: .html, or .json")
    parser.add_argument(
        "--bundle", type=Path, metavar="NAME.edge", help="with --serve: the bundle of a report that is a .json file"
    )
    parser.add_argument(
        "--serve", action="store_true", help="show it on 127.0.0.1, each model file one click away from Netron"
    )
    parser.add_argument(
        "--port", type=whole(0, 65535), metavar="N", help="with --serve: where it listens; default: a free one"
    )


def run(options: argparse.Namespace) -> int:
    """Write it, or serve it until Ctrl-C."""
    from edgesdk_converters.cli.usage import usage

    if problems := list(_problems(options)):
        return usage("report", problems)
    record = read(options.file)
    if options.output is not None:
        from edgesdk_converters.report import write_report

        if options.output.resolve() == options.file.resolve():
            raise ConversionError(f"{options.output}: is the file that is read. Name another with --output.")
        write_report(record, options.output)
        print(options.output)
    return _serve(record, options) if options.serve else 0


def _problems(options: argparse.Namespace) -> Iterator[str]:
    if options.output is None and not options.serve:
        yield "say --output FILE.html, or --serve to look at it now."
    if not options.serve:
        if options.bundle is not None:
            yield f"--bundle {options.bundle}: is whose models --serve shows. Add --serve, or leave it out."
        if options.port is not None:
            yield f"--port {options.port}: is where --serve listens. Add --serve, or leave it out."


def read(file: Path) -> Record:
    """The record in a .json file; of a bundle, the one it carries, else what its manifest and measurements say."""
    from edgesdk_converters.report.write import parse_record, read_record

    if file.suffix == ".json":
        return read_record(file)
    from edgesdk.bundle import Bundle
    from edgesdk_converters.report.build import record_of_bundle

    with Bundle.open(file) as bundle:
        if IN_BUNDLE in bundle.manifest.files:
            return parse_record(bundle.read(IN_BUNDLE), name=f"{file}: {IN_BUNDLE}")
        return record_of_bundle(bundle)


def _serve(record: Record, options: argparse.Namespace) -> int:
    from edgesdk_converters.report.page import page
    from edgesdk_converters.report.serve import ReportServer, links

    viewer = _viewer(record, options.bundle or options.file)
    document = page(record, viewers=links(viewer) if viewer is not None else None)
    try:
        server = ReportServer(document, viewer, port=options.port or 0)
    except (OSError, OverflowError) as error:
        raise ConversionError(
            f"--port {options.port}: cannot listen there ({error}). Leave --port out to take a free one."
        ) from error
    with server:
        print(server.address, flush=True)
        print("Ctrl-C stops it.", file=sys.stderr)
        try:
            server.run()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0


def _viewer(record: Record, bundle: Path) -> NetronViewer | None:
    """Netron for the bundle's files; None, with the reason on stderr, where there is no bundle or no Netron."""
    from edgesdk.bundle import Bundle
    from edgesdk.errors import EdgeSdkError
    from edgesdk_converters.report.serve import NetronViewer

    if bundle.suffix == ".json":
        bundle = bundle.parent / record.bundle
    try:
        with Bundle.open(bundle) as opened:
            if record.identity and opened.identity != record.identity:
                print(f"note: {bundle} is not the bundle of this report; no links to Netron.", file=sys.stderr)
                return None
            return NetronViewer({v.id: (v.file, opened.read(v.file)) for v in opened.manifest.variants})
    except EdgeSdkError as error:
        print(f"note: no links to Netron: {error}", file=sys.stderr)
        return None


COMMAND = Command(
    help="Write a conversion's report as HTML, or show it with its models in Netron.", configure=configure, run=run
)
