from __future__ import annotations

import importlib.util
import sys
import zipfile
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
