"""Task `image-classification`: one vector of class scores per picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import OutputSpec
from edgesdk.errors import TaskError
from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.outputs import sigmoid, softmax
from edgesdk.tasks.results import Classification
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.labels import check_labels, names_of
from edgesdk.tasks.vision.placement import Placement


class ClassificationOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `image-classification`."""

    top_k: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Classes in the result; all of them where the model has fewer."""
    activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    """What turns the output into scores. ``auto`` takes a vector that already lies in 0..1 and sums to 1 as it is, and
    applies softmax to any other; ``sigmoid`` is for models with several true classes at once."""
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Classes below it are left out, 0..1."""


class ImageClassification(PictureTask[ClassificationOptions, Classification]):
    """Top-k classes of a picture. The model has one output with one axis longer than one: (1, C), (1, C, 1, 1) ..."""

    Options: ClassVar[type[TaskOptions]] = ClassificationOptions

    def prepare(self) -> None:
        """Find the number of classes and compare it with the labels."""
        outputs = self.contract.outputs
        if len(outputs) != 1 or int(np.prod(outputs[0].shape)) != max(outputs[0].shape, default=0):
            raise self.refuse(
                "one output (1, classes)", "Name the output with the class scores in the model spec, or use task 'raw'."
            )
        self.classes = max(outputs[0].shape)
        if self.classes == 1 and self.options.activation in {"auto", "softmax"}:
            raise self.refuse(
                "two classes or more, since softmax over one class is always 1",
                "Set option 'activation' to 'sigmoid' (the output is a logit) or 'none' (it is a probability).",
            )
        self._quantized_distribution = _holds_probabilities(outputs[0])
        check_labels(self.contract, self.classes, output=f"{outputs[0].name} {outputs[0].shape}")

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> Classification:
        """Scores of (classes,), the best ``top_k`` of them."""
        del placement
        scores = self._scores(outputs[0].reshape(-1))
        count = min(self.options.top_k, self.classes)
        best = np.argpartition(scores, self.classes - count)[self.classes - count :]
        best = best[np.argsort(-scores[best], kind="stable")]
        if self.options.score_threshold > 0:
            best = best[scores[best] >= self.options.score_threshold]
        return Classification(
            class_ids=best.astype(np.int64), scores=scores[best], labels=names_of(self.contract, best.tolist())
        )

    def _scores(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise TaskError(
                f"task {self.contract.task!r}: output {self.contract.outputs[0].name!r} holds NaN or infinity. "
                "Compare the variant with its source (edgesdk convert does), or run a variant of higher precision."
            )
        activation = self.options.activation
        if activation == "auto":
            is_distribution = self._quantized_distribution or (
                values.min() >= 0 and values.max() <= 1 and abs(float(values.sum()) - 1) < 0.01
            )
            activation = "none" if is_distribution else "softmax"
        if activation == "softmax":
            return softmax(values)
        return sigmoid(values) if activation == "sigmoid" else values


def _holds_probabilities(spec: OutputSpec) -> bool:
    """Whether a quantized output can only hold 0..1: a softmax in the graph (its int8 values need not sum to 1)."""
    parameters = spec.quantization
    if parameters is None or np.dtype(spec.dtype).kind not in "iu":
        return False
    limits = np.iinfo(spec.dtype)
    low, high = (parameters.scale[0] * (limit - parameters.zero_point[0]) for limit in (limits.min, limits.max))
    return low >= -1e-6 and high <= 1.001
