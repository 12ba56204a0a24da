"""What the vision tasks share: one picture in, one inference, one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ConstantInput, Contract, ImageInput
from edgesdk.errors import TaskError
from edgesdk.samples import Picture, Sample
from edgesdk.tasks.api import Result, Run
from edgesdk.tasks.inputs import constant
from edgesdk.tasks.options import TaskOptions, read_options
from edgesdk.tasks.outputs import check_outputs, dequantize
from edgesdk.tasks.vision.placement import Placement, Region
from edgesdk.tasks.vision.preprocess import ImagePreprocessor

Array = NDArray[Any]
OptionsT = TypeVar("OptionsT", bound=TaskOptions)
ResultT = TypeVar("ResultT", bound=Result)


class PictureTask(Generic[OptionsT, ResultT]):
    """Base of the tasks that take one picture, infer once, and decode the outputs.

    A subclass names its ``Options`` type, checks shapes in :meth:`prepare`, and decodes in :meth:`decode`.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(self, contract: Contract) -> None:
        """Check the contract and allocate the input arrays.

        Raises:
            TaskError: Options, inputs, outputs or labels do not fit this task.
            MissingExtraError: OpenCV is not installed.
        """
        self.contract = contract
        self.options: OptionsT = read_options(contract, self.Options)  # type: ignore[assignment]  # a ClassVar cannot name the type variable
        images = [index for index, spec in enumerate(contract.inputs) if isinstance(spec.source, ImageInput)]
        others = [spec for spec in contract.inputs if not isinstance(spec.source, ImageInput | ConstantInput)]
        if len(images) != 1 or others:
            found = ", ".join(f"{spec.name} ({type(spec.source).__name__})" for spec in contract.inputs) or "none"
            raise TaskError(
                f"task {contract.task!r} takes one input of kind image, and constants; the contract's inputs are: {found}. "
                "Correct the kinds in the model spec, or use task 'raw'."
            )
        self.preprocess = ImagePreprocessor(contract.inputs[images[0]])
        self._image = images[0]
        self._fixed = [constant(spec) if isinstance(spec.source, ConstantInput) else None for spec in contract.inputs]
        self.prepare()

    def prepare(self) -> None:
        """Check outputs, labels and options; compute what depends on them alone.

        Raises:
            TaskError: They do not fit.
        """
        raise NotImplementedError

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> ResultT:
        """Outputs, dequantized, in the contract's order and shapes, into the typed result."""
        raise NotImplementedError

    def region(self, picture: Picture) -> Region | None:  # noqa: ARG002 - subclasses look at the picture
        """The part of the picture to take; None is all of it."""
        return None

    def __call__(self, run: Run, sample: Sample) -> ResultT:
        """Pre-process, infer, decode.

        Raises:
            TaskError: The sample is no picture or of an unusable pixel format, or the outputs' shapes are not the contract's.
        """
        feed, placement = self._feed(sample)
        outputs = run(feed)
        check_outputs(self.contract, outputs)
        real = [dequantize(output, spec) for output, spec in zip(outputs, self.contract.outputs, strict=True)]
        return self.decode(real, placement)

    def feeds(self, sample: Sample) -> list[list[Array]]:
        """Copies of the input arrays of the one inference."""
        return [[np.array(array) for array in self._feed(sample)[0]]]

    def reset(self) -> None:
        """Nothing to forget: every picture stands alone."""

    def _feed(self, sample: Sample) -> tuple[list[Array], Placement]:
        if not isinstance(sample, Picture):
            raise TaskError(
                f"task {self.contract.task!r} got {type(sample).__name__} ({sample.uri or 'no uri'}), it takes a Picture. "
                "Give it a picture file or a camera."
            )
        array, placement = self.preprocess(sample, self.region(sample))
        feed = [array if fixed is None else fixed for fixed in self._fixed]
        return feed, placement

    def refuse(self, expected: str, fix: str) -> TaskError:
        """An error that names the outputs' shapes and what this task expected."""
        found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.contract.outputs) or "none"
        return TaskError(f"task {self.contract.task!r}: outputs are {found}; expected {expected}. {fix}")
