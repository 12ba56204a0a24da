"""`edgesdk convert`: a model into a bundle that was judged."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command

_EPILOG = """\
The least that works:

  edgesdk convert model.onnx --device raspberry-pi-5 --calibration samples --output model.edge

What the model file does not say of itself (colour, mean and std, task, labels) goes into --spec model.yaml. A variant is only kept where
it is close enough to the source and worth it; without limits: 20 dB in every branch, 98 % of the decisions, not slower, smaller.

exit codes: 0 the bundle holds a quantized variant, or --allow said why not; 1 only float passed, or the conversion failed;
2 the command line is wrong; 130 stopped by Ctrl-C. A bundle is written whole or not at all.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=".onnx, .tflite, .pt2, .keras or .h5 file, SavedModel folder, or package.module:factory (PyTorch, Keras, scikit-learn)",
    )
    parser.add_argument(
        "--device", required=True, metavar="ID", help="board: an id of `edgesdk profile list`, or a profile's file"
    )
    parser.add_argument(
        "--calibration",
        required=True,
        type=Path,
        metavar="DIR",
        help="typical inputs, 50 or more: pictures, .wav, .npy or .npz; sub-folders or labels.csv may name their classes",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="NAME.edge", help="the bundle to write")

    source = parser.add_argument_group("the model")
    source.add_argument("--spec", type=Path, metavar="FILE", help="model.yaml: what the model file does not say")
    source.add_argument(
        "--state-dict", type=Path, metavar="FILE", help="weights for the PyTorch module that a factory returns"
    )
    source.add_argument(
        "--trust-pickle", action="store_true", help="open sources that can run any code when they are opened"
    )

    made = parser.add_argument_group("what is made")
    made.add_argument(
        "--recipe",
        action="append",
        metavar="NAME",
        help="auto (default) searches; w8a8, w8a16, w4a8, dynamic, w8, w4, float16, or a recipe's file; several make a variant each",
    )
    made.add_argument(
        "--plan", type=Path, metavar="FILE", help="do again what the plan.json of a bundle says, without a search"
    )
    made.add_argument(
        "--format",
        action="append",
        choices=("onnx", "tflite"),
        help="write only this; twice for both; default: what the board's backends take",
    )
    made.add_argument(
        "--no-fallback", action="store_true", help="leave the float variants out where a quantized one passes"
    )

    limits = parser.add_argument_group("what a quantized variant may cost")
    limits.add_argument(
        "--evaluation",
        type=Path,
        metavar="DIR",
        help="judge on these inputs; default: a fifth of the calibration samples",
    )
    limits.add_argument(
        "--optimize",
        choices=("speed", "size"),
        default="speed",
        help="speed (default) refuses what is slower than float; size does not",
    )
    limits.add_argument(
        "--max-drop",
        metavar="PP",
        help="most that the task's own figure may lose, for example 0.5pp: accuracy where labels are given",
    )
    limits.add_argument(
        "--min-fidelity",
        action="append",
        metavar="LIMIT",
        help="least of every branch: 25dB of signal to noise, or 0.99 of agreement; once for each",
    )
    limits.add_argument("--min-speedup", metavar="FACTOR", help="least over float, for example 1.5")
    limits.add_argument("--max-size", metavar="BYTES", help="most of a model file, for example 4MiB")
    limits.add_argument(
        "--allow", metavar="REASON", help="keep what misses the limits; the reason goes into the bundle"
    )

    written = parser.add_argument_group("what is written")
    written.add_argument("--report", type=Path, metavar="FILE", help="the report, too: NAME.html to read, or NAME.json")
    written.add_argument("--name", metavar="NAME", help="of the bundle; default: from --output")
    written.add_argument(
        "--version", type=whole(1), default=1, metavar="N", help="of the bundle, counting up; default: 1"
    )
    written.add_argument("--json", action="store_true", help="print one JSON object instead of the summary")


def run(options: argparse.Namespace) -> int:
    """Convert, print the summary; 1 where only float is left and no reason was given."""
    from edgesdk_converters.cli.checks import convert_problems
    from edgesdk_converters.cli.usage import usage
    from edgesdk_converters.guard.budget import Budget
    from edgesdk_converters.pipeline import convert
    from edgesdk_converters.progress import for_stream
    from edgesdk_converters.report import summary

    if problems := convert_problems(options):
        return usage("convert", problems)
    with for_stream() as progress:
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
            progress=progress,
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
