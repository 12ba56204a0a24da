"""`edgesdk predict`: one-shot inference on files, a typed JSON result for each, and a picture with it drawn in."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command
from edgesdk.errors import BundleError, EdgeSdkError, SourceError

if TYPE_CHECKING:
    from edgesdk.model import Inference, Model
    from edgesdk.samples import Sample

_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".npy", ".npz", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".wav", ".webp"}
)
"""What is taken from a folder of inputs."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="BUNDLE... INPUT",
        help="bundles (*.edge, or folders with manifest.json; several make a cascade), then pictures, wav, npy or npz "
        "files, or folders of them",
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="OUT.jpg",
        help="write the picture with the result drawn in; a folder where there are several inputs",
    )
    parser.add_argument("--json", action="store_true", help="one line for each input, with model and latency")
    parser.add_argument("--backend", default="auto", help="for example onnxruntime; default: as the profile says")
    parser.add_argument("--variant", default="auto", help="id from `edgesdk inspect`; default: the quickest here")
    parser.add_argument("--device", metavar="ID", help="device profile; default: this board")
    parser.add_argument(
        "--threads",
        type=whole(0, 256),
        metavar="N",
        default=0,
        help="threads of one inference; default: by cores and size",
    )


def run(options: argparse.Namespace) -> int:
    """Predict each input; a bad one does not stop the others, but the exit code is 1."""
    bundles = [path for path in options.paths if _is_bundle(path)]
    inputs = [path for path in options.paths if path not in bundles]
    problem = _usage_problem(bundles, inputs)
    if problem:
        print(f"edgesdk predict: error: {problem}", file=sys.stderr)
        return 2
    if options.annotate is not None and not options.annotate.parent.is_dir() and not _makes_folder(options, inputs):
        folder = options.annotate.parent
        raise SourceError(f"--annotate {options.annotate}: there is no folder {folder}. Make it: mkdir -p {folder}")
    from edgesdk.model import load

    files = [file for path in inputs for file in _expand(path)]
    failed = 0
    with load(
        *bundles, backend=options.backend, variant=options.variant, profile=options.device, threads=options.threads
    ) as model:
        for file in files:
            try:
                _predict(model, file, options, several=len(files) > 1)
            except EdgeSdkError as error:
                failed += 1
                print(f"edgesdk predict: error: {error}", file=sys.stderr)
    return 1 if failed else 0


def _is_bundle(path: Path) -> bool:
    return path.suffix == ".edge" or (path.is_dir() and (path / "manifest.json").exists())


def _makes_folder(options: argparse.Namespace, inputs: list[Path]) -> bool:
    """Whether ``--annotate`` names a folder, which is made with its parents."""
    return not options.annotate.suffix and (len(inputs) > 1 or inputs[0].is_dir())


def _usage_problem(bundles: list[Path], inputs: list[Path]) -> str:
    if not bundles:
        return (
            f"none of {', '.join(map(str, inputs))} is a bundle, expected an .edge file or a folder with manifest.json "
            "first. Make one with: edgesdk convert MODEL --output NAME.edge"
        )
    if not inputs:
        return f"nothing to predict. Name a picture, wav, npy or npz file: edgesdk predict {bundles[0]} picture.jpg"
    return ""


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(item for item in path.iterdir() if item.suffix.lower() in _SUFFIXES)
    if not found:
        raise SourceError(f"{path}: has no picture, wav, npy or npz file. Name a folder with inputs, or a file.")
    return found


def _predict(model: Model, file: Path, options: argparse.Namespace, *, several: bool) -> None:
    model.reset()  # the inputs have nothing to do with each other
    sample = model.sample(file)
    inference = model.infer(sample)
    if options.json:
        print(json.dumps(_as_json(model, file, inference)), flush=True)
    else:
        print(f"{file}:")
        print(_readable(inference.result.to_json()), flush=True)
    if options.annotate is not None:
        _annotate(sample, inference, _target(options.annotate, file, several=several))


def _readable(result: dict[str, Any]) -> str:
    """JSON with one field per line, and the numbers of a list on one."""
    text = json.dumps(result, indent=1)
    # No text of a result can look like this: JSON has no line breaks in texts.
    return re.sub(r"\[\n([-+.0-9eE,\s]+?)\n\s*\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _as_json(model: Model, file: Path, inference: Inference) -> dict[str, Any]:
    latency = inference.latency
    return {
        "input": str(file),
        "result": inference.result.to_json(),
        "model": {
            "name": model.name,
            "version": model.version,
            "identities": model.identities,
            "runs": model.description,
        },
        "latency": {
            "pre_ms": round(latency.pre_ms, 3),
            "inference_ms": round(latency.inference_ms, 3),
            "post_ms": round(latency.post_ms, 3),
        },
    }


def _target(out: Path, file: Path, *, several: bool) -> Path:
    if not several and not out.is_dir():
        return out
    if out.suffix and not out.is_dir():
        raise BundleError(f"--annotate {out}: there are several inputs, expected a folder: --annotate {out.stem}/")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"--annotate {out}: cannot be made: {error.strerror}. Name a folder that can.") from error
    return out / f"{file.stem}.jpg"


def _annotate(sample: Sample, inference: Inference, out: Path) -> None:
    from edgesdk.extras import import_extra
    from edgesdk.samples import Picture
    from edgesdk.tasks.vision.draw import annotate

    if not isinstance(sample, Picture):
        raise SourceError(f"--annotate {out}: {sample.uri} is no picture. Leave the option out.")
    cv2 = import_extra("cv2", extra="vision", purpose="writing pictures")
    drawn = annotate(sample, inference.result)
    pixels = drawn.pixels[..., ::-1] if drawn.colour == "RGB" else drawn.pixels
    try:
        written, content = cv2.imencode(out.suffix or ".jpg", pixels.copy())
        if not written:
            raise SourceError(f"--annotate {out}: OpenCV writes no {out.suffix} files. Name it .jpg or .png.")
        out.write_bytes(content.tobytes())
    except cv2.error as error:
        raise SourceError(f"--annotate {out}: OpenCV cannot write it ({error}). Name it .jpg or .png.") from error
    except OSError as error:
        raise SourceError(f"--annotate {out}: cannot be written: {error.strerror}. Name another file.") from error
    print(f"wrote {out}", file=sys.stderr)


COMMAND = Command(help="run a bundle once on pictures, recordings or arrays", configure=configure, run=run)
