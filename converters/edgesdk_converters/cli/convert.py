"""`edgesdk convert`: a model into a bundle that was judged."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgesdk.cli.main import Command


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", help=".onnx or .tflite file, or package.module:factory (PyTorch)")
    parser.add_argument("--device", required=True, metavar="ID", help="device profile: edgesdk profile list")
    parser.add_argument(
        "--calibration", required=True, type=Path, metavar="DIR", help="typical inputs: pictures, .wav, .npy or .npz"
    )
    parser.add_argument("--spec", type=Path, metavar="FILE", help="model.yaml: what the model file does not say")
    parser.add_argument("--evaluation", type=Path, metavar="DIR", help="judge on these instead of a held-out fifth")
    parser.add_argument("--optimize", choices=("speed", "size"), default="speed", help="speed (default) or size")
    parser.add_argument(
        "--allow", metavar="REASON", help="keep what the guard refuses; the reason goes into the bundle"
    )
    parser.add_argument(
        "--no-fallback", action="store_true", help="leave the float variants out where an int8 one passes"
    )
    parser.add_argument("--state-dict", type=Path, metavar="FILE", help="weights of a PyTorch module")
    parser.add_argument("--name", metavar="NAME", help="name of the bundle; by default from --output")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="version of the bundle, counting up")
    parser.add_argument("--output", required=True, type=Path, metavar="NAME.edge", help="the bundle to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Convert, print the summary; 1 where only float is left and no reason was given."""
    from edgesdk_converters.pipeline import convert
    from edgesdk_converters.progress import for_stream
    from edgesdk_converters.report import summary

    conversion = convert(
        options.model,
        device=options.device,
        calibration=options.calibration,
        output=options.output,
        spec=options.spec,
        evaluation=options.evaluation,
        optimize=options.optimize,
        allow=options.allow,
        fallback=not options.no_fallback,
        name=options.name,
        version=options.version,
        state_dict=options.state_dict,
        progress=for_stream(),
    )
    if options.json:
        print(json.dumps(as_json(conversion), indent=1))
    else:
        for line in summary(conversion):
            print(line)
    return 0 if conversion.ok else 1


def as_json(conversion: Any) -> dict[str, Any]:
    """The conversion as plain data."""
    from edgesdk_converters.pipeline import as_rows
    from edgesdk_converters.report import advice

    return {
        "bundle": str(conversion.bundle),
        "name": conversion.manifest.name,
        "task": conversion.manifest.contract.task,
        "device": conversion.device,
        "ok": conversion.ok,
        "variants": as_rows(conversion),
        "failures": list(conversion.failures),
        "assumptions": list(conversion.assumptions),
        "allowed": conversion.allowed,
        "advice": [] if conversion.ok else advice(conversion),
    }


COMMAND = Command(
    help="Convert a model for a board, prove that it still works, and write a bundle.", configure=configure, run=run
)
