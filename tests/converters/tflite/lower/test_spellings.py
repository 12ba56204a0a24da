"""Operators that are spelled out in others, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite.lower import lower

Check = Callable[..., Any]


@pytest.mark.parametrize("op", ["Atan", "Asinh", "Shrink", "Hardmax"])
def test_function__agrees_with_onnx_runtime(check: Check, op: str) -> None:
    check(f"g (float[2,5] x) => (float[2,5] y) {{ y = {op}(x) }}")


def test_area_functions__keep_small_numbers(check: Check) -> None:
    x = np.asarray([[1e-6, -1e-5, 3e-4, 0.0]], np.float32)
    check("g (float[1,4] x) => (float[1,4] y) { y = Asinh(x) }", feeds={"x": x}, tolerance=1e-6)


def test_gather_elements__takes_computed_and_negative_positions(check: Check) -> None:
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "i": np.asarray([[0, -1, 2, 1]], np.int64)}
    check(
        "g (float[3,4] x, int64[1,4] i) => (float[1,4] y) { y = GatherElements<axis = 0>(x, i) }",
        feeds=feeds,
    )


def test_scatter_nd__puts_slices_in_place(check: Check) -> None:
    text = "g (float[4,3] x, int64[2,1] i, float[2,3] u) => (float[4,3] y) { y = ScatterND(x, i, u) }"
    feeds = {
        "x": np.ones((4, 3), np.float32),
        "i": np.asarray([[2], [0]], np.int64),
        "u": np.zeros((2, 3), np.float32),
    }
    check(text, feeds=feeds)


def test_trilu__is_a_constant_mask(check: Check) -> None:
    found = check("g (float[4,4] x) => (float[4,4] y) { y = Trilu<upper = 0>(x) }")
    assert set(found.codes) == {"SELECT_V2"}


def test_matmul_integer__beyond_what_float_adds_exactly_is_refused(onnx_graph: Callable[..., onnx.ModelProto]) -> None:
    model = onnx_graph("g (uint8[1,400] a, uint8[400,2] b) => (int32[1,2] y) { y = MatMulInteger(a, b) }")
    with pytest.raises(NotExpressibleError, match="400 products, which float32 rounds") as caught:
        lower(model)
    assert "DequantizeLinear" in str(caught.value)
