"""What every session has: its boundary, read-only."""

from __future__ import annotations

from edgesdk.backends.api import TensorInfo


class Boundary:
    """Base of sessions: the tensors and the description that the protocol asks for."""

    _inputs: tuple[TensorInfo, ...]
    _outputs: tuple[TensorInfo, ...]
    _description: str

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """In the order that ``run`` takes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """In the order that ``run`` returns."""
        return self._outputs

    @property
    def description(self) -> str:
        """Runtime, accelerator and threads in words."""
        return self._description
