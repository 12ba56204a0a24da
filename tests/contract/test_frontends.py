"""What every frontend promises: the same tests over each entry point of group `edgesdk_converters.frontends`."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("edgesdk_converters.frontends", reason="needs the converters: pip install edgesdk-converters")

from edgesdk.errors import ConversionError, MissingExtraError, ModelFormatError
from edgesdk.registry import load_plugin, plugins
from edgesdk_converters.frontends import Frontend, SourceModel, read_source
from edgesdk_converters.frontends.api import FRONTENDS
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import InputHint, ModelSpec

Make = Callable[[Path], "str | Path"]
NOTHING = ModelSpec()
IMAGE = ModelSpec(inputs={"x": InputHint(shape=(1, 3, 8, 8))})
MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Case:
    """One kind of source, and a small model of it."""

    frontend: str
    kind: str
    make: Make
    shapes: tuple[tuple[Any, ...], ...]
    """Of the inputs, a dynamic size as None."""
    spec: ModelSpec = NOTHING
    needs: tuple[str, ...] = ()
    extra: str = ""
    trust: bool = False
    """Whether it holds code, so that it is refused without trust."""


def onnx_file(folder: Path) -> Path:
    return Path(shutil.copy(MODELS / "arithmetic.onnx", folder / "model.onnx"))


def tflite_file(folder: Path) -> Path:
    return Path(shutil.copy(MODELS / "arithmetic.tflite", folder / "model.tflite"))


def torch_net() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()


def torch_program(folder: Path) -> Path:
    import torch

    torch.export.save(torch.export.export(torch_net(), (torch.zeros(1, 3, 8, 8),)), folder / "model.pt2")
    return folder / "model.pt2"


def torch_script(folder: Path) -> Path:
    import torch

    torch.jit.trace(torch_net(), torch.zeros(1, 3, 8, 8)).save(str(folder / "model.pt"))
    return folder / "model.pt"


def torch_pickle(folder: Path) -> Path:
    import torch

    torch.save(torch_net(), folder / "model.pth")
    return folder / "model.pth"


def keras_net() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.backend.clear_session()  # Keras numbers its layers through a process
    tf.keras.utils.set_random_seed(0)
    image = tf.keras.Input((8, 8, 3), name="image")
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image)))
    return tf.keras.Model(image, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(hidden)))


def keras_file(suffix: str) -> Make:
    def make(folder: Path) -> Path:
        keras_net().save(str(folder / f"model{suffix}"))
        return folder / f"model{suffix}"

    return make


def saved_model(folder: Path) -> Path:
    keras_net().export(str(folder / "model"), verbose=False)
    return folder / "model"


def estimator() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, (features[:, 0] > 0).astype(int))


def skops_file(folder: Path) -> Path:
    from skops.io import dump

    dump(estimator(), folder / "model.skops")
    return folder / "model.skops"


def joblib_file(folder: Path) -> Path:
    from joblib import dump

    dump(estimator(), folder / "model.joblib")
    return folder / "model.joblib"


def factory(body: str) -> Make:
    def make(folder: Path) -> str:
        name = f"factory_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        (folder / f"{name}.py").write_text(
            f"import importlib.util\n"
            f"spec = importlib.util.spec_from_file_location('contract_frontends', {__file__!r})\n"
            f"import sys\nmodule = importlib.util.module_from_spec(spec)\n"
            f"sys.modules['contract_frontends'] = module\nspec.loader.exec_module(module)\n"
            f"def make():\n    import {body.split('|', maxsplit=1)[0]}\n    return module.{body.split('|')[1]}()\n"
        )
        sys.path.insert(0, str(folder))
        return f"{name}:make"

    return make


TORCH: dict[str, Any] = {"needs": ("torch", "onnxscript"), "extra": "torch", "shapes": ((1, 3, 8, 8),), "spec": IMAGE}
KERAS: dict[str, Any] = {"needs": ("tensorflow", "tf2onnx"), "extra": "tensorflow", "shapes": ((None, 8, 8, 3),)}
SKLEARN: dict[str, Any] = {"needs": ("sklearn", "skl2onnx", "skops"), "extra": "sklearn", "shapes": ((None, 4),)}
CASES = (
    Case("onnx", ".onnx", onnx_file, ((1, 4), (1, 4))),
    Case("tflite", ".tflite", tflite_file, ((1, 4), (1, 4))),
    Case("torch", ".pt2", torch_program, **TORCH),
    Case("torch", "TorchScript", torch_script, **TORCH),
    Case("torch", ".pth", torch_pickle, **TORCH, trust=True),
    Case("tensorflow", "SavedModel", saved_model, **KERAS),
    Case("tensorflow", ".keras", keras_file(".keras"), **KERAS),
    Case("tensorflow", ".h5", keras_file(".h5"), **KERAS),
    Case("sklearn", ".skops", skops_file, **SKLEARN),
    Case("sklearn", ".joblib", joblib_file, **SKLEARN, trust=True),
    Case("factory", "PyTorch", factory("torch|torch_net"), **TORCH),
    Case("factory", "Keras", factory("tensorflow|keras_net"), **KERAS),
    Case("factory", "scikit-learn", factory("sklearn|estimator"), **SKLEARN),
)


@pytest.fixture(params=CASES, ids=lambda case: f"{case.frontend} {case.kind}")
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    missing = [name for name in chosen.needs if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'edgesdk-converters[{chosen.extra}]'")
    return chosen


@pytest.fixture
def source(case: Case, tmp_path: Path) -> str | Path:
    folder = tmp_path / "source"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say while they write is theirs
        return case.make(folder)


def read(case: Case, source: str | Path, **more: Any) -> SourceModel:
    return read_source(source, case.spec, trust_pickle=case.trust, **more)


def frontend_of(case: Case) -> Frontend:
    made: Frontend = load_plugin(FRONTENDS, case.frontend)()
    return made


def files_of(source: str | Path) -> dict[Path, tuple[bytes, int]]:
    path = Path(source)
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in found}


def test_every_frontend_has_a_case() -> None:
    missing = set(plugins(FRONTENDS)) - {case.frontend for case in CASES}
    assert not missing, f"add a model of each to CASES in {__file__}: {missing}"


def test_frontend__is_one(case: Case) -> None:
    frontend = frontend_of(case)
    assert isinstance(frontend, Frontend)
    assert frontend.name == case.frontend


def test_accepts__its_own_kind_and_no_other(case: Case, source: str | Path) -> None:
    accepting = [name for name in plugins(FRONTENDS) if load_plugin(FRONTENDS, name)().accepts(source)]
    assert accepting == [case.frontend]


def test_accepts__nothing_else(case: Case, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "empty").mkdir()
    for other in (tmp_path / "notes.txt", tmp_path / "empty", tmp_path / "absent.bin", "absent"):
        assert not frontend_of(case).accepts(other)


def test_accepts__without_parsing(case: Case, source: str | Path) -> None:
    path = Path(source)
    if case.frontend == "factory":
        assert frontend_of(case).accepts("not.there:at_all")  # nothing was imported
        return
    file = path / "saved_model.pb" if path.is_dir() else path
    file.write_bytes(file.read_bytes()[:9])
    assert frontend_of(case).accepts(source)


def test_read__model_runs_and_is_described(case: Case, source: str | Path) -> None:
    model = read(case, source)
    assert (
        tuple(
            tensor.shape if None not in s else (None, *tensor.shape[1:])
            for tensor, s in zip(model.inputs, case.shapes, strict=True)
        )
        == case.shapes
    )
    assert all(tensor.dtype == "float32" for tensor in model.inputs)
    assert model.outputs
    assert model.file
    assert "/" not in model.file
    if model.format == "onnx":
        runner = OnnxRunner(model.content)
        assert runner.inputs == [tensor.name for tensor in model.inputs]
        assert runner.outputs == [tensor.name for tensor in model.outputs]
        feed = [np.ones([size if isinstance(size, int) else 1 for size in t.shape], t.dtype) for t in model.inputs]
        assert all(np.isfinite(value).all() for value in runner.run(feed))


def test_read__source_is_never_written(case: Case, source: str | Path) -> None:
    before = files_of(source)
    read(case, source)
    assert files_of(source) == before


def test_read__sha256_is_the_files(case: Case, source: str | Path) -> None:
    model = read(case, source)
    path = Path(source)
    if path.is_file():
        assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(model.sha256) == 64


def test_read__twice_is_the_same(case: Case, source: str | Path) -> None:
    first, second = read(case, source), read(case, source)
    assert first.inputs == second.inputs
    assert first.outputs == second.outputs
    assert first.sha256 == second.sha256
    assert first.content == second.content


def test_read__truncated(case: Case, source: str | Path) -> None:
    if case.frontend == "factory":
        pytest.skip("a factory is no file; what it raises is tested in tests/converters/frontends/test_factory.py")
    path = Path(source)
    file = path / "saved_model.pb" if path.is_dir() else path
    whole = file.read_bytes()
    for part in (len(whole) // 2, 40):
        file.write_bytes(whole[:part])
        with pytest.raises(ModelFormatError, match=r"(?i)(copy|download|export|save) .*again"):
            read(case, source)


def test_read__empty(case: Case, source: str | Path) -> None:
    if case.frontend == "factory":
        pytest.skip("a factory is no file")
    path = Path(source)
    (path / "saved_model.pb" if path.is_dir() else path).write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"is empty\. Download or export it again"):
        read(case, source)


def test_read__absent(case: Case, source: str | Path) -> None:
    path = Path(source)
    if case.frontend == "factory":
        with pytest.raises(ConversionError, match=r"Give package\.module:factory"):
            read(case, f"{source}_absent")
        return
    with pytest.raises(ModelFormatError, match=r"no such file\. Give a \.onnx or \.tflite file"):
        read(case, path.with_name(f"absent{path.suffix}"))


def test_read__code_runs_only_where_trusted(case: Case, source: str | Path) -> None:
    if not case.trust:
        pytest.skip("holds no code")
    with pytest.raises(ModelFormatError, match=r"runs whatever code is in it\. .*--trust-pickle; otherwise"):
        read_source(source, case.spec)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("model.pt2", "torch", "torch"),
        ("model.keras", "tf2onnx", "tensorflow"),
        ("model.skops", "skops.io", "sklearn"),
        ("model.joblib", "sklearn", "sklearn"),
    ],
)
def test_read__missing_extra_has_its_pip_line(
    name: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for member in ("archive_format", "config.json", "schema.json"):
            archive.writestr(member, "{}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs {package},.*pip install 'edgesdk-converters\[{extra}\]'"):
        read_source(tmp_path / name, ModelSpec(), trust_pickle=True)
