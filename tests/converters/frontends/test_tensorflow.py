from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.tensorflow import has_code
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec

# TensorFlow's tensors do not know numpy 2's copy keyword; only what reads their values here minds.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
WHY = "pip install 'edgesdk-converters[tensorflow]'"


@pytest.fixture
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip("tf2onnx", reason=WHY)
    return pytest.importorskip("tensorflow", reason=WHY)


def test_keras__computes_the_same(tf: Any, tmp_path: Path) -> None:
    layers = tf.keras.layers
    net = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 3)),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.ReLU(6.0),
            layers.Flatten(),
        ]
    )
    net.save(tmp_path / "m.keras")
    source = read_source(tmp_path / "m.keras", ModelSpec())
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(OnnxRunner(source.content).run([x])[0], net(x).numpy(), atol=1e-5)
    assert set(source.tools) == {"tensorflow", "tf2onnx"}


def test_keras__lambda_layer_runs_only_where_trusted(tf: Any, tmp_path: Path) -> None:
    net = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Lambda(lambda x: x * 2)])
    net.save(tmp_path / "m.keras")
    with pytest.raises(ModelFormatError, match=r"Lambda layer.*--trust-pickle; otherwise replace the layer"):
        read_source(tmp_path / "m.keras", ModelSpec())
    assert read_source(tmp_path / "m.keras", ModelSpec(), trust_pickle=True).inputs[0].shape[1:] == (4,)


def test_keras__weights_alone_are_no_model(tf: Any, tmp_path: Path) -> None:
    tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)]).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ModelFormatError, match=r"holds weights, not a model.*package\.module:factory --state-dict"):
        read_source(tmp_path / "m.weights.h5", ModelSpec())


def test_saved_model__without_a_signature(tf: Any, tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    with pytest.raises(ConversionError, match=r"has no signature, expected 'serving_default'\. Save it again"):
        read_source(tmp_path / "m", ModelSpec())


def test_saved_model__operator_that_onnx_has_not(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.call = tf.function(
        lambda x: tf.linalg.eigh(x)[0], input_signature=[tf.TensorSpec((3, 3), tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.call})
    with pytest.raises(ConversionError, match=r"(?i)SelfAdjointEig.*convert the model to TFLite"):
        read_source(tmp_path / "m", ModelSpec())


def test_saved_model__several_inputs_and_outputs(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.call = tf.function(
        lambda picture, ids: {"b": tf.reduce_mean(picture, [1, 2]), "a": tf.cast(ids, tf.float32) * 2.0},
        input_signature=[
            tf.TensorSpec((1, 4, 4, 3), tf.float32, name="picture"),
            tf.TensorSpec((1, 5), tf.int64, name="ids"),
        ],
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.call})
    source = read_source(tmp_path / "m", ModelSpec())
    assert {t.name: (t.shape, t.dtype) for t in source.inputs} == {
        "picture": ((1, 4, 4, 3), "float32"),
        "ids": ((1, 5), "int64"),
    }
    assert {t.name: t.shape for t in source.outputs} == {"a": (1, 5), "b": (1, 3)}
    assert not [line for line in source.assumptions if "compared" in line]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras__code_in_a_file_of_either_kind_is_refused(tf: Any, tmp_path: Path, suffix: str) -> None:
    trace = tmp_path / "it-ran"
    net = tf.keras.Sequential(
        [
            tf.keras.Input((4,)),
            tf.keras.layers.Lambda(lambda x, at=str(trace): [__import__("pathlib").Path(at).write_text("x"), x * 2][1]),
        ]
    )
    net.save(tmp_path / f"m{suffix}")
    trace.unlink()
    assert has_code(tmp_path / f"m{suffix}")  # whatever this Keras makes of it: older ones run it out of an .h5 file
    with pytest.raises(ModelFormatError, match=r"Lambda layer.*--trust-pickle; otherwise replace the layer"):
        read_source(tmp_path / f"m{suffix}", ModelSpec())
    assert not trace.exists()


def test_keras__weights_of_another_model(tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(5)]).save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "keras_for_test.py").write_text(
        "import tensorflow as tf\n"
        "def net():\n    return tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConversionError, match=r"m\.weights\.h5: does not fit keras_for_test\.net: .*Save it by model\.save_weights"
    ):
        read_source("keras_for_test:net", ModelSpec(), state_dict=tmp_path / "m.weights.h5")


def test_saved_model__export_that_computes_something_else_is_refused(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tf.Module()
    module.call = tf.function(lambda x: x * 2.0, input_signature=[tf.TensorSpec((1, 3), tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.call})
    from tf2onnx import convert

    whole = convert.from_graph_def

    def wrong(*args: Any, **more: Any) -> Any:
        model, other = whole(*args, **more)
        for node in model.graph.node:
            node.op_type = "Add" if node.op_type == "Mul" else node.op_type
        return model, other

    monkeypatch.setattr(convert, "from_graph_def", wrong)
    with pytest.raises(ConversionError, match=r"of its export differs from TensorFlow \(.*give the \.onnx file"):
        read_source(tmp_path / "m", ModelSpec())
