"""`edgesdk convert`: a model into a bundle that was judged."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.cli.main import Command


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=".onnx, .tflite, .pt2, .keras, .h5 file, SavedModel folder, or package.module:factory (PyTorch, Keras, scikit-learn)",
    )
    parser.add_argument("--device", required=True, metavar="ID", help="device profile: edgesdk profile list")
    parser.add_argument(
        "--calibration", required=True, type=Path, metavar="DIR", help="typical inputs: pictures, .wav, .npy or .npz"
    )
    parser.add_argument("--spec", type=Path, metavar="FILE", help="model.yaml: what the model file does not say")
    parser.add_argument(
        "--recipe",
        action="append",
        metavar="NAME",
        help="auto (default), w8a8, w8a16, w4a8, dynamic, w8, w4, float16, or a file; several make a variant each",
    )
    parser.add_argument("--plan", type=Path, metavar="FILE", help="do again what this plan.json says; no search")
    parser.add_argument("--format", action="append", choices=("onnx", "tflite"), help="write only this; twice for both")
    parser.add_argument("--evaluation", type=Path, metavar="DIR", help="judge on these instead of a held-out fifth")
    limits = parser.add_argument_group("what a quantized variant may cost")
    limits.add_argument("--optimize", choices=("speed", "size"), default="speed", help="speed (default) or size")
    limits.add_argument("--max-drop", metavar="PP", help="of the task's own figure or accuracy, for example 0.5pp")
    limits.add_argument(
        "--min-fidelity",
        action="append",
        metavar="LIMIT",
        help="20dB per branch, or agreement 0.98; may be given twice",
    )
    limits.add_argument("--min-speedup", metavar="FACTOR", help="over float, for example 1.5")
    limits.add_argument("--max-size", metavar="BYTES", help="of a model file, for example 4MiB")
    limits.add_argument(
        "--allow", metavar="REASON", help="keep what the guard refuses; the reason goes into the bundle"
    )
    parser.add_argument(
        "--no-fallback", action="store_true", help="leave the float variants out where a quantized one passes"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write NAME.html or NAME.json")
    parser.add_argument("--state-dict", type=Path, metavar="FILE", help="weights of a PyTorch module")
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open sources that can run any code when they are opened"
    )
    parser.add_argument("--name", metavar="NAME", help="name of the bundle; by default from --output")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="version of the bundle, counting up")
    parser.add_argument("--output", required=True, type=Path, metavar="NAME.edge", help="the bundle to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Convert, print the summary; 1 where only float is left and no reason was given."""
    from edgesdk_converters.guard.budget import Budget
    from edgesdk_converters.pipeline import convert
    from edgesdk_converters.progress import for_stream
    from edgesdk_converters.report import summary

    conversion = convert(
        options.model,
        device=options.device,
        calibration=options.calibration,
        output=options.output,
        spec=options.spec,
        recipe=options.recipe or "auto",
        plan=options.plan,
        evaluation=options.evaluation,
        optimize=options.optimize,
        budget=Budget.parse(
            max_drop=options.max_drop,
            min_fidelity=options.min_fidelity,
            min_speedup=options.min_speedup,
            max_size=options.max_size,
        ),
        formats=options.format,
        allow=options.allow,
        fallback=not options.no_fallback,
        name=options.name,
        version=options.version,
        state_dict=options.state_dict,
        trust_pickle=options.trust_pickle,
        report=options.report,
        progress=for_stream(),
    )
    if options.json:
        print(json.dumps(as_json(conversion), indent=1))
    else:
        for line in summary(conversion):
            print(line)
        if options.report:
            print(f"report: {options.report}")
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
        "calibration": msgspec.to_builtins(conversion.findings),
        "advice": [] if conversion.ok else advice(conversion),
    }


COMMAND = Command(
    help="Convert a model for a board, prove that it still works, and write a bundle.", configure=configure, run=run
)
