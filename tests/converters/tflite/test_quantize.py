"""Static int8 and float16 weights of TFLite files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.tflite.heads import head
from edgesdk_converters.tflite.inspect import describe
from edgesdk_converters.tflite.normalize import normalize
from edgesdk_converters.tflite.quantize import float16, int8, verify_int8

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def iris(zoo: Callable[[str], Path]) -> bytes:
    return normalize(zoo("iris").read_bytes())


@pytest.fixture(scope="module")
def eyes(zoo: Callable[[str], Path]) -> list[list[NDArray[np.float32]]]:
    """24 crops around the eyes of a portrait, 64x64 RGB 0..1."""
    cv2 = pytest.importorskip("cv2")
    picture = cv2.imread(str(zoo("astronaut")))[..., ::-1]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(24):
        x, y = [(205, 110), (247, 105)][number % 2]
        x, y, half = x + int(rng.integers(-5, 6)), y + int(rng.integers(-5, 6)), int(rng.integers(15, 25))
        crop = cv2.resize(np.ascontiguousarray(picture[y - half : y + half, x - half : x + half]), (64, 64))
        crops.append([(crop.astype(np.float32) / 255)[None]])
    return crops


def _snr_db(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.sum(a**2) / np.sum((a - b) ** 2)))


def test_int8__iris_shrinks_and_every_convolution_computes_in_int8(
    iris: bytes, eyes: list[list[NDArray[np.float32]]], litert: Callable[..., list[np.ndarray]]
) -> None:
    result = int8(iris, eyes[:20])
    assert len(result) <= 0.4 * len(iris)
    assert describe(result).integer_share == 1.0
    assert [(i.name, str(i.dtype)) for i in describe(result).outputs] == [
        (i.name, str(i.dtype)) for i in describe(iris).outputs
    ]
    contour, _ = litert(iris, eyes[20][0])
    assert _snr_db(contour, litert(result, eyes[20][0])[0]) > 20


def test_int8__head_in_float_helps_its_own_branch(
    iris: bytes, eyes: list[list[NDArray[np.float32]]], litert: Callable[..., list[np.ndarray]]
) -> None:
    float_outputs = head(iris, 1, convolutions=1)
    helped = int8(iris, eyes[:20], float_outputs=float_outputs)
    plain = int8(iris, eyes[:20])
    before = np.concatenate([litert(iris, x[0])[1] for x in eyes[20:]])
    without = np.concatenate([litert(plain, x[0])[1] for x in eyes[20:]])
    with_help = np.concatenate([litert(helped, x[0])[1] for x in eyes[20:]])
    assert _snr_db(before, with_help) > _snr_db(before, without)
    assert {o.output for o in describe(helped).compute if not o.integer} == float_outputs & {
        o.output for o in describe(iris).compute
    }


def test_int8__no_samples_is_refused(iris: bytes) -> None:
    with pytest.raises(CalibrationError, match=r"no calibration samples.*--calibration"):
        int8(iris, [])


def test_int8__wrong_shape_is_named_with_the_right_one(iris: bytes) -> None:
    with pytest.raises(
        CalibrationError, match=r"input 'input_1' got float32 \(1, 3, 64, 64\), expected .*1, 64, 64, 3"
    ):
        int8(iris, [[np.zeros((1, 3, 64, 64), np.float32)]])


def test_verify_int8__silent_no_op_is_found(iris: bytes) -> None:
    with pytest.raises(
        ConversionError, match=r"reported success, but 81 of 81 operators with weights did not become int8"
    ):
        verify_int8(describe(iris), describe(iris), frozenset())


def test_float16__halves_the_file_and_keeps_the_result(
    iris: bytes, eyes: list[list[NDArray[np.float32]]], litert: Callable[..., list[np.ndarray]]
) -> None:
    result = float16(iris)
    assert len(result) < 0.55 * len(iris)
    for before, after in zip(litert(iris, eyes[0][0]), litert(result, eyes[0][0]), strict=True):
        assert _snr_db(before, after) > 50


def test_float16__normalising_it_gives_float32_back(iris: bytes) -> None:
    assert describe(normalize(float16(iris))).counts == describe(iris).counts
