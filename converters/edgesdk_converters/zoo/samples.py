"""Calibration folders for the zoo's models, cut from the zoo's own photographs and recordings.

A calibration set must look like what the model will see: faces for face models, text for text models. Everything is
drawn with a fixed seed, so that equal calls write equal files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ZooError
from edgesdk.sources.reading import read_picture
from edgesdk_converters.zoo.catalog import catalog
from edgesdk_converters.zoo.fetch import Report, media

Pixels = NDArray[np.uint8]
"""(H, W, 3), BGR, as OpenCV writes it."""
Pictures = Callable[[str], Pixels]

SENTENCES = (
    "Gate 7 is open until 22:30", "Pump station B, valve 14 closed", "Temperature 36.6 C, humidity 41 %",
    "Please keep this door shut", "Platform 9 - next train 17:05", "Invoice no. 2024-00817", "Loading zone, no parking",
    "The quick brown fox jumps over the lazy dog", "Serial number XK-4471-Q", "Total: 1,284.50 EUR",
    "Emergency exit on the left", "Battery at 83 percent", "Room 204 is reserved", "Speed limit 30 km/h",
    "Pack my box with five dozen jugs", "Water level 2.71 m", "North entrance", "Caution: hot surface",
)  # fmt: skip
"""Our own words, as signs, meters and labels have them."""

ASTRONAUT_FACE = (225, 115)
"""Centre of the face in `astronaut`, x and y in pixels, read off the picture."""
ASTRONAUT_EYES = ((205, 110), (247, 105))
"""Centres of both eyes, likewise."""
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle-left", "china", "flower")
PAGE_LINES = ((0, 10, 300, 34), (0, 44, 384, 66), (0, 60, 384, 84), (0, 80, 384, 104), (0, 94, 384, 118))
"""Lines of text in `page`: left, top, right, bottom in pixels, read off the picture."""


_SAMPLE = re.compile(r"\d{3,}\.png")
CALIBRATION_SEED = 20260101
SAMPLE_SEED = 20260202


def sample_folder(name: str, folder: Path, *, count: int = 24, report: Report = lambda _: None) -> Path:
    """Pictures like those of :func:`calibration_folder`, drawn with another seed: what the model has not seen."""
    return calibration_folder(name, folder, count=count, seed=SAMPLE_SEED, report=report)


def calibration_folder(
    name: str, folder: Path, *, count: int = 60, seed: int = CALIBRATION_SEED, report: Report = lambda _: None
) -> Path:
    """Write ``count`` samples for the zoo model ``name`` into ``folder``.

    Args:
        name: A zoo model in ``MAKERS`` or ``RECORDINGS``.
        folder: Is made, and emptied of an earlier set; one with anything else in it is refused.
        count: Samples; recordings are written whole, once.
        seed: Of the drawing.
        report: Is told what is downloaded.

    Raises:
        ZooError: The model is unknown, has no recipe here, the media cannot be fetched, or ``folder`` holds other people's files.
    """
    if name not in MAKERS and name not in RECORDINGS:
        catalog().model(name)
        raise ZooError(
            f"no calibration set is defined for {name!r}; there is one for: {', '.join((*MAKERS, *RECORDINGS))}."
        )
    _empty(folder)
    if name in RECORDINGS:
        source = media(RECORDINGS[name], report=report)
        shutil.copyfile(source, folder / source.name)
        return folder
    import cv2

    pictures: dict[str, Pixels] = {}

    def picture(key: str) -> Pixels:
        if key not in pictures:
            read = read_picture(media(key, report=report))
            pixels = cv2.cvtColor(read.pixels, cv2.COLOR_GRAY2BGR) if read.colour == "GREY" else read.pixels
            pictures[key] = np.asarray(pixels, dtype=np.uint8)
        return pictures[key]

    samples = MAKERS[name](np.random.default_rng(seed), picture)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03}.png"), next(samples))
    return folder


def _empty(folder: Path) -> None:
    """Make the folder, without an earlier set; whatever else is in it is its owner's."""
    folder.mkdir(parents=True, exist_ok=True)
    recordings = {Path(catalog().medium(medium).file).name for medium in RECORDINGS.values()}
    found = sorted(folder.iterdir())
    foreign = [file.name for file in found if not (_SAMPLE.fullmatch(file.name) or file.name in recordings)]
    if foreign:
        raise ZooError(
            f"{folder}: holds {foreign[0]!r}{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which is no sample of the zoo, and an "
            "earlier set in it would be replaced. Name another folder."
        )
    for file in found:
        file.unlink()


def _windows(rng: np.random.Generator, picture: Pictures) -> Iterator[Pixels]:
    """Windows over photographs, every third around a face."""
    number = 0
    while True:
        number += 1
        if number % 3 == 0:
            yield next(_faces(rng, picture, spread=60, sizes=(170, 330)))
            continue
        image = picture(PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))])
        yield _vary(rng, _window(rng, image, (150, min(image.shape[:2]))))


def _faces(
    rng: np.random.Generator, picture: Pictures, spread: int = 12, sizes: tuple[int, int] = (130, 200)
) -> Iterator[Pixels]:
    """The astronaut's face, moved, scaled, lit and mirrored, in turn with faces of the small `lfw` set."""
    small = np.load(media("faces-lfw"))[:100]
    while True:
        yield _vary(rng, _around(rng, picture("astronaut"), ASTRONAUT_FACE, spread, sizes))
        grey = (np.asarray(small[int(rng.integers(len(small)))]) * 255).clip(0, 255).astype(np.uint8)
        yield _vary(rng, np.repeat(grey[..., None], 3, axis=2))


def _eyes(rng: np.random.Generator, picture: Pictures) -> Iterator[Pixels]:
    """Crops around the astronaut's eyes."""
    number = 0
    while True:
        number += 1
        yield _vary(rng, _around(rng, picture("astronaut"), ASTRONAUT_EYES[number % 2], 5, (30, 50)))


def _lines(rng: np.random.Generator, picture: Pictures) -> Iterator[Pixels]:
    """Single lines of text: printed ones out of `page`, drawn ones on paper-like and photographed grounds."""
    while True:
        left, top, right, bottom = PAGE_LINES[int(rng.integers(len(PAGE_LINES)))]
        width = int(rng.integers(120, right - left))
        start = left + int(rng.integers(0, right - left - width + 1))
        yield _vary(rng, picture("page")[top:bottom, start : start + width], mirror=False)
        for _ in range(3):
            yield draw_line(rng, SENTENCES[int(rng.integers(len(SENTENCES)))], _ground(rng, picture))


def _turned_lines(rng: np.random.Generator, picture: Pictures) -> Iterator[Pixels]:
    """Lines of text, every other upside down."""
    for number, line in enumerate(_lines(rng, picture)):
        yield np.ascontiguousarray(line[::-1, ::-1]) if number % 2 else line


def _scenes(rng: np.random.Generator, picture: Pictures) -> Iterator[Pixels]:
    """Pictures with text in them: the page, and photographs with lines drawn across."""
    while True:
        yield _vary(rng, picture("page"), mirror=False)
        for _ in range(3):
            image = picture(PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))])
            scene = _vary(rng, _window(rng, image, (280, min(image.shape[:2]))))
            for _ in range(int(rng.integers(1, 5))):
                _paste(rng, scene, draw_line(rng, SENTENCES[int(rng.integers(len(SENTENCES)))], None))
            yield scene


MAKERS: dict[str, Callable[[np.random.Generator, Pictures], Iterator[Pixels]]] = {
    "blazeface-short": _windows,
    "blazeface-back": _windows,
    "blazeface-full": _windows,
    "blazeface-full-sparse": _windows,
    "face-landmark": _faces,
    "iris": _eyes,
    "ppocr-det": _scenes,
    "ppocr-cls": _turned_lines,
    "ppocr-rec": _lines,
    "efficientnet-lite0": _windows,
}
RECORDINGS = {"silero-vad": "beckett"}
"""Models that are calibrated with a whole recording."""


def draw_line(rng: np.random.Generator, text: str, ground: Pixels | None) -> Pixels:
    """One line of text in a stroke font of OpenCV, dark on ``ground`` (a plain light one where None)."""
    import cv2

    fonts = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
    font, scale, thick = fonts[int(rng.integers(len(fonts)))], float(rng.uniform(0.7, 1.3)), int(rng.integers(1, 3))
    (width, height), below = cv2.getTextSize(text, font, scale, thick)
    margin = int(rng.integers(3, 9))
    size = (width + 2 * margin, height + below + 2 * margin)
    line: Any = np.full((size[1], size[0], 3), int(rng.integers(190, 256)), np.uint8)
    if ground is not None:
        line = cv2.addWeighted(line, 0.7, cv2.resize(ground, size), 0.3, 0)
    ink = tuple(int(c) for c in rng.integers(0, 90, 3))
    cv2.putText(line, text, (margin, margin + height), font, scale, ink, thick, cv2.LINE_AA)
    return np.asarray(line, dtype=np.uint8)


def _paste(rng: np.random.Generator, scene: Pixels, line: Pixels) -> None:
    import cv2

    height, width = scene.shape[:2]
    fit = min(1.0, 0.9 * width / line.shape[1])
    line = np.asarray(cv2.resize(line, None, fx=fit, fy=fit), dtype=np.uint8)
    x = int(rng.integers(0, width - line.shape[1] + 1))
    y = int(rng.integers(0, height - line.shape[0] + 1))
    scene[y : y + line.shape[0], x : x + line.shape[1]] = line


def _ground(rng: np.random.Generator, picture: Pictures) -> Pixels | None:
    if rng.random() < 0.5:
        return None
    return _window(rng, picture(PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))]), (40, 200))


def _window(rng: np.random.Generator, image: Pixels, sizes: tuple[int, int]) -> Pixels:
    side = int(rng.integers(sizes[0], sizes[1] + 1))
    x = int(rng.integers(0, image.shape[1] - side + 1))
    y = int(rng.integers(0, image.shape[0] - side + 1))
    return image[y : y + side, x : x + side]


def _around(
    rng: np.random.Generator, image: Pixels, centre: tuple[int, int], spread: int, sizes: tuple[int, int]
) -> Pixels:
    side = int(rng.integers(*sizes))
    x = int(np.clip(centre[0] + rng.integers(-spread, spread + 1) - side // 2, 0, image.shape[1] - side))
    y = int(np.clip(centre[1] + rng.integers(-spread, spread + 1) - side // 2, 0, image.shape[0] - side))
    return image[y : y + side, x : x + side]


def _vary(rng: np.random.Generator, image: Pixels, *, mirror: bool = True) -> Pixels:
    import cv2

    lit: Any = cv2.convertScaleAbs(image, alpha=float(rng.uniform(0.6, 1.3)), beta=float(rng.uniform(-20, 30)))
    if mirror and rng.random() < 0.5:
        lit = lit[:, ::-1]
    return np.ascontiguousarray(lit, dtype=np.uint8)
