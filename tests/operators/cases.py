"""The ONNX project's own operator tests, lowered to TFLite and run in LiteRT."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

HAVE = frozenset({"float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"})
"""Types of tensors that are brought into TFLite (float16 and int64 computed as float32 and int32)."""


OF_PARAMETERS = frozenset(
    {
        "BlackmanWindow", "ConstantOfShape", "EyeLike", "HammingWindow", "HannWindow", "MelWeightMatrix", "Range",
        "OptionalHasElement",
    }
)  # fmt: skip
"""Operators whose inputs all say what to make: they are judged with constant inputs, as models have them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    case: str
    op: str
    status: str
    """``pass``; ``dtype``: a type that TFLite has no kernels for; ``refused``: NotExpressibleError; ``wrong``: other numbers;
    ``fails``: any other exception; ``crash``."""
    detail: str = ""


@cache
def _cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow and divide by zero on purpose
        found = collect_testcases(None)
    return {case.name: case for case in found if case.kind == "node"}


def names(*, op: str | None = None) -> list[str]:
    """Cases of one node each: the others spell an operator out as a function, which the first of them tests as one."""
    return [
        name
        for name, case in _cases().items()
        if len(case.model.graph.node) == 1 and op in (None, case.model.graph.node[0].op_type)
    ]


def op_of(name: str) -> str:
    """Operator of a case; those of other domains with it."""
    node = _cases()[name].model.graph.node[0]
    return str(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)


def run(name: str) -> Outcome:
    """Lower one case and compare, with its parameters as inputs, else with them as constants."""
    case, op = _cases()[name], op_of(name)
    if reason := _foreign(case):
        return Outcome(name, op, "dtype", reason)
    outcome = Outcome(name, op, "refused")
    for bake in (False, True, None) if op in OF_PARAMETERS else (False, True):
        try:
            outcome = _attempt(name, op, case, bake=bake)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what this looks for
            outcome = Outcome(name, op, "fails", f"{type(error).__name__}: {error}".splitlines()[0][:200])
        if outcome.status == "pass":
            break
    return outcome


def run_all(chosen: list[str], *, workers: int = 2) -> Iterator[Outcome]:
    """Run many, each in a process that may die of it."""
    left = list(chosen)
    while left:
        with ProcessPoolExecutor(workers) as pool:
            futures = [(name, pool.submit(run, name)) for name in left]
            try:
                for name, future in futures:
                    yield future.result(timeout=300)
                    left.remove(name)
            except BrokenProcessPool:
                # One of those in flight did it: each of them gets a process of its own.
                for name in left[: 2 * workers]:
                    yield _alone(name)
                left = left[2 * workers :]


def _alone(name: str) -> Outcome:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(run, name).result(timeout=300)
        except BrokenProcessPool:
            return Outcome(name, op_of(name), "crash", "the process died")


def _foreign(case: Any) -> str:
    graph = case.model.graph
    for value in (*graph.input, *graph.output):
        kind = value.type
        if not kind.HasField("tensor_type"):
            return f"{value.name} is a {kind.WhichOneof('value')}"
        try:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)).name
        except (KeyError, TypeError):
            dtype = onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()
        if dtype not in HAVE:
            return f"{value.name} is {'string' if dtype == 'object' else dtype}"
    for value in (*case.data_sets[0][0], *case.data_sets[0][1]):
        if not isinstance(value, (list, dict)) and value is not None and _array(value).size == 0:
            return "a tensor has no elements"
    return ""


def _attempt(name: str, op: str, case: Any, *, bake: bool | None) -> Outcome:
    from edgesdk.errors import NotExpressibleError
    from edgesdk_converters.tflite.lower import lower
    from edgesdk_converters.variants.open import open_tflite

    given, expected = case.data_sets[0]
    model, feed = _static(case.model, [_array(value) for value in given], bake=bake)
    try:
        content = lower(model, name=name)
        names = (tuple(v.name for v in model.graph.input), tuple(v.name for v in model.graph.output))
        got = open_tflite(content, name, *names).run(feed)
    except NotExpressibleError as error:
        return Outcome(name, op, "refused", "; ".join(node.reason for node in error.nodes))
    for wanted, found in zip(expected, got, strict=True):
        reason = _differs(_array(wanted), np.asarray(found), case)
        if reason:
            return Outcome(name, op, "wrong", reason)
    return Outcome(name, op, "pass", "its parameters constant" if bake is not False else "")


def _array(value: Any) -> Array:
    return np.asarray(numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)


def _static(model: onnx.ModelProto, given: list[Array], *, bake: bool | None) -> tuple[onnx.ModelProto, list[Array]]:
    """Shapes from the data; with ``bake`` all inputs but the first are constant, with None all of them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inputs, feed = list(copy.graph.input), []
    del copy.graph.input[:]
    for index, (value, array) in enumerate(zip(inputs, given, strict=True)):
        if bake is None or (bake and index > 0):
            copy.graph.initializer.append(numpy_helper.from_array(array, value.name))
            continue
        copy.graph.input.append(
            helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, array.shape)
        )
        feed.append(array)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return copy, feed


def _differs(wanted: Array, found: Array, case: Any) -> str:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return f"{found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
    rtol, atol = max(case.rtol, 1e-3), max(case.atol, 1e-6)
    if wanted.dtype == np.float16:
        atol = max(atol, 1e-3)
    if wanted.dtype.kind == "f":
        same = np.allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)
    else:
        same = np.array_equal(found, wanted)
    return "" if same else f"other numbers: {found.reshape(-1)[:4]}, expected {wanted.reshape(-1)[:4]}"
