from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgesdk.errors import ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec


def read(path: Path) -> object:
    return read_source(path, ModelSpec())


def test_onnx__reads_inputs_and_metadata(tmp_path: Path, small: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(small, {"task": "detect"})
    onnx.save(small, tmp_path / "m.onnx")
    source = read_source(tmp_path / "m.onnx", ModelSpec())
    assert source.format == "onnx"
    assert [(t.name, t.shape, t.dtype) for t in source.inputs] == [("x", (1, 3, 16, 16), "float32")]
    assert source.metadata == {"task": "detect"}


def test_onnx__missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no such file\. Give a \.onnx or \.tflite file"):
        read(tmp_path / "none.onnx")


def test_onnx__empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"m\.onnx: is empty\. Download or export it again"):
        read(tmp_path / "m.onnx")


def test_onnx__truncated(tmp_path: Path, small: onnx.ModelProto) -> None:
    (tmp_path / "m.onnx").write_bytes(small.SerializeToString()[:2000])
    with pytest.raises(
        ModelFormatError, match=r"cut off \(2000 bytes do not parse as ONNX\)\. Compare its size.*download"
    ):
        read(tmp_path / "m.onnx")


def test_onnx__not_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"<html><body>404 not found</body></html>")
    with pytest.raises(ModelFormatError, match=r"is no ONNX (file|model).*download or export it again"):
        read(tmp_path / "m.onnx")


def test_onnx__unknown_format(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"\x80\x04junk")
    with pytest.raises(ModelFormatError, match=r"m\.bin: is no model that can be read here.*Give a \.onnx or \.tflite"):
        read(tmp_path / "m.bin")


def test_frontend__a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFormatError, match=r"is a folder, expected a model file, or a TensorFlow SavedModel.*Give a \.onnx"
    ):
        read(tmp_path)


def test_frontend__path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"cannot be read: File name too long\. Give the path of a model file"):
        read(tmp_path / ("long" * 99 + ".onnx"))


def test_onnx__is_tflite(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 40)
    with pytest.raises(ModelFormatError, match=r"is a TFLite model, not ONNX\. Rename it to \.tflite"):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [5, 9999])
def test_onnx__unsupported_opset(tmp_path: Path, small: onnx.ModelProto, opset: int) -> None:
    small.opset_import[0].version = opset
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(ModelFormatError, match=rf"has opset {opset}, expected 7 to \d+.*Export it again with opset 17"):
        read(tmp_path / "m.onnx")


def test_onnx__invalid_graph(tmp_path: Path, small: onnx.ModelProto) -> None:
    small.graph.node[0].input[0] = "nowhere"
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(ModelFormatError, match=r"is no valid ONNX model: .*[^.]\. Export it again"):
        read(tmp_path / "m.onnx")


def external(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "a/../../b.bin", "..\\secret.bin", "zero\0byte", ""]
)
def test_onnx__external_data_outside(tmp_path: Path, small: onnx.ModelProto, location: str) -> None:
    (tmp_path / "m.onnx").write_bytes(external(small, location).SerializeToString())
    with pytest.raises(ModelFormatError, match=r"outside the model's folder\. Save the model as one file"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_by_link_outside(tmp_path: Path, small: onnx.ModelProto) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"x" * 4096)
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "m.onnx").write_bytes(external(small, "w.bin").SerializeToString())
    with pytest.raises(ModelFormatError, match="outside the model's folder"):
        read(folder / "m.onnx")


def test_onnx__external_data_of_two_locations(tmp_path: Path, small: onnx.ModelProto) -> None:
    """The last counts when it is read, so it is the one that is checked."""
    model = external(small, "w.bin")
    model.graph.initializer[0].external_data.add(key="location", value="../secret.bin")
    (tmp_path / "w.bin").write_bytes(b"x" * 4096)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=r"'\.\./secret\.bin', outside the model's folder"):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-4"), ("offset", "here"), ("length", "many"), ("offset", "99999999")]
)
def test_onnx__external_data_of_a_place_that_is_none(
    tmp_path: Path, small: onnx.ModelProto, key: str, value: str
) -> None:
    model = external(small, "w.bin")
    model.graph.initializer[0].external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(b"x" * 8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=r"'w0'.* (cannot be read|does not fit its own data).*again"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_read_many_times_over(tmp_path: Path, small: onnx.ModelProto) -> None:
    """A small file whose tensors each ask for all of a large one."""
    for tensor in small.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**29)
    (tmp_path / "m.onnx").write_bytes(small.SerializeToString())
    with pytest.raises(ModelFormatError, match=r"with its external data: holds 3,\d+,\d+,\d+ bytes.*smaller model"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_of_a_constant_inside_a_function(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[2] x) => (float[2] y) { y = local.Shift (x) }
        <opset_import: ["": 17], domain: "local"> Shift (a) => (b) { k = Constant <value = float[2] {1, 2}> () b = Add (a, k) }"""
    )
    tensor = model.functions[0].node[0].attribute[0].t
    tensor.CopyFrom(numpy_helper.from_array(np.asarray([3, 4], np.float32), "k"))
    (tmp_path / "k.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="k.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    source = read_source(tmp_path / "m.onnx", ModelSpec())
    np.testing.assert_array_equal(OnnxRunner(source.content).run([np.zeros(2, np.float32)])[0], [3, 4])


def test_onnx__input_with_a_default_is_a_constant_and_said(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x, float k) => (float[2] y) <float k = {2.0}> { y = Mul (x, k) }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    source = read_source(tmp_path / "m.onnx", ModelSpec())
    assert [tensor.name for tensor in source.inputs] == ["x"]
    assert "inputs with a default in the file are taken as that constant: 'k'" in source.assumptions


def test_onnx__name_that_is_no_text(tmp_path: Path, small: onnx.ModelProto) -> None:
    (tmp_path / "m.onnx").write_bytes(small.SerializeToString().replace(b"Relu", b"Re\xff\xff"))
    with pytest.raises(ModelFormatError, match=r"one of its names is no text\. Copy, download or export it again"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_of_a_name_that_is_too_long(tmp_path: Path, small: onnx.ModelProto) -> None:
    (tmp_path / "m.onnx").write_bytes(external(small, "long" * 99).SerializeToString())
    with pytest.raises(ModelFormatError, match=r"which is not there\. Copy 'longlong"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_missing(tmp_path: Path, small: onnx.ModelProto) -> None:
    (tmp_path / "m.onnx").write_bytes(external(small, "w.bin").SerializeToString())
    with pytest.raises(ModelFormatError, match=r"'w\.bin', which is not there\. Copy 'w\.bin' beside m\.onnx"):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_is_loaded(
    tmp_path: Path, small: onnx.ModelProto, make_conv: Callable[..., onnx.ModelProto]
) -> None:
    onnx.save(small, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    source = read_source(tmp_path / "m.onnx", ModelSpec())
    loaded = onnx.load_from_string(source.content)
    expected = numpy_helper.to_array(make_conv().graph.initializer[0])
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), expected)


def test_onnx__nan_weight_names_the_first_node(tmp_path: Path, small: onnx.ModelProto) -> None:
    weight = numpy_helper.to_array(small.graph.initializer[2]).copy()
    weight[0, 0, 0, :2] = np.nan
    small.graph.initializer[2].CopyFrom(numpy_helper.from_array(weight, "w1"))
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(
        ModelFormatError,
        match=r"node 'depthwise' \(Conv\) takes 'w1', in which 2 of \d+ values are NaN\..*export a checkpoint",
    ):
        read(tmp_path / "m.onnx")


def test_onnx__infinite_weight_of_a_convolution_only(tmp_path: Path, small: onnx.ModelProto) -> None:
    bias = numpy_helper.to_array(small.graph.initializer[1]).copy()
    bias[3] = -np.inf
    small.graph.initializer[1].CopyFrom(numpy_helper.from_array(bias, "b0"))
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(
        ModelFormatError, match=r"node 'first' \(Conv\) takes 'b0', in which 1 of \d+ values are infinite"
    ):
        read(tmp_path / "m.onnx")
    mask = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] m = {0, 0}> { y = Add (x, m) }"""
    )
    mask.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.asarray([0, -np.inf], np.float32), "m"))
    onnx.save(mask, tmp_path / "mask.onnx")
    read(tmp_path / "mask.onnx")


def test_onnx__custom_domain_is_named(tmp_path: Path, small: onnx.ModelProto) -> None:
    small.graph.node[3].domain, small.graph.node[3].op_type = "my.ops", "Swirl"
    small.opset_import.append(onnx.helper.make_opsetid("my.ops", 1))
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(
        ModelFormatError,
        match=r"node 'relu1' is operator 'Swirl' of domain 'my\.ops'.*standard ONNX operators only \(opset 17\)",
    ):
        read(tmp_path / "m.onnx")


def test_onnx__string_input(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (string[1] words) => (string[1] y) { y = Identity (words) }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFormatError, match=r"input 'words' takes strings.*Cut the graph behind its tokenizer"):
        read(tmp_path / "m.onnx")


def test_onnx__control_flow_and_int64_are_said(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (bool fast, float[2] x, int64[1, 4] ids) => (float[2] y, int64[1, 4] z) {
          [choose] y = If (fast) <then_branch = t () => (float[2] a) { a = Relu (x) },
                         else_branch = e () => (float[2] b) { b = Neg (x) }>
          z = Identity (ids)
        }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    said = "\n".join(read_source(tmp_path / "m.onnx", ModelSpec()).assumptions)
    assert "node 'choose' is control flow" in said
    assert "To have TFLite, export one branch" in said
    assert "input 'ids' takes whole numbers (int64[1, 4])" in said


def test_onnx__larger_than_protobuf(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31 + 7)  # sparse: no bytes are written
    with pytest.raises(
        ModelFormatError, match=r"holds 2,147,483,655 bytes, expected at most 2,147,483,647.*smaller model"
    ):
        read(tmp_path / "m.onnx")


def test_onnx__external_data_larger_than_protobuf(tmp_path: Path, small: onnx.ModelProto) -> None:
    (tmp_path / "m.onnx").write_bytes(external(small, "w.bin").SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**31 + 7)
    with pytest.raises(
        ModelFormatError, match=r"with its external data: holds 2,147,\d+,\d+ bytes.*2 GiB.*smaller model"
    ):
        read(tmp_path / "m.onnx")


def test_onnx__functions_are_written_out(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[2] x) => (float[2] y) { y = local.Twice (x) }
        <opset_import: ["": 17], domain: "local"> Twice (a) => (b) { b = Add (a, a) }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    source = read_source(tmp_path / "m.onnx", ModelSpec())
    assert [node.op_type for node in onnx.load_from_string(source.content).graph.node] == ["Add"]


def test_onnx__constant_that_does_not_fit_its_data(tmp_path: Path, small: onnx.ModelProto) -> None:
    small.graph.initializer[0].dims[0] += 1
    (tmp_path / "m.onnx").write_bytes(small.SerializeToString())
    with pytest.raises(
        ModelFormatError, match=r"constant 'w0' of shape \[\d+, 3, 3, 3\] does not fit its own data.*export it again"
    ):
        read(tmp_path / "m.onnx")


def test_onnx__operator_that_does_not_exist(tmp_path: Path, small: onnx.ModelProto) -> None:
    small.graph.node[3].op_type = "SelfAdjointEigV2"
    small.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(small, tmp_path / "m.onnx")
    with pytest.raises(
        ModelFormatError, match=r"node 'relu1' is operator 'SelfAdjointEigV2', which ONNX does not have\. Replace it"
    ):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            """g (float[1, 2] x) => (float[1, 2] y) { n = RandomNormalLike (x) y = Add (x, n) }""",
            r"node 'RandomNormalLike_0' \(RandomNormalLike\) draws random numbers\. Export the model with the noise as an input\.",
        ),
        (
            """g (float[1, 2, 4, 4] x, float[2] k) => (float[1, 2, 4, 4] y) {
              [bn] y, m, v = BatchNormalization <training_mode = 1> (x, k, k, k, k) }""",
            r"node 'bn' \(BatchNormalization\) is in training mode\. Export the model after MODEL\.eval\(\)\.",
        ),
        (
            """g (float[1, 2] x) => (float[1, 2] y) <float ratio = {0.5}, bool training = {1}> { y = Dropout (x, ratio, training) }""",
            r"node 'Dropout_0' \(Dropout\) is in training mode\. Export",
        ),
    ],
)
def test_onnx__what_no_two_runs_compute_alike(tmp_path: Path, text: str, message: str) -> None:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'), tmp_path / "m.onnx")
    with pytest.raises(ModelFormatError, match=message):
        read(tmp_path / "m.onnx")


def test_onnx__two_nodes_of_one_name(tmp_path: Path, small: onnx.ModelProto) -> None:
    """ONNX Runtime refuses them; the first keeps its name, and nothing else changes."""
    small.graph.node[1].name = small.graph.node[3].name = small.graph.node[0].name
    onnx.save(small, tmp_path / "m.onnx")
    loaded = onnx.load_from_string(read_source(tmp_path / "m.onnx", ModelSpec()).content)
    assert [node.name for node in loaded.graph.node] == ["first", "first_1", "depthwise", "first_3", "last", "residual"]
