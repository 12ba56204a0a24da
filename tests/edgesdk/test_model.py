from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import ImageInput
from edgesdk.errors import (
    BackendError,
    BundleError,
    NoBackendError,
    PluginError,
    ProfileNotFoundError,
    SourceError,
    SourceFormatError,
    TaskError,
)
from edgesdk.model import Model, load
from edgesdk.profiles import DeviceProfile
from edgesdk.samples import Picture, Tensors
from edgesdk.tasks.results import RawResult
from edgesdk.tasks.text_results import Text

Make = Callable[..., Path]
MakeBoard = Callable[..., DeviceProfile]
Fake = Callable[..., bytes]
needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="needs OpenCV: pip install 'edgesdk[vision]'"
)
X = np.array([[-1, 2, -3, 4]], np.float32)


def outputs(result: object) -> Any:
    assert isinstance(result, RawResult)
    return result.arrays["y"].tolist()


def test_load__a_real_model_on_this_board(make_bundle: Make) -> None:
    with edgesdk.load(make_bundle(version=3)) as model:
        assert outputs(model(X)) == [[0, 2, 0, 4]]
        assert (model.name, model.version) == ("relu", 3)
        assert "onnx-fp32 on onnxruntime" in model.description
        assert model.parts[0].backend == "onnxruntime"


def test_load__takes_an_open_bundle_and_leaves_it_open(make_bundle: Make) -> None:
    with Bundle.open(make_bundle()) as bundle:
        with load(bundle, profile="generic-x86-64") as model:
            assert model.identities == {"relu": bundle.identity}
        bundle.verify()


def test_model__takes_samples_dicts_and_files(make_bundle: Make, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    with load(make_bundle()) as model:
        for source in (Tensors(arrays={"x": X}), {"x": X}, tmp_path / "x.npy", str(tmp_path / "x.npz")):
            assert outputs(model(source)) == [[0, 2, 0, 4]]


def test_infer__splits_the_time(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(models={"onnx-fp32": fake(delay_ms=5)})
    with load(path, profile=make_board("fake")) as model:
        first = model.infer(Tensors(arrays={"x": X}))
        again = model.infer(Tensors(arrays={"x": X}))
    assert outputs(first.result) == outputs(again.result)
    for inference in (first, again):
        assert inference.latency.inference_ms >= 5  # asleep for so long
        assert inference.latency.pre_ms > 0
        assert inference.latency.post_ms > 0
        assert inference.latency.total_ms >= inference.latency.inference_ms


def test_model__starts_without_a_trace_of_the_warm_up_and_resets(
    make_bundle: Make, make_board: MakeBoard, fake: Fake
) -> None:
    path = make_bundle(models={"onnx-fp32": fake(op="accumulate")})
    with load(path, profile=make_board("fake")) as model:
        one = np.ones((1, 4), np.float32)
        assert outputs(model(one)) == [[1, 1, 1, 1]]
        assert outputs(model(one)) == [[2, 2, 2, 2]]
        model.reset()
        assert outputs(model(one)) == [[1, 1, 1, 1]]


def test_model__after_close(make_bundle: Make) -> None:
    model = load(make_bundle())
    model.close()
    model.close()
    with pytest.raises(BackendError, match=r"the session is closed\. Open the model again"):
        model(X)


@needs_opencv
def test_model__picture_as_array_is_rgb(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(
        models={"onnx-fp32": fake(op="copy", shape=(1, 3, 2, 2), out=(1, 3, 2, 2))},
        source=ImageInput(layout="NCHW", colour="BGR", scale=1.0),
        shape=(1, 3, 2, 2),
        out=(1, 3, 2, 2),
    )
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    with load(path, profile=make_board("fake")) as model:
        assert np.array(outputs(model(red)))[0, :, 0, 0].tolist() == [0, 0, 200]
        assert np.array(outputs(model(Picture(pixels=red, colour="BGR"))))[0, :, 0, 0].tolist() == [200, 0, 0]
        with pytest.raises(TaskError, match=r"is uint8 \(1, 2, 2, 3\), expected a picture.*array\[0\]"):
            model(red[None])


def test_load__no_bundle() -> None:
    with pytest.raises(BundleError, match=r"got no bundle, expected at least one path"):
        load()


def test_load__wrong_words_have_the_nearest(make_bundle: Make) -> None:
    path = make_bundle()
    with pytest.raises(NoBackendError, match=r"no variant 'onnx-fp23'.* Did you mean 'onnx-fp32'"):
        load(path, variant="onnx-fp23")
    with pytest.raises(PluginError, match=r"Did you mean 'onnxruntime'\?"):
        load(path, backend="onnxruntim")
    with pytest.raises(ProfileNotFoundError, match=r"raspberry-pi-6"):
        load(path, profile="raspberry-pi-6")


def test_load__model_that_is_not_what_the_manifest_says(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(models={"onnx-fp32": fake(shape=(1, 5))})
    with pytest.raises(NoBackendError) as caught:
        load(path, profile=make_board("fake"))
    assert "input 'x' is float32 [1, 5], the manifest says float32 [1, 4]. Convert the model again." in str(
        caught.value
    )
    assert "edgesdk doctor" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("x.npy", b"no array", SourceFormatError, r"no array file.*numpy\.save"),
        ("x.npz", b"PK\x03\x04 broken", SourceFormatError, r"no array file.*numpy\.save"),
        ("x.npy", None, SourceError, r"no such file\. Check the path"),
        ("x.jpg", None, SourceError, r"no such file"),
    ],
)
def test_model__file_that_cannot_be_read(
    make_bundle: Make, tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with load(make_bundle()) as model, pytest.raises(error, match=message):
        model(tmp_path / name)


def test_model__pickled_objects_are_not_loaded(make_bundle: Make, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"run": "me"}], object), allow_pickle=True)
    with load(make_bundle()) as model, pytest.raises(SourceFormatError, match=r"no objects"):
        model(tmp_path / "x.npy")


def test_model__something_else(make_bundle: Make) -> None:
    with load(make_bundle()) as model, pytest.raises(TaskError, match=r"got a list.*numpy\.asarray"):
        model([1, 2])  # type: ignore[arg-type]  # what the test is about


def load_cascade(make_bundle: Make, board: DeviceProfile, fake: Fake) -> Model:
    found = make_bundle(
        "finder",
        {"onnx-fp32": fake(op="copy", shape=(1, 1, 64, 64), out=(1, 1, 64, 64))},
        task="text-detection",
        source=ImageInput(layout="NCHW", colour="GREY"),
        shape=(1, 1, 64, 64),
        out=(1, 1, 64, 64),
        version=2,
    )
    read = make_bundle(
        "reader",
        {"onnx-fp32": fake(op="fill", shape=(1, 3, 8, 32), out=(1, 4, 3))},
        task="text-recognition",
        source=ImageInput(layout="NCHW", fit="pad-right"),
        shape=(1, 3, 8, 32),
        out=(1, 4, 3),
        labels=("a", "b"),
    )
    return load(read, found, profile=board)


@needs_opencv
def test_load__several_bundles_make_a_cascade(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20:32, 8:56] = 255
    with load_cascade(make_bundle, make_board("fake"), fake) as model:
        assert (model.name, model.version) == ("text", 3)
        assert set(model.identities) == {"finder", "reader"}
        assert isinstance(model(pixels), Text)
        inference = model.infer(Picture(pixels=pixels))
        assert isinstance(inference.result, Text)
        assert inference.latency.inference_ms > 0
        for part in model.parts:
            assert len(part.session.calls) > 1  # type: ignore[attr-defined]  # the fake session counts
        model.reset()


@needs_opencv
def test_load__bundles_that_make_no_cascade(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    board = make_board("fake")
    raw = make_bundle("one", {"onnx-fp32": fake()})
    other = make_bundle("two", {"onnx-fp32": fake()})
    with pytest.raises(TaskError, match=r"two bundles have the task raw; a cascade takes one each"):
        load(raw, other, profile=board)
    reader = make_bundle(
        "reader",
        {"onnx-fp32": fake(op="fill", shape=(1, 3, 8, 32), out=(1, 4, 3))},
        task="text-recognition",
        source=ImageInput(layout="NCHW", fit="pad-right"),
        shape=(1, 3, 8, 32),
        out=(1, 4, 3),
        labels=("a", "b"),
    )
    with pytest.raises(TaskError, match=r"make no cascade\. Known: text \(text-detection \+ \[text-direction\]"):
        load(raw, reader, profile=board)
