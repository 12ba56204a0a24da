from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesdk.errors import ConversionError, MissingExtraError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.torch import TorchFrontend
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import InputHint, ModelSpec

SPEC = ModelSpec(inputs={"input": InputHint(shape=(1, 3, 8, 8))})
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install torch")

FACTORY = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())

def broken():
    raise RuntimeError("no such size")

def number():
    return 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nets_for_test.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets_for_test", raising=False)
    return "nets_for_test"


def test_torch__accepts_references_only() -> None:
    accepts = TorchFrontend().accepts
    assert accepts("package.module:factory")
    assert not accepts("model.onnx")
    assert not accepts("C:\\models\\x.onnx")


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed here")
def test_torch__missing() -> None:
    with pytest.raises(MissingExtraError, match=r"Install it: pip install torch"):
        read_source("package.module:factory", SPEC)


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
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("broken", r"the factory raised RuntimeError: no such size\. It is called without arguments"),
        ("absent", r"cannot be imported: .*Give package\.module:factory"),
        ("number", r"made a int, expected a torch\.nn\.Module"),
    ],
)
def test_torch__bad_factory(module: str, factory: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_source(f"{module}:{factory}", SPEC)


@pytest.mark.torch
@needs_torch
def test_torch__needs_shapes(module: str) -> None:
    with pytest.raises(ConversionError, match=r"(?s)does not say what goes in.*--spec:\ninputs:"):
        read_source(f"{module}:net", ModelSpec())


@pytest.mark.torch
@needs_torch
def test_torch__state_dict_is_no_state_dict(module: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"junk")
    with pytest.raises(
        ModelFormatError, match=r"net\.pth: cannot be read as a state dict.*torch\.save\(model\.state_dict"
    ):
        read_source(f"{module}:net", SPEC, state_dict=tmp_path / "net.pth")
