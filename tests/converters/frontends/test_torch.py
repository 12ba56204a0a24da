from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import InputHint, ModelSpec

SPEC = ModelSpec(inputs={"input": InputHint(shape=(1, 3, 8, 8))})
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install 'edgesdk-converters[torch]'")

FACTORY = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())

class Text(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, ids, mask, scale):
        words = self.table(ids) * mask.unsqueeze(-1)
        return {"words": words, "mean": words.mean(1) * scale}

class Branch(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 100 else x - 1

class Trap(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.abs().sum() == 0 else x - 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nets_for_test.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets_for_test", raising=False)
    return "nets_for_test"


@pytest.mark.torch
@needs_torch
def test_torch__exports_what_it_computes(module: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    torch.save(net.state_dict(), tmp_path / "net.pth")
    source = read_source(f"{module}:net", SPEC, state_dict=tmp_path / "net.pth")
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(OnnxRunner(source.content).run([x])[0], expected, atol=1e-5)
    assert source.file == "net.pth"
    assert source.tools["torch"] == str(torch.__version__)


@pytest.mark.torch
@needs_torch
def test_torch__needs_shapes(module: str) -> None:
    with pytest.raises(
        ConversionError, match=r"(?s)does not say what goes in.*in order.*--spec:\ninputs:.*dtype: int64"
    ):
        read_source(f"{module}:net", ModelSpec())


@pytest.mark.torch
@needs_torch
def test_torch__state_dict_is_no_state_dict(module: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"junk")
    with pytest.raises(
        ModelFormatError, match=r"net\.pth: cannot be read as a state dict.*torch\.save\(model\.state_dict"
    ):
        read_source(f"{module}:net", SPEC, state_dict=tmp_path / "net.pth")


@pytest.mark.torch
@needs_torch
def test_torch__pickled_module_runs_only_where_trusted(tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()), tmp_path / "net.pt")
    with pytest.raises(
        ModelFormatError, match=r"net\.pt: is a pickled PyTorch module.*--trust-pickle; otherwise give package"
    ):
        read_source(tmp_path / "net.pt", SPEC)
    assert read_source(tmp_path / "net.pt", SPEC, trust_pickle=True).outputs[0].shape == (1, 4, 6, 6)


@pytest.mark.torch
@needs_torch
def test_torch__weights_alone_are_no_model(tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        ModelFormatError, match=r"holds weights, not a model.*package\.module:factory --state-dict net\.pt"
    ):
        read_source(tmp_path / "net.pt", SPEC)


@pytest.mark.torch
@needs_torch
def test_torch__torchscript(tmp_path: Path) -> None:
    import torch

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "net.pt"))
    assert read_source(tmp_path / "net.pt", SPEC).outputs[0].shape == (1, 4, 6, 6)


@pytest.mark.torch
@needs_torch
def test_torch__exported_program_with_a_pickle_inside(tmp_path: Path) -> None:
    import torch

    program = torch.export.export(torch.nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    with zipfile.ZipFile(tmp_path / "net.pt2", "a") as archive:
        archive.writestr("net/data/constants/custom_obj_0", b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(
        ModelFormatError,
        match=r"exported program with a pickled object \(net/data/constants/custom_obj_0\).*--trust-pickle",
    ):
        read_source(tmp_path / "net.pt2", ModelSpec())


TEXT = ModelSpec(
    inputs={
        "ids": InputHint(shape=(1, 6), dtype="int64"),
        "mask": InputHint(shape=(1, 6)),
        "scale": InputHint(shape=()),
    }
)


@pytest.mark.torch
@needs_torch
def test_torch__several_inputs_and_outputs_whole_numbers_among_them(module: str) -> None:
    import torch

    torch.manual_seed(0)
    source = read_source(f"{module}:Text", TEXT)
    assert [(t.name, t.shape, t.dtype) for t in source.inputs] == [
        ("ids", (1, 6), "int64"),
        ("mask", (1, 6), "float32"),
        ("scale", (), "float32"),
    ]
    assert [tensor.shape for tensor in source.outputs] == [(1, 6, 4), (1, 4)]
    assert not [line for line in source.assumptions if "compared" in line]


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize(
    "inputs",
    [
        {"ids": InputHint(shape=(1, 6)), "mask": InputHint(shape=(1, 6)), "scale": InputHint(shape=())},  # no dtype
        {"ids": InputHint(shape=(1, 6), dtype="int64")},
        {"ids": InputHint(shape=(1, 6), dtype="int64"), "mask": InputHint(shape=(1, 5)), "scale": InputHint(shape=())},
    ],
)
def test_torch__inputs_that_the_module_does_not_take(module: str, inputs: dict[str, InputHint]) -> None:
    with pytest.raises(
        ConversionError,
        match=r"Text: torch\.onnx does not export it: .*every input of its forward, in order, with the shape and dtype",
    ):
        read_source(f"{module}:Text", ModelSpec(inputs=inputs))


@pytest.mark.torch
@needs_torch
def test_torch__path_that_depends_on_values_is_said(module: str) -> None:
    source = read_source(f"{module}:Branch", SPEC)
    assert any("traced: Converting a tensor to a Python boolean" in line for line in source.assumptions)
    assert any("(nets_for_test.py:" in line for line in source.assumptions)


@pytest.mark.torch
@needs_torch
def test_torch__export_that_computes_something_else_is_refused(module: str) -> None:
    with pytest.raises(
        ConversionError, match=r"of its export differs from PyTorch \(-?\d.*expected 40.*take it out of the model"
    ):
        read_source(f"{module}:Trap", SPEC)


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda key: f"module.{key}", (r"2 of 2 weights are missing \('0\.weight', '0\.bias'\), and 2 are not the model's \('module\.0\.weight'.*"
         r"Every name begins with 'module\.'.*save MODEL\.module\.state_dict\(\) instead")),
        (lambda key: key.replace("bias", "biass"), (r"1 of 2 weights are missing \('0\.bias'\), and 1 are not the model's \('0\.biass'; nearest is "
         r"'0\.bias'\)\. Use the state dict of this architecture")),
    ],
)  # fmt: skip
def test_torch__state_dict_of_other_names(
    module: str, tmp_path: Path, rename: Callable[[str], str], message: str
) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    torch.save({rename(key): value for key, value in net.state_dict().items()}, tmp_path / "net.pth")
    with pytest.raises(ConversionError, match=rf"net\.pth: does not fit {module}:net: {message}"):
        read_source(f"{module}:net", SPEC, state_dict=tmp_path / "net.pth")


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        (5, ConversionError, r"size mismatch for 0\.weight.*[^.]\. Use the state dict of this architecture"),
        (
            None,
            ModelFormatError,
            r"holds a dictionary of 'epoch', 'model', expected tensors by name\. Save the weights alone",
        ),
    ],
)
def test_torch__state_dict_that_does_not_fit(
    module: str, tmp_path: Path, channels: int | None, error: type[Exception], message: str
) -> None:
    import torch

    saved = torch.nn.Sequential(torch.nn.Conv2d(3, channels or 4, 3), torch.nn.ReLU()).state_dict()
    torch.save(saved if channels else {"epoch": 3, "model": saved}, tmp_path / "net.pth")
    with pytest.raises(error, match=message):
        read_source(f"{module}:net", SPEC, state_dict=tmp_path / "net.pth")


def test_torch__model_file_with_a_state_dict(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"any")
    with pytest.raises(ConversionError, match=r"already holds its weights\. Leave --state-dict out"):
        read_source(tmp_path / "net.pt", SPEC, state_dict=tmp_path / "net.pt")
