"""Tasks on the picture of one text line: `text-recognition` (CTC models such as PP-OCR's) and `text-direction`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TaskError
from edgesdk.extras import import_extra
from edgesdk.samples import Picture, Sample
from edgesdk.tasks.api import Array, Run
from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.outputs import check_outputs, dequantize, softmax
from edgesdk.tasks.results import check_finite
from edgesdk.tasks.text_results import Direction, TextLine
from edgesdk.tasks.vision import ctc
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.labels import check_labels
from edgesdk.tasks.vision.placement import Placement, Region


class TextRecognitionOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of task `text-recognition`."""

    blank_index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Class of CTC's blank."""
    activation: Literal["none", "softmax"] = "none"
    """``none`` where the model gives probabilities, ``softmax`` where it gives logits."""
    squeeze: Annotated[float, msgspec.Meta(ge=1, le=4)] = 1.1
    """Lines up to so many times wider than the input are squeezed into it; wider ones are read in windows."""
    overlap: Annotated[float, msgspec.Meta(gt=0, le=0.75)] = 0.25
    """Share of a window that the next one sees again: more than the widest character, which is as wide as it is high."""
    max_windows: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Windows per line; a line that needs more is squeezed into so many."""


class TextRecognition(PictureTask[TextRecognitionOptions, TextLine]):
    """Reads the picture of one line, of any width: the model's width is static, so a long line goes through in windows.

    Windows overlap, begin on the model's step grid, and are cut where both neighbours see a gap between characters. Lines of
    20 to 114 characters squeezed into 320 pixels instead: more than half of the characters wrong (PP-OCRv4, rendered pages);
    in windows: one in two thousand. The output is (1, T, C) with T a divisor of the input's width; for any other T, lines are
    squeezed.
    """

    Options: ClassVar[type[TaskOptions]] = TextRecognitionOptions

    def prepare(self) -> None:
        """Find steps and classes, build the alphabet."""
        outputs = self.contract.outputs
        shape = outputs[0].shape if len(outputs) == 1 else ()
        if len(shape) != 3 or shape[0] != 1:
            raise self.refuse(
                "one output (1, steps, classes)",
                "Name the character probabilities alone under `outputs:` of the model spec.",
            )
        image = self.preprocess.image
        if image.fit not in {"pad-right", "stretch"}:
            raise TaskError(
                f"task {self.contract.task!r}: input {self.preprocess.spec.name!r} is fitted by {image.fit!r}, expected "
                "'pad-right' or 'stretch'. Say `fit: pad-right` in the model spec."
            )
        self._steps, self._classes = shape[1:]
        self._characters = ctc.alphabet(self.contract, self._classes, self.options.blank_index)
        width = self.preprocess.size_wh[0]
        self._grid = width // self._steps if width % self._steps == 0 else 0
        self._overlap = 0
        if self._grid:
            wanted = max(1, round(self.options.overlap * self._steps))
            self._overlap = min(wanted, self._steps - 1) * self._grid
        if self._overlap == 0 or self._steps < 4 or image.fit == "stretch":
            self._grid = 0

    def __call__(self, run: Run, sample: Sample) -> TextLine:
        """Read one line.

        Raises:
            TaskError: The sample is no picture or of an unusable pixel format, or the output's shape is not the contract's, or
                it holds NaN or infinity.
        """
        windows: list[NDArray[np.float32]] = []
        starts: list[int] = []
        for feed, start in self._windows(sample):
            outputs = run(feed)
            check_outputs(self.contract, outputs)
            values = dequantize(outputs[0], self.contract.outputs[0])[0]
            # Before any arithmetic: the maximum of a step is NaN or infinity where one of its classes is.
            check_finite("TextLine", "score", values.max(axis=1))
            windows.append(softmax(values) if self.options.activation == "softmax" else values)
            starts.append(start)
        blank = self.options.blank_index
        whole = windows[0] if len(windows) == 1 else ctc.join(windows, starts, blank)
        text, score, _ = ctc.decode(whole, self._characters, blank)
        # PP-OCR reads the margins of a line as spaces.
        return TextLine(text=text.strip(), score=score, quad=_corners(sample))

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> TextLine:
        """Text of a single window."""
        raise NotImplementedError("a line may need several inferences: see __call__")

    def feeds(self, sample: Sample) -> list[list[Array]]:
        """Copies of the input arrays, one list per window."""
        return [[np.array(array) for array in feed] for feed, _ in self._windows(sample)]

    def _windows(self, sample: Sample) -> Iterator[tuple[list[Array], int]]:
        """Input arrays (valid until the next) and first step of each window."""
        width, height = self.preprocess.size_wh
        wide = self._level_width(sample)
        if not self._grid or wide <= width * self.options.squeeze:
            yield self._feed(sample)[0], 0
            return
        assert isinstance(sample, Picture)  # nothing else has a width
        wide = min(wide, width + (self.options.max_windows - 1) * (width - self._overlap))
        cv2 = import_extra("cv2", extra="vision", purpose="resizing pictures")
        level = cv2.resize(sample.pixels, (wide, height))
        for start in ctc.window_starts(wide, width, overlap=self._overlap, grid=self._grid):
            part = np.ascontiguousarray(level[:, start : start + width])
            yield self._feed(replace(sample, pixels=part))[0], start // self._grid

    def _level_width(self, sample: Sample) -> int:
        """Width of the line when it is as high as the input; 0 for what the pre-processing refuses."""
        if not isinstance(sample, Picture) or sample.pixels.ndim < 2 or not sample.pixels.size:
            return 0
        width, height = sample.size_wh
        return max(1, round(width * self.preprocess.size_wh[1] / height))


class TextDirectionOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of task `text-direction`."""

    activation: Literal["none", "softmax"] = "none"
    """``none`` where the model gives probabilities, ``softmax`` where it gives logits."""


class TextDirection(PictureTask[TextDirectionOptions, Direction]):
    """Which way up a line is. The labels are degrees as text; without labels the classes are 0 and 180."""

    Options: ClassVar[type[TaskOptions]] = TextDirectionOptions

    def prepare(self) -> None:
        """Read the degrees off the labels."""
        outputs = self.contract.outputs
        shape = outputs[0].shape if len(outputs) == 1 else ()
        if len(shape) != 2 or shape[0] != 1:
            raise self.refuse(
                "one output (1, classes)", "Name the class scores alone under `outputs:` of the model spec."
            )
        labels = self.contract.labels or ("0", "180")
        check_labels(self.contract, shape[1], output=f"{outputs[0].name} {shape}")
        if len(labels) != shape[1] or not all(label in {"0", "180"} for label in labels):
            raise TaskError(
                f"task {self.contract.task!r}: labels are {list(labels)} for {shape[1]} classes; expected '0' and '180', in the "
                "order of the classes. Correct `labels:` of the model spec."
            )
        self._degrees = tuple(int(label) for label in labels)

    def region(self, picture: Picture) -> Region | None:
        """The middle of a long line: squeezed as a whole, letters are too narrow to tell their head from their foot."""
        if picture.pixels.ndim < 2 or not picture.pixels.size:
            return None  # the pre-processing refuses it
        width, height = picture.size_wh
        model_width, model_height = self.preprocess.size_wh
        part = max(1, height * model_width // model_height)
        left = (width - part) // 2
        return (left, 0, left + part, height) if part < width else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> Direction:
        """The likelier class."""
        del placement
        values = outputs[0][0]
        check_finite("Direction", "score", values.max())
        scores = softmax(values) if self.options.activation == "softmax" else values
        best = int(scores.argmax())
        return Direction(degrees=self._degrees[best], score=float(scores[best]))


def _corners(sample: Sample) -> NDArray[np.float32]:
    assert isinstance(sample, Picture)  # _feed refused everything else
    width, height = sample.size_wh
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
