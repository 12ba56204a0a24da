"""Old TFLite files, brought up to date without changing what they compute."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import ModelFormatError
from edgesdk_converters.tflite import flatbuffer
from edgesdk_converters.tflite.inspect import describe
from edgesdk_converters.tflite.normalize import normalize

OLD = ["blazeface-short", "blazeface-back", "blazeface-full", "face-landmark", "iris"]


@pytest.mark.zoo
@pytest.mark.parametrize("name", OLD)
def test_normalize__computes_what_the_source_computes(
    name: str, zoo: Callable[[str], Path], litert: Callable[..., list[np.ndarray]]
) -> None:
    source = zoo(name).read_bytes()
    result = normalize(source)
    x = np.random.default_rng(0).uniform(-1, 1, describe(source).inputs[0].shape).astype(np.float32)
    for before, after in zip(litert(source, x), litert(result, x), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.zoo
@pytest.mark.parametrize("name", OLD)
def test_normalize__leaves_no_old_ways(name: str, zoo: Callable[[str], Path]) -> None:
    result = normalize(zoo(name).read_bytes())
    model = flatbuffer.read(result)
    assert all(code.builtinCode >= code.deprecatedBuiltinCode for code in model.operatorCodes)
    assert "DEQUANTIZE" not in describe(result).counts
    assert describe(result).signatures == ("serving_default",)
    for graph in model.subgraphs:
        touched = {*flatbuffer.ids(graph.inputs), *flatbuffer.ids(graph.outputs), -1}
        for operator in graph.operators:
            touched.update(flatbuffer.ids(operator.inputs), flatbuffer.ids(operator.outputs))
        assert touched == set(range(-1, len(graph.tensors)))
    used = {0, *(t.buffer for g in model.subgraphs for t in g.tensors), *(m.buffer for m in model.metadata or [])}
    assert used == set(range(len(model.buffers)))


@pytest.mark.zoo
def test_normalize__again_changes_nothing(zoo: Callable[[str], Path]) -> None:
    once = normalize(zoo("blazeface-short").read_bytes())
    assert normalize(once) == once


def test_normalize__onnx_file_is_no_tflite_file() -> None:
    with pytest.raises(ModelFormatError, match=r"net.onnx: not a TFLite file.*Pass a .tflite flatbuffer"):
        normalize(b"\x08\x07\x12\x04" + bytes(100), name="net.onnx")


@pytest.mark.zoo
def test_normalize__truncated_file_says_so(zoo: Callable[[str], Path]) -> None:
    source = zoo("face-landmark").read_bytes()
    with pytest.raises(
        ModelFormatError, match=r"truncated or damaged \(50,000 bytes\): it refers to byte 2,.*download the file again"
    ):
        normalize(source[:50_000])


@pytest.mark.zoo
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read__damaged_files_never_crash(data: st.DataObject, zoo: Callable[[str], Path]) -> None:
    content = bytearray(zoo("blazeface-short").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ModelFormatError):
        describe(bytes(content[: data.draw(st.integers(0, len(content)))]))
