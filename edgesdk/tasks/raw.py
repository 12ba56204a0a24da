"""Task `raw`: arrays (or pictures) in, the model's outputs out as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, ConstantInput, Contract, ImageInput, InputSpec, StateInput, TensorInput
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Picture, Sample, Tensors
from edgesdk.tasks.api import Run
from edgesdk.tasks.inputs import constant
from edgesdk.tasks.options import TaskOptions, read_options
from edgesdk.tasks.outputs import check_outputs
from edgesdk.tasks.results import RawResult

Array = NDArray[Any]


class RawOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`raw` has no options."""


class RawTask:
    """Runs a model whose meaning nobody stated.

    `Tensors` name the inputs of kind ``tensor``; a `Picture` goes to the one input of kind ``image``. States start at zero,
    follow the outputs that the contract names, and are forgotten by :meth:`reset`.
    """

    Options: ClassVar[type[TaskOptions]] = RawOptions

    def __init__(self, contract: Contract) -> None:
        """Check the contract.

        Raises:
            TaskError: An input of kind ``audio`` (`raw` cuts no chunks), more than one picture, or a state that names an
                output that is not there.
        """
        self.contract = contract
        read_options(contract, RawOptions)
        self._preprocess: Any = None
        self._image = -1
        self._fixed: dict[int, Array] = {}
        self._states: dict[int, int] = {}
        names = [spec.name for spec in contract.outputs]
        for index, spec in enumerate(contract.inputs):
            source = spec.source
            if isinstance(source, AudioInput):
                raise TaskError(
                    f"task 'raw': input {spec.name!r} is of kind audio. Name the task that cuts the chunks "
                    "(for example voice-activity), or make the input kind 'tensor'."
                )
            if isinstance(source, ImageInput):
                self._add_image(index, spec)
            elif isinstance(source, ConstantInput):
                self._fixed[index] = constant(spec)
            elif isinstance(source, StateInput):
                if source.from_output not in names:
                    raise TaskError(
                        f"task 'raw': state input {spec.name!r} follows output {source.from_output!r}, which is not "
                        f"there. Outputs: {', '.join(names)}."
                    )
                self._states[index] = names.index(source.from_output)
        self._state_values: dict[int, Array] = {}
        self.reset()

    def _add_image(self, index: int, spec: InputSpec) -> None:
        if self._image >= 0:
            other = self.contract.inputs[self._image].name
            raise TaskError(
                f"task 'raw': inputs {other!r} and {spec.name!r} are both of kind image, a sample is one picture. "
                "Make them kind 'tensor' and pass both as Tensors."
            )
        from edgesdk.tasks.vision.preprocess import ImagePreprocessor  # needs OpenCV; arrays do not

        self._image, self._preprocess = index, ImagePreprocessor(spec)

    def __call__(self, run: Run, sample: Sample) -> RawResult:
        """One inference.

        Raises:
            TaskError: An array is missing, is not an input, or has another shape or dtype than the contract.
        """
        outputs = run(self._feed(sample, self._state_values))
        check_outputs(self.contract, outputs)
        for index, output in self._states.items():
            self._state_values[index] = outputs[output]
        return RawResult(
            arrays={spec.name: output for spec, output in zip(self.contract.outputs, outputs, strict=True)}
        )

    def feeds(self, sample: Sample) -> list[list[Array]]:
        """The inputs of the one inference; states are zeros."""
        return [[np.array(array) for array in self._feed(sample, self._zeros())]]

    def reset(self) -> None:
        """Set the states to zero."""
        self._state_values = self._zeros()

    def _zeros(self) -> dict[int, Array]:
        inputs = self.contract.inputs
        return {index: np.zeros(inputs[index].shape, np.dtype(inputs[index].dtype)) for index in self._states}

    def _feed(self, sample: Sample, states: dict[int, Array]) -> Sequence[Array]:
        if isinstance(sample, Audio):
            raise TaskError(
                f"task 'raw' got Audio ({sample.uri or 'no uri'}), it takes Tensors or a Picture. "
                "Pass Tensors(arrays={...}) with the model's input names."
            )
        arrays = sample.arrays if isinstance(sample, Tensors) else {}
        known = [spec.name for spec in self.contract.inputs if isinstance(spec.source, TensorInput | ImageInput)]
        unknown = sorted(set(arrays) - set(known))
        if unknown:
            raise TaskError(
                f"task 'raw': {', '.join(map(repr, unknown))} is no input that takes an array. "
                f"Those are: {', '.join(known) or 'none'}."
            )
        feed: list[Array] = []
        for index, spec in enumerate(self.contract.inputs):
            if index in self._fixed:
                feed.append(self._fixed[index])
            elif index in states:
                feed.append(states[index])
            elif index == self._image and isinstance(sample, Picture):
                feed.append(self._preprocess(sample)[0])
            else:
                feed.append(_array_for(spec, arrays, sample))
        return feed


def _array_for(spec: InputSpec, arrays: dict[str, Array], sample: Sample) -> Array:
    wanted = f"{spec.dtype} {spec.shape}"
    if spec.name not in arrays:
        raise TaskError(
            f"task 'raw': no array for input {spec.name!r} ({wanted}) in this {type(sample).__name__} "
            f"({sample.uri or 'no uri'}; it has: {', '.join(sorted(arrays)) or 'none'}). Name npz keys like the inputs."
        )
    array = arrays[spec.name]
    if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
        raise TaskError(
            f"task 'raw': array for input {spec.name!r} is {array.dtype} {array.shape}, the model takes {wanted}. "
            f"Convert it: array.astype({spec.dtype!r}).reshape({spec.shape})."
        )
    return array
