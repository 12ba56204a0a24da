from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
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
