"""Pictures that are dark, bright, flat, blurred, small or enlarged; recordings that are silent, clipped or short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgesdk.bundle.manifest import Contract, ImageInput
from edgesdk_converters.calibration import AudioFacts, CalibrationSet, PictureFacts
from edgesdk_converters.report.record import Finding

LISTED = 20
"""Files that a finding names."""
MANY = 0.1
"""Share of the samples from which something is a warning and no longer a hint."""

# Chosen on the zoo's photographs and pages, of which none may be called bad, and on their darkened, brightened and blurred copies.
_DARK, _BRIGHT, _FLAT, _NOTHING = 25.0, 238.0, 4.0, 1.0
_CLIPPED, _CLIPPED_OVER_USUAL = 0.35, 0.25
_BLURRED, _BLURRED_OVER_USUAL = 5e-4, 0.1
_SILENT_DB, _LOUD, _SHORT_S = -60.0, 1e-3, 0.1

_ODD = "Take them out, unless the board will see such: then have more of them."


def quality(calibration: CalibrationSet, contract: Contract) -> Iterator[Finding]:
    """Findings about single files."""
    pictures = [
        (name, one.facts)
        for name, one in zip(calibration.names, calibration.prints, strict=False)
        if isinstance(one.facts, PictureFacts)
    ]
    recordings = [
        (name, one.facts)
        for name, one in zip(calibration.names, calibration.prints, strict=False)
        if isinstance(one.facts, AudioFacts)
    ]
    if pictures:
        yield from _pictures(pictures, contract)
    if recordings:
        yield from _recordings(recordings)


def _pictures(files: Sequence[tuple[str, PictureFacts]], contract: Contract) -> Iterator[Finding]:
    usual_bright = float(np.median([facts.bright for _, facts in files]))
    usual_dark = float(np.median([facts.dark for _, facts in files]))
    usual_sharp = float(np.median([facts.sharpness for _, facts in files]))
    side = _side(contract)
    dark = {name for name, facts in files if facts.mean < _DARK and facts.spread > _NOTHING}
    bright = {name for name, facts in files if facts.mean > _BRIGHT and facts.spread > _NOTHING}
    flat = {name for name, facts in files if facts.spread < _FLAT} - dark - bright
    odd = flat | dark | bright
    clipped = {name for name, facts in files if _far(facts.bright, usual_bright) or _far(facts.dark, usual_dark)} - odd
    least = min(_BLURRED, _BLURRED_OVER_USUAL * usual_sharp)
    blurred = {name for name, facts in files if facts.sharpness < least} - odd
    small = {name for name, facts in files if 2 * min(facts.size_wh) < side}
    enlarged = {name for name, facts in files if facts.enlarged} - flat - blurred
    checks = [
        (dark, "exposure", "nearly black. " + _ODD),
        (bright, "exposure", "nearly white. " + _ODD),
        (flat, "exposure", "of one colour, without any content. Take them out: they teach nothing about ranges."),
        (
            clipped,
            "exposure",
            "over- or underexposed, with a large part at the end of the scale. Take them with another exposure.",
        ),
        (blurred, "sharpness", "blurred. Take them again, unless the board's camera is like that."),
        (
            small,
            "resolution",
            (
                f"less than half as large as the model's input ({side} pixels). Use pictures of the size that the board's camera gives: "
                "enlarged ones lack the fine detail that the first layers react to."
            ),
        ),
        (
            enlarged,
            "resolution",
            (
                "soft or enlarged from smaller ones: half of their pixels say all. Use the originals, so that resizing happens once "
                "and as on the board."
            ),
        ),
    ]
    for names, subject, text in checks:
        if names:
            found = [name for name, _ in files if name in names]
            yield finding(subject, len(found), len(files), f"pictures are {text}", found)


def _far(share: float, usual: float) -> bool:
    """Pages and night scenes are at an end of the scale by nature: only what is so unlike the others counts."""
    return share > _CLIPPED and share > usual + _CLIPPED_OVER_USUAL


def _recordings(files: Sequence[tuple[str, AudioFacts]]) -> Iterator[Finding]:
    checks: list[tuple[str, str, Callable[[AudioFacts], bool]]] = [
        (
            "are silent (below -60 dB of full scale)",
            "Take them out, unless the board will hear such: then a few are enough.",
            lambda facts: facts.level_db < _SILENT_DB,
        ),
        (
            "are clipped: more than one sample in a thousand is at full scale",
            "Record them with less gain.",
            lambda facts: facts.clipped > _LOUD,
        ),
        (
            "are shorter than 0.1 s",
            "Take them out, or record whole utterances.",
            lambda facts: facts.seconds < _SHORT_S,
        ),
    ]
    for what, fix, check in checks:
        found = [name for name, facts in files if check(facts)]
        if found:
            yield finding("level", len(found), len(files), f"recordings {what}. {fix}", found)


def finding(subject: str, count: int, total: int, text: str, files: Sequence[str]) -> Finding:
    """A hint where it is a few, a warning where it is many; the text begins with how many."""
    text = text.replace(" are ", " is ", 1) if count == 1 else text
    return Finding(
        severity="warning" if count > 1 and count >= MANY * total else "hint",
        subject=subject,
        text=f"{count} of {total} {text}",
        files=tuple(files[:LISTED]),
    )


def _side(contract: Contract) -> int:
    """Shorter side of the model's picture."""
    for spec in contract.inputs:
        if isinstance(spec.source, ImageInput):
            height, width = spec.shape[2:4] if spec.source.layout == "NCHW" else spec.shape[1:3]
            return min(height, width)
    return 0
