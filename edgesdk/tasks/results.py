"""Typed results of the vision tasks and of `raw`.

Coordinates are picture pixels: x to the right, y down, (0, 0) the upper left corner of the upper left pixel, so a
picture 640 wide ends at x = 640. Boxes are ``xyxy``: left, top, right, bottom. Scores are 0..1.

``to_json`` rounds coordinates to 0.1 pixel and scores to 0.0001, and always says its ``kind``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TaskError

Array = NDArray[Any]

SMALL_ARRAY = 64
"""Elements up to which `RawResult.to_json` writes an array out; a larger one is summarised."""

FACE_KEYPOINTS = ("right_eye", "left_eye", "nose_tip", "mouth", "right_ear", "left_ear")
"""Meaning of the six keypoints of `Faces`, in order; right and left are the person's own."""


def check_array(owner: str, name: str, array: Array, *, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Refuse an array of another dtype or shape (None in ``shape`` is any length), or with NaN or infinity in it.

    JSON has no NaN: a payload with one would be refused by every consumer.

    Raises:
        TaskError: Names the result, the field, what was got and what was expected.
    """
    fits = len(array.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
        raise TaskError(
            f"{owner}.{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} ({wanted}). "
            "Cast and reshape it where it is decoded."
        )
    if array.dtype.kind == "f":
        check_finite(owner, name, array)


def check_finite(owner: str, name: str, values: Array | float) -> None:
    """Refuse NaN and infinity.

    Raises:
        TaskError: Names the result and the field.
    """
    if not np.isfinite(values).all():
        raise TaskError(
            f"{owner}.{name} holds NaN or infinity: the model's outputs are broken. Compare the variant with its source "
            "(edgesdk convert does), or run a variant of higher precision."
        )


def check_equal_lengths(owner: str, **lengths: int) -> None:
    """Refuse fields of unequal length.

    Raises:
        TaskError: Names every field with its length.
    """
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TaskError(f"{owner}: fields of unequal length: {found}. Each row of every field is one item.")


def rounded(array: Array, decimals: int) -> list[Any]:
    """``array`` as nested lists of floats with ``decimals`` decimals (in float64, so that 0.1 prints as 0.1)."""
    listed: list[Any] = np.round(np.asarray(array, np.float64), decimals).tolist()
    return listed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classification:
    """The best classes of a picture, best first."""

    kind: ClassVar[str] = "classification"
    class_ids: NDArray[np.int64]
    """(k,), descending by score."""
    scores: NDArray[np.float32]
    """(k,), 0..1 unless the task's option ``activation`` is ``none``."""
    labels: tuple[str, ...]
    """k names; ``class <id>`` where the bundle has no labels."""

    def __post_init__(self) -> None:
        check_array("Classification", "class_ids", self.class_ids, dtype=np.int64, shape=(None,))
        check_array("Classification", "scores", self.scores, dtype=np.float32, shape=(None,))
        check_equal_lengths(
            "Classification", class_ids=len(self.class_ids), scores=len(self.scores), labels=len(self.labels)
        )

    @classmethod
    def empty(cls) -> Classification:
        """No class."""
        return cls(class_ids=np.empty(0, np.int64), scores=np.empty(0, np.float32), labels=())

    def __len__(self) -> int:
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "classes": [{"class_id", "label", "score"}]}``, best first."""
        rows = zip(self.class_ids.tolist(), self.labels, rounded(self.scores, 4), strict=True)
        return {
            "kind": self.kind,
            "classes": [{"class_id": class_id, "label": label, "score": score} for class_id, label, score in rows],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """Objects in a picture, best first."""

    kind: ClassVar[str] = "detections"
    xyxy: NDArray[np.float32]
    """(n, 4) left, top, right, bottom; picture pixels, inside the picture."""
    scores: NDArray[np.float32]
    """(n,), 0..1, descending."""
    class_ids: NDArray[np.int64]
    """(n,)"""
    labels: tuple[str, ...]
    """n names; ``class <id>`` where the bundle has no labels."""
    picture_size_wh: tuple[int, int]
    """Width and height, pixels, of the picture that the coordinates belong to."""

    def __post_init__(self) -> None:
        check_array("Detections", "xyxy", self.xyxy, dtype=np.float32, shape=(None, 4))
        check_array("Detections", "scores", self.scores, dtype=np.float32, shape=(None,))
        check_array("Detections", "class_ids", self.class_ids, dtype=np.int64, shape=(None,))
        check_equal_lengths(
            "Detections",
            xyxy=len(self.xyxy),
            scores=len(self.scores),
            class_ids=len(self.class_ids),
            labels=len(self.labels),
        )

    @classmethod
    def empty(cls, picture_size_wh: tuple[int, int]) -> Detections:
        """Nothing found."""
        return cls(
            xyxy=np.empty((0, 4), np.float32),
            scores=np.empty(0, np.float32),
            class_ids=np.empty(0, np.int64),
            labels=(),
            picture_size_wh=picture_size_wh,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "picture_size_wh", "objects": [{"class_id", "label", "score", "xyxy"}]}``, best first."""
        rows = zip(self.class_ids.tolist(), self.labels, rounded(self.scores, 4), rounded(self.xyxy, 1), strict=True)
        return {
            "kind": self.kind,
            "picture_size_wh": list(self.picture_size_wh),
            "objects": [
                {"class_id": class_id, "label": label, "score": score, "xyxy": xyxy}
                for class_id, label, score, xyxy in rows
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Faces:
    """Faces in a picture, best first."""

    kind: ClassVar[str] = "faces"
    xyxy: NDArray[np.float32]
    """(n, 4) left, top, right, bottom; picture pixels, inside the picture."""
    scores: NDArray[np.float32]
    """(n,), 0..1, descending."""
    keypoints: NDArray[np.float32]
    """(n, 6, 2) x, y; picture pixels, possibly outside the picture; order: `FACE_KEYPOINTS`."""
    picture_size_wh: tuple[int, int]
    """Width and height, pixels, of the picture that the coordinates belong to."""

    def __post_init__(self) -> None:
        check_array("Faces", "xyxy", self.xyxy, dtype=np.float32, shape=(None, 4))
        check_array("Faces", "scores", self.scores, dtype=np.float32, shape=(None,))
        check_array("Faces", "keypoints", self.keypoints, dtype=np.float32, shape=(None, 6, 2))
        check_equal_lengths("Faces", xyxy=len(self.xyxy), scores=len(self.scores), keypoints=len(self.keypoints))

    @classmethod
    def empty(cls, picture_size_wh: tuple[int, int]) -> Faces:
        """No face."""
        return cls(
            xyxy=np.empty((0, 4), np.float32),
            scores=np.empty(0, np.float32),
            keypoints=np.empty((0, 6, 2), np.float32),
            picture_size_wh=picture_size_wh,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "picture_size_wh", "faces": [{"score", "xyxy", "keypoints": {name: [x, y]}}]}``, best first."""
        rows = zip(rounded(self.scores, 4), rounded(self.xyxy, 1), rounded(self.keypoints, 1), strict=True)
        return {
            "kind": self.kind,
            "picture_size_wh": list(self.picture_size_wh),
            "faces": [
                {"score": score, "xyxy": xyxy, "keypoints": dict(zip(FACE_KEYPOINTS, points, strict=True))}
                for score, xyxy, points in rows
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceKeypoints:
    """The mesh of one face (or one eye)."""

    kind: ClassVar[str] = "face_keypoints"
    points: NDArray[np.float32]
    """(p, 2) x, y; picture pixels. p is 468 for a face (numbering of MediaPipe's face mesh), 76 for an eye (71 of its
    contour and brow, then the iris: centre, left, top, right, bottom), and 0 where the presence is below the threshold."""
    depth: NDArray[np.float32]
    """(p,) relative depth in the scale of x; negative is nearer to the camera."""
    score: float
    """Presence of a face, 0..1."""
    picture_size_wh: tuple[int, int]
    """Width and height, pixels, of the picture that the coordinates belong to."""

    def __post_init__(self) -> None:
        check_array("FaceKeypoints", "points", self.points, dtype=np.float32, shape=(None, 2))
        check_array("FaceKeypoints", "depth", self.depth, dtype=np.float32, shape=(None,))
        check_equal_lengths("FaceKeypoints", points=len(self.points), depth=len(self.depth))
        if not 0.0 <= self.score <= 1.0:
            raise TaskError(
                f"FaceKeypoints.score is {self.score}, expected 0..1. Apply the sigmoid where it is decoded."
            )

    @classmethod
    def empty(cls, picture_size_wh: tuple[int, int], score: float = 0.0) -> FaceKeypoints:
        """No face; ``score`` says how sure."""
        return cls(
            points=np.empty((0, 2), np.float32),
            depth=np.empty(0, np.float32),
            score=score,
            picture_size_wh=picture_size_wh,
        )

    def __len__(self) -> int:
        return len(self.points)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "picture_size_wh", "score", "points": [[x, y], ...]}``; the depth stays on the board."""
        return {
            "kind": self.kind,
            "picture_size_wh": list(self.picture_size_wh),
            "score": round(float(self.score), 4),
            "points": rounded(self.points, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawResult:
    """The outputs of a model as they are, by name."""

    kind: ClassVar[str] = "raw"
    arrays: dict[str, Array] = field(default_factory=dict)
    """Shapes and dtypes of the contract's outputs; not dequantized."""

    @classmethod
    def empty(cls) -> RawResult:
        """No outputs."""
        return cls()

    def __len__(self) -> int:
        return len(self.arrays)

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "outputs": {name: {"shape", "dtype", ...}}}``.

        An array of at most `SMALL_ARRAY` elements adds ``values`` (nested lists, not-finite numbers as null); a larger one
        adds ``min``, ``max``, ``mean``, ``std`` over its finite values (null if there are none) and ``not_finite``, their
        number; a vector-like one (all axes but one are 1) also ``argmax``, the index of its maximum.
        """
        return {"kind": self.kind, "outputs": {name: _array_json(array) for name, array in self.arrays.items()}}


def _array_json(array: Array) -> dict[str, Any]:
    described: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size <= SMALL_ARRAY:
        described["values"] = _plain(array.tolist())
        return described
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.reshape(-1)
    for name in ("min", "max", "mean", "std"):
        described[name] = float(f"{getattr(finite.astype(np.float64), name)():.6g}") if finite.size else None
    described["not_finite"] = int(array.size - finite.size)
    if max(array.shape) == array.size and finite.size == array.size:
        described["argmax"] = int(np.argmax(array))
    return described


def _plain(value: Any) -> Any:
    """Replace NaN and infinities by None; floats keep six significant digits, what float32 holds."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
