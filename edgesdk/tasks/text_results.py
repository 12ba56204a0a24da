"""Typed results of the text tasks.

A quad is four corners (4, 2), x and y in picture pixels, clockwise from the text's upper left: top left, top right,
bottom right, bottom left as somebody reads it, so text that stands on its head begins at the lower right. Coordinates as in
`edgesdk.tasks.results`. Scores are 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.tasks.results import check_array, check_equal_lengths, check_finite, rounded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextRegions:
    """Where text is, in reading order: rows from top to bottom, within a row from left to right."""

    kind: ClassVar[str] = "text_regions"

    quads: NDArray[np.float32]
    """(n, 4, 2), inside the picture. Which way up the text stands is not known yet: each begins at its own upper left."""
    scores: NDArray[np.float32]
    """(n,): mean text probability inside."""
    picture_size_wh: tuple[int, int]
    """Width and height, pixels, of the picture that the coordinates belong to."""

    def __post_init__(self) -> None:
        check_array("TextRegions", "quads", self.quads, dtype=np.float32, shape=(None, 4, 2))
        check_array("TextRegions", "scores", self.scores, dtype=np.float32, shape=(None,))
        check_equal_lengths("TextRegions", quads=len(self.quads), scores=len(self.scores))

    def __len__(self) -> int:
        return len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "picture_size_wh", "regions": [{"quad", "score"}]}``."""
        rows = zip(rounded(self.quads, 1), rounded(self.scores, 4), strict=True)
        return {
            "kind": self.kind,
            "picture_size_wh": list(self.picture_size_wh),
            "regions": [{"quad": quad, "score": score} for quad, score in rows],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Which way up a picture of a text line is."""

    kind: ClassVar[str] = "text_direction"

    degrees: int
    """0 is upright; 180 stands on its head. Turn the picture by this much to read it."""
    score: float

    def __post_init__(self) -> None:
        check_finite("Direction", "score", self.score)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "degrees", "score"}``."""
        return {"kind": self.kind, "degrees": self.degrees, "score": round(self.score, 4)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextLine:
    """One line of text."""

    kind: ClassVar[str] = "text_line"

    text: str
    """Unicode; empty where nothing was read."""
    score: float
    """Mean probability of its characters; 0 where there are none."""
    quad: NDArray[np.float32]
    """(4, 2); the whole picture where a picture of one line was read."""

    def __post_init__(self) -> None:
        check_finite("TextLine", "score", self.score)
        check_array("TextLine", "quad", self.quad, dtype=np.float32, shape=(4, 2))

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "text", "score", "quad"}``."""
        return {
            "kind": self.kind,
            "text": self.text,
            "score": round(self.score, 4),
            "quad": rounded(self.quad, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """The text of a picture, in reading order as in `TextRegions`; columns are not told apart."""

    kind: ClassVar[str] = "text"

    lines: tuple[TextLine, ...]
    picture_size_wh: tuple[int, int]
    """Width and height, pixels, of the picture that the coordinates belong to."""

    @property
    def text(self) -> str:
        """All lines, with a line feed between them."""
        return "\n".join(line.text for line in self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "picture_size_wh", "lines": [{"text", "score", "quad"}]}``."""
        lines = [line.to_json() for line in self.lines]
        for line in lines:
            del line["kind"]
        return {"kind": self.kind, "picture_size_wh": list(self.picture_size_wh), "lines": lines}
