from __future__ import annotations

import numpy as np
import pytest

from edgesdk.bundle.manifest import ConstantInput, Contract, InputSpec, OutputSpec, Quantization
from edgesdk.errors import PluginError, TaskError
from edgesdk.tasks import make_task
from edgesdk.tasks.inputs import constant
from edgesdk.tasks.outputs import check_outputs, dequantize, logit, sigmoid, softmax


def test_sigmoid__extremes_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        values = sigmoid(np.array([-1e30, -100, 0, 100, 1e30], np.float32))
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1], atol=1e-6)
    assert values.dtype == np.float32


@pytest.mark.parametrize("probability", [0.001, 0.3, 0.5, 0.999])
def test_logit__is_the_inverse_of_sigmoid(probability: float) -> None:
    assert sigmoid(np.array([logit(probability)], np.float32))[0] == pytest.approx(probability, rel=1e-5)


def test_logit__ends_are_finite() -> None:
    assert (logit(0.0), logit(1.0)) == (-80.0, 80.0)


def test_softmax__sums_to_one_and_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        values = softmax(np.array([[1000, 1000, -1000]], np.float32))
    np.testing.assert_allclose(values, [[0.5, 0.5, 0]])
    np.testing.assert_array_equal(softmax(np.array([[-3e38, 3e38, 0]], np.float32)), [[0, 1, 0]])


def test_dequantize__per_tensor_and_per_channel() -> None:
    q = np.array([[-128, 127]], np.int8)
    whole = OutputSpec(
        name="y", shape=(1, 2), dtype="int8", quantization=Quantization(scale=(0.5,), zero_point=(-128,))
    )
    np.testing.assert_allclose(dequantize(q, whole), [[0, 127.5]])
    channels = Quantization(scale=(1.0, 2.0), zero_point=(0, 27), axis=1)
    each = OutputSpec(name="y", shape=(1, 2), dtype="int8", quantization=channels)
    np.testing.assert_allclose(dequantize(q, each), [[-128, 200]])


def test_dequantize__float_is_not_copied() -> None:
    values = np.ones((1, 2), np.float32)
    assert dequantize(values, OutputSpec(name="y", shape=(1, 2), dtype="float32")) is values


def test_check_outputs__number_and_shape() -> None:
    contract = Contract(task="t", inputs=(), outputs=(OutputSpec(name="y", shape=(1, 2), dtype="float32"),))
    with pytest.raises(TaskError, match=r"returned 0 outputs, the contract has 1 \(y\)"):
        check_outputs(contract, [])
    with pytest.raises(
        TaskError, match=r"'y' has shape \(2, 1\), the contract says \(1, 2\)\. Convert the model again"
    ):
        check_outputs(contract, [np.zeros((2, 1))])


def test_constant__number_fills_and_wrong_size_is_refused() -> None:
    def spec(value: object) -> InputSpec:
        return InputSpec(name="sr", shape=(2,), dtype="int64", source=ConstantInput(value=value))  # type: ignore[arg-type]  # wrong ones too

    np.testing.assert_array_equal(constant(spec(16000)), [16000, 16000])
    np.testing.assert_array_equal(constant(spec([1, 2])), [1, 2])
    scalar = InputSpec(name="sr", shape=(), dtype="int64", source=ConstantInput(value=16000))
    assert (constant(scalar).shape, int(constant(scalar))) == ((), 16000)
    with pytest.raises(TaskError, match=r"'sr': value \[1, 2, 3\] does not fit int64 \(2,\).*Give one number"):
        constant(spec([1, 2, 3]))


def test_make_task__unknown_name_gives_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"'face-detecton' is unknown\. Did you mean 'face-detection'"):
        make_task(Contract(task="face-detecton", inputs=(), outputs=()))
