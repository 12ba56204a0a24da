"""Runs a few held-out inputs through the float and the quantized model, and draws what they find."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, Contract
from edgesdk.errors import MissingExtraError, SourceWarning, TaskError
from edgesdk.extras import import_extra
from edgesdk.samples import Picture, Sample
from edgesdk.tasks import make_task
from edgesdk.tasks.api import Result, Run
from edgesdk.tasks.results import RawResult
from edgesdk_converters.calibration import ARRAYS, PICTURES, CalibrationSet
from edgesdk_converters.report.decisions import same_decision
from edgesdk_converters.report.record import Example

Array = NDArray[Any]

COUNT = 6
_CANDIDATES = 4
"""Inputs looked at for each that is shown: a detector finds nothing in many pictures, and nothing beside nothing says little."""
_INFERENCES = 512
"""Of a stream, from its beginning: an hour of it would take as long as all the rest of the report."""
MAX_SIDE = 480
"""Longer side of the pictures in the report, in pixels: a page with six pairs stays below 5 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One input: as the task takes it, or, where its file holds bare arrays, as the model takes it."""

    name: str
    sample: Sample | None = None
    feeds: Sequence[Sequence[Array]] = ()
    """Inferences in order; used where there is no sample."""


def pick_samples(
    held_out: CalibrationSet, folder: Path | None, contract: Contract, *, count: int = COUNT * _CANDIDATES
) -> Iterator[Pick]:
    """Choose inputs to show: spread evenly, not chosen by how well they do; each is read when it is asked for.

    Args:
        held_out: What the variants were judged on.
        folder: That its names are relative to; None where the files are gone, then arrays are shown.
        contract: Of the model.
        count: How many at most.
    """
    total = len(held_out.units)
    places = sorted({round(step) for step in np.linspace(0, total - 1, min(count, total))}) if total else []
    for place in places:
        name = held_out.names[place] if len(held_out.names) == total else f"sample {place + 1}"
        sample = _read(folder / name, contract) if folder is not None and len(held_out.names) == total else None
        yield Pick(name=name, sample=sample, feeds=() if sample is not None else held_out.units[place][:_INFERENCES])


def _read(file: Path, contract: Contract) -> Sample | None:
    """The sample of a file, of a recording its beginning; None where it holds arrays."""
    from edgesdk.sources.reading import read_picture, stream_wav

    suffix = file.suffix.lower()
    if suffix in ARRAYS or not file.is_file():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceWarning)  # said once when the folder was read
        if suffix in PICTURES:
            return read_picture(file)
        rates = [spec.source.sample_rate_hz for spec in contract.inputs if isinstance(spec.source, AudioInput)]
        beginning = next(stream_wav(file, sample_rate_hz=rates[0] if rates else None))
        return replace(beginning, last=True)


def make_examples(
    contract: Contract, picks: Iterable[Pick], expected: Run, got: Run, *, count: int = COUNT, variant: str = ""
) -> tuple[Example, ...]:
    """Run both models and compare what the task makes of them.

    Args:
        contract: Of the model.
        picks: From :func:`pick_samples`; those in which the float model finds something come first.
        expected: One inference of the float model.
        got: One inference of the quantized model.
        count: How many to show at most.
        variant: Id of the quantized model.
    """
    found: list[tuple[Pick, Result]] = []
    empty: list[tuple[Pick, Result]] = []
    for pick in picks:
        result = _result(contract, pick, expected)
        kept = found if _says_something(result.to_json()) else empty
        if len(kept) < count:
            kept.append((pick, result))
        if len(found) == count:
            break
    shown = (found + empty)[:count]
    return tuple(_example(pick, result, _result(contract, pick, got), variant) for pick, result in shown)


def _says_something(result: dict[str, Any]) -> bool:
    """Whether a result is more than an empty list, or an empty text."""
    lists = [
        value for name, value in result.items() if isinstance(value, list) and name not in ("picture_size_wh", "quad")
    ]
    return any(lists) if lists else bool(result.get("text", True))


def _example(pick: Pick, left: Result, right: Result, variant: str) -> Example:
    picture = got_picture = b""
    if isinstance(pick.sample, Picture):
        picture, got_picture = _drawn(pick.sample, left), _drawn(pick.sample, right)
        if not picture:
            picture, got_picture = encode_png(pick.sample), b""
    a, b = left.to_json(), right.to_json()
    return Example(
        name=pick.name,
        expected=a,
        got=b,
        same=same_decision(a, b),
        picture_png=picture,
        got_png=got_picture,
        variant=variant,
    )


def _result(contract: Contract, pick: Pick, run: Run) -> Result:
    if pick.sample is not None:
        return make_task(contract)(run, pick.sample)  # a new task each time: no state of the sample before
    outputs: Sequence[Array] = ()
    for feed in pick.feeds:
        outputs = run(feed)
    return RawResult(
        arrays={spec.name: np.asarray(array) for spec, array in zip(contract.outputs, outputs, strict=True)}
    )


def _drawn(picture: Picture, result: Result) -> bytes:
    from edgesdk.tasks.vision.draw import annotate

    try:
        return encode_png(annotate(picture, result))
    except TaskError:  # nothing to draw in results of this kind
        return b""


def encode_png(picture: Picture) -> bytes:
    """A picture as PNG, made smaller where it is large; empty where OpenCV is not installed."""
    try:
        cv2 = import_extra("cv2", extra="vision", purpose="pictures in the report")
    except MissingExtraError:
        return b""
    pixels: NDArray[np.uint8] = picture.pixels
    if picture.colour == "RGB":
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    scale = MAX_SIDE / max(pixels.shape[:2])
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size_wh)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".png", pixels)
    return bytes(encoded.tobytes()) if done else b""
