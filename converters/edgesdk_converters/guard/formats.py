"""Whether two files of one quantization decide alike: ONNX and TFLite are to be one model, not two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk_converters.guard.fidelity import cut
from edgesdk_converters.guard.metrics.api import Decoder
from edgesdk_converters.guard.metrics.boxes import Boxes, boxes_of, match
from edgesdk_converters.guard.metrics.classes import class_vector

Array = NDArray[Any]
Decide = Callable[[Sequence[Array]], Any]

MIN_ALIKE = 0.99
"""Share of inputs on which both must decide alike; one miss is always allowed, as a dozen samples cannot say 99 %.

Both compute with the same integers. They part where a node stays in float: its last bit differs from runtime to runtime, tips a value over
to the next step once in ten thousand, and every layer behind it makes more of that.
"""


def decision_of(contract: Contract) -> Decide | None:
    """What an application would act on, from a model's outputs: its boxes, its text, its class; None where nothing is decided."""
    if contract.task in ("object-detection", "face-detection", "text-detection"):
        decode = Decoder(contract)
        return lambda outputs: boxes_of(decode(outputs))
    if contract.task == "text-recognition":
        read = Decoder(contract)
        return lambda outputs: getattr(read(outputs), "text", None)
    vector = class_vector(contract)
    if vector is None:
        return None
    index, branch = vector
    return lambda outputs: int(cut(outputs[index], branch).reshape(-1).argmax())


def same(a: Any, b: Any) -> bool:
    """Whether two decisions are one: equal, or as many boxes, each of which finds its partner."""
    if isinstance(a, Boxes) and isinstance(b, Boxes):
        return len(a) == len(b) == match(a, b)
    return bool(a == b)


class Alike:
    """Counts."""

    def __init__(self, contract: Contract) -> None:
        self._decide = decision_of(contract)
        self.samples = self.unlike = 0

    def add(self, a: Sequence[Array], b: Sequence[Array]) -> None:
        """The answers of both to one input, in the contract's order of outputs."""
        if self._decide is not None:
            self.samples += 1
            self.unlike += not same(self._decide(a), self._decide(b))

    def missed(self) -> str:
        """Empty, or in how many inputs they differ."""
        if self.unlike <= max(1.0, (1 - MIN_ALIKE) * self.samples):
            return ""
        return (
            f"ONNX and TFLite decide differently on {self.unlike} of {self.samples} inferences, expected at most "
            f"{100 * (1 - MIN_ALIKE):.0f} %: what stays in float rounds differently in each runtime"
        )
