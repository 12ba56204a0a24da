"""Running TFLite bytes in LiteRT, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Run = Callable[[bytes, NDArray[Any]], list[NDArray[Any]]]


@pytest.fixture(scope="session")
def litert() -> Run:
    """``litert(content, x)``: the outputs of a model with one input, in its own order."""
    from ai_edge_litert.interpreter import Interpreter

    def run(content: bytes, x: NDArray[Any]) -> list[NDArray[Any]]:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return [np.array(interpreter.get_tensor(o["index"])) for o in interpreter.get_output_details()]

    return run
