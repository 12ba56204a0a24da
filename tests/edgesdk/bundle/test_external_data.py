from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.helper as oh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgesdk.bundle import Bundle, Manifest, write_bundle
from edgesdk.bundle.external_data import check_self_contained
from edgesdk.errors import BundleError, BundleUnsafeError

FLOATS = oh.make_tensor_value_info("y", TensorProto.FLOAT, [2])


def outside(name: str = "w") -> TensorProto:
    tensor = onnx.numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    return tensor


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)])


def in_initializer() -> onnx.ModelProto:
    return model(oh.make_graph([oh.make_node("Identity", ["w"], ["y"])], "g", [], [FLOATS], [outside()]))


def in_attribute() -> onnx.ModelProto:
    return model(oh.make_graph([oh.make_node("Constant", [], ["y"], value=outside())], "g", [], [FLOATS]))


def in_subgraph() -> onnx.ModelProto:
    inner = oh.make_graph([oh.make_node("Constant", [], ["z"], value=outside())], "then", [], [FLOATS])
    node = oh.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return model(oh.make_graph([node], "g", [], [FLOATS]))


def in_sparse_initializer() -> onnx.ModelProto:
    graph = oh.make_graph([], "g", [], [FLOATS])
    graph.sparse_initializer.add().values.CopyFrom(outside())
    return model(graph)


def in_function() -> onnx.ModelProto:
    made = model(oh.make_graph([], "g", [], [FLOATS]))
    function = made.functions.add()
    function.node.add().CopyFrom(oh.make_node("Constant", [], ["y"], value=outside()))
    return made


def in_training_info() -> onnx.ModelProto:
    made = model(oh.make_graph([], "g", [], [FLOATS]))
    made.training_info.add().algorithm.initializer.append(outside())
    return made


def location_without_flag() -> onnx.ModelProto:
    made = in_initializer()
    made.graph.initializer[0].data_location = TensorProto.DEFAULT
    return made


PLACES = [
    in_initializer,
    in_attribute,
    in_subgraph,
    in_sparse_initializer,
    in_function,
    in_training_info,
    location_without_flag,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_onnx__external_data_is_refused(place: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(BundleUnsafeError, match=r"tensor 'w' has its data outside the model file.*onnx\.save"):
        check_self_contained(place().SerializeToString(), "onnx", where="a.edge: m.onnx")


def test_onnx__own_data_passes() -> None:
    weights = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "w")
    made = model(oh.make_graph([oh.make_node("Identity", ["w"], ["y"])], "g", [], [FLOATS], [weights]))
    check_self_contained(made.SerializeToString(), "onnx", where="m")


def test_bundle__with_external_data_is_neither_written_nor_opened_for_a_runtime(
    manifest: Callable[..., Manifest], tmp_path: Path, model_bytes: bytes
) -> None:
    evil = in_initializer().SerializeToString()
    with pytest.raises(BundleUnsafeError, match=r"data outside the model file"):
        write_bundle(tmp_path / "evil.edge", manifest(), {"model.onnx": evil})

    # Packed as a file that no variant names, and then named.
    write_bundle(tmp_path / "evil.edge", manifest(), {"model.onnx": model_bytes, "evil.onnx": evil})
    with Bundle.open(tmp_path / "evil.edge") as bundle:
        variant = msgspec.structs.replace(bundle.manifest.variants[0], file="evil.onnx")
        with pytest.raises(BundleUnsafeError, match=r"evil\.onnx: tensor 'w'"):
            bundle.model_file(variant)


def test_onnx__runtime_format_in_disguise() -> None:
    with pytest.raises(BundleUnsafeError, match=r"ONNX Runtime's own format, expected ONNX"):
        check_self_contained(b"\x20\0\0\0ORTM" + b"\0" * 50, "onnx", where="m")


def test_onnx__bottomless_nesting() -> None:
    content = b""
    for _ in range(200):  # graph -> node -> attribute -> graph ...
        for tag in (6, 5, 1):
            content = bytes([tag << 3 | 2]) + varint(len(content)) + content
    content = bytes([7 << 3 | 2]) + varint(len(content)) + content
    with pytest.raises(BundleUnsafeError, match=r"nested deeper than 100"):
        check_self_contained(content, "onnx", where="m")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x3a\x05abc", b"\xff" * 20, b"\x3b\x00"])
def test_onnx__no_model(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"ONNX model"):
        check_self_contained(content, "onnx", where="m")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_onnx__random_bytes_are_our_error_or_harmless(content: bytes) -> None:
    with contextlib.suppress(BundleError):
        check_self_contained(content, "onnx", where="m")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_onnx__no_mutation_hides_external_data_from_us_that_onnx_still_sees(data: st.DataObject) -> None:
    content = bytearray(in_subgraph().SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_self_contained(bytes(content), "onnx", where="m")
    except BundleError:
        return
    parsed = onnx.ModelProto()
    with contextlib.suppress(Exception):
        parsed.ParseFromString(bytes(content))
        assert not [t for t in tensors(parsed.graph) if t.external_data or t.data_location == TensorProto.EXTERNAL]


def tensors(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    found += tensors(inner)
    return found


def tflite(slots: list[int]) -> bytes:
    vtable = struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), 4, *slots)
    root = 8 + len(vtable)
    return struct.pack("<I4s", root, b"TFL3") + vtable + struct.pack("<i", len(vtable)) + b"\0" * 16


def test_tflite__own_buffers_pass() -> None:
    check_self_contained(tflite([4] * 8), "tflite", where="m")
    check_self_contained(tflite([4] * 8 + [0, 0]), "tflite", where="m")


@pytest.mark.parametrize("slot", [8, 9])
def test_tflite__external_buffers_are_refused(slot: int) -> None:
    slots = [0] * 10
    slots[slot] = 4
    with pytest.raises(BundleUnsafeError, match=r"buffers outside the model file.*without external buffers"):
        check_self_contained(tflite(slots), "tflite", where="m")


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0TFL3", b"\xff\xff\xff\xffTFL3", b"\x08\0\0\0TFL3\xff\xff\xff\x7f"])
def test_tflite__no_model(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"no TFLite model"):
        check_self_contained(content, "tflite", where="m")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_tflite__random_bytes_are_our_error_or_harmless(content: bytes) -> None:
    with contextlib.suppress(BundleError):
        check_self_contained(content[:4] + b"TFL3" + content[4:], "tflite", where="m")


def test_fake_model__is_carried_under_any_format() -> None:
    for model_format in ("onnx", "tflite"):
        check_self_contained(b'{"schema": "edgesdk.fake-model/1"}', model_format, where="m")


def test_fake_model__is_no_way_round_the_check() -> None:
    # A protobuf group that begins with '{', ends, and is followed by a graph: a parser that skips unknown groups
    # would load it.
    evil = b'{"\x01a|' + in_initializer().SerializeToString()
    with pytest.raises(BundleError, match=r"no ONNX model"):
        check_self_contained(evil, "onnx", where="m")
