"""Cascade `text`: find lines, cut them out, turn them upright, read them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TaskError
from edgesdk.samples import Picture, Sample
from edgesdk.tasks.api import Result, Run, Task
from edgesdk.tasks.text_results import Direction, Text, TextLine, TextRegions
from edgesdk.tasks.vision.text_geometry import along_text, crop_quad, reading_order

DETECTION, DIRECTION, RECOGNITION = "text-detection", "text-direction", "text-recognition"


class TextReading:
    """Reads all text of a picture, one line after the other, with batch size 1 throughout.

    The parts may be anybody's tasks, as long as they give `TextRegions`, `Direction` and `TextLine`. Without a direction
    model a line is read upright first. Lines come back with their corners in the order in which they were read.
    """

    tasks: ClassVar[tuple[str, ...]] = (DETECTION, DIRECTION, RECOGNITION)
    optional: ClassVar[frozenset[str]] = frozenset({DIRECTION})
    min_direction_score: ClassVar[float] = 0.9
    """A line is turned only when the direction model is as sure as this (PP-OCR's value)."""
    sure_score: ClassVar[float] = 0.9
    """A line that was read with a lower score is also read the other way up. Of rendered lines, upright ones score 0.96 and more,
    those on their head at most 0.86 (PP-OCRv4)."""
    min_score: ClassVar[float] = 0.5
    """Lines that were read with a lower score are left out (PP-OCR's value)."""

    def __init__(self, parts: dict[str, Task]) -> None:
        """Take the parts by task name.

        Raises:
            TaskError: A part is missing.
        """
        missing = [name for name in self.tasks if name not in parts and name not in self.optional]
        if missing:
            raise TaskError(
                f"cascade 'text': got parts {sorted(parts)}, missing {', '.join(missing)}. "
                f"Load a bundle of each: {', '.join(self.tasks)} ({DIRECTION} is optional)."
            )
        self.parts = parts

    def __call__(self, runs: dict[str, Run], sample: Sample) -> Text:
        """Read a picture.

        Raises:
            TaskError: The sample is no picture, or a part gave another kind of result.
        """
        if not isinstance(sample, Picture):
            raise TaskError(
                f"cascade 'text' got {type(sample).__name__} ({sample.uri or 'no uri'}), it takes a Picture. "
                "Give it a picture file or a camera."
            )
        regions = self._part(DETECTION, runs, sample)
        if not isinstance(regions, TextRegions):
            raise _wrong(DETECTION, regions, TextRegions)
        lines: list[TextLine] = []
        for quad in regions.quads:
            line = self._read(runs, sample, along_text(quad))
            if line.text and line.score >= self.min_score:
                lines.append(line)
        # Only now it is known which way the text runs.
        order = reading_order(np.array([line.quad for line in lines], np.float32).reshape(-1, 4, 2))
        return Text(lines=tuple(lines[index] for index in order.tolist()), picture_size_wh=sample.size_wh)

    def reset(self) -> None:
        """Nothing is kept between pictures, unless a part does."""
        for part in self.parts.values():
            part.reset()

    def _read(self, runs: dict[str, Run], picture: Picture, corners: NDArray[np.float32]) -> TextLine:
        """One line, the way up that the direction model says; in doubt both ways, and the better one is taken."""
        crop = crop_quad(picture, corners)
        if DIRECTION in self.parts:
            direction = self._part(DIRECTION, runs, crop)
            if not isinstance(direction, Direction):
                raise _wrong(DIRECTION, direction, Direction)
            if direction.degrees == 180 and direction.score >= self.min_direction_score:
                corners = np.roll(corners, 2, axis=0)
                crop = crop_quad(picture, corners)
        line = self._recognise(runs, crop, corners)
        if line.score < self.sure_score:
            corners = np.roll(corners, 2, axis=0)
            other = self._recognise(runs, crop_quad(picture, corners), corners)
            line = max(line, other, key=lambda one: one.score)  # the first, where they are equal
        return line

    def _recognise(self, runs: dict[str, Run], crop: Picture, corners: NDArray[np.float32]) -> TextLine:
        line = self._part(RECOGNITION, runs, crop)
        if not isinstance(line, TextLine):
            raise _wrong(RECOGNITION, line, TextLine)
        return TextLine(text=line.text.strip(), score=line.score, quad=corners)

    def _part(self, name: str, runs: dict[str, Run], picture: Picture) -> Result:
        return self.parts[name](runs[name], picture)


def _wrong(name: str, got: Result, expected: type) -> TaskError:
    return TaskError(
        f"cascade 'text': part {name!r} gave {type(got).__name__}, expected {expected.__name__}. "
        f"Use a bundle whose task is {name!r}."
    )
