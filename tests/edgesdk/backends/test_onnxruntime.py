from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.backends import SessionOptions
from edgesdk.backends.onnxruntime import OnnxRuntimeBackend
from edgesdk.errors import BackendError, BackendFallbackWarning

ort = pytest.importorskip("onnxruntime", reason="pip install 'edgesdk[onnx]'", exc_type=ImportError)

A = np.array([[5, 6, -7, 8]], np.float32)
B = np.array([[1, 2, 3, 4]], np.float32)


def opened(model: Any, **options: Any) -> Any:
    return OnnxRuntimeBackend().open(model, SessionOptions(threads=1, **options))


def test_open__unsupported_opset_keeps_the_runtimes_words_and_adds_a_fix(model: Any) -> None:
    with pytest.raises(BackendError) as caught:
        opened(model("future_opset.onnx"))
    text = str(caught.value)
    assert "future_opset.onnx: onnxruntime" in text
    assert "Opset 99" in text
    assert "Convert it again with an opset that this runtime knows" in text
    assert "pip install -U onnxruntime" in text


def test_open__truncated_says_to_copy_again(model: Any) -> None:
    whole = model("arithmetic.onnx").content
    with pytest.raises(BackendError, match="no ONNX model or is truncated: copy it again"):
        opened(model("cut.onnx", whole[:100]))


def test_open__open_dimension_takes_any_size(model: Any) -> None:
    session = opened(model("open_batch.onnx"))
    assert session.inputs[0].shape == (-1, 4)
    for batch in (1, 3):
        assert session.run([np.ones((batch, 4), np.float32)])[0].shape == (batch, 4)
    with pytest.raises(BackendError, match=r"expected float32 \(-1, 4\)"):
        session.run([np.ones((1, 5), np.float32)])


def test_open__nothing_spins_and_execution_is_sequential(model: Any) -> None:
    session = opened(model("null.onnx"))
    used = session._session.get_session_options()
    assert used.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert used.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert used.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert used.inter_op_num_threads == 1


def test_open__spinning_on_request(model: Any) -> None:
    used = opened(model("null.onnx"), spinning=True)._session.get_session_options()
    assert used.get_session_config_entry("session.intra_op.allow_spinning") == "1"


def test_open__options_of_the_profile_reach_the_session(model: Any) -> None:
    extra = {"arena": False, "graph_optimization": "basic", "session": {"session.disable_prepacking": "1"}}
    used = opened(model("null.onnx"), extra=extra)._session.get_session_options()
    assert not used.enable_cpu_mem_arena
    assert used.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert used.get_session_config_entry("session.disable_prepacking") == "1"


def test_open__wrong_type_of_option(model: Any) -> None:
    with pytest.raises(BackendError, match=r"options .*arena.*Correct the backend's options in the device profile"):
        opened(model("null.onnx"), extra={"arena": "no"})


def test_open__missing_execution_provider_never_becomes_the_cpu(model: Any) -> None:
    extra = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA; the test needs a provider that is missing")
    with pytest.raises(BackendError) as caught:
        opened(model("null.onnx"), extra=extra)
    assert "execution provider CUDAExecutionProvider is not in this onnxruntime" in str(caught.value)
    assert "Install the build of ONNX Runtime that has it" in str(caught.value)


def test_open__provider_with_options(model: Any) -> None:
    extra = {"providers": [["CPUExecutionProvider", {"use_arena": "0"}]]}  # as YAML gives it
    np.testing.assert_array_equal(opened(model("null.onnx"), extra=extra).run([A])[0], np.maximum(A, 0))


def test_open__misspelt_execution_provider(model: Any) -> None:
    with pytest.raises(BackendError, match="Did you mean 'CPUExecutionProvider'"):
        opened(model("null.onnx"), extra={"providers": ["CPUExecutionProvidr"]})


def test_open__prints_nothing_when_it_fails(model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackendError):
        opened(model("future_opset.onnx"))
    assert capfd.readouterr() == ("", "")


def cached(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.graph"))


def test_graph_cache__second_session_reads_it_and_computes_the_same(model: Any, tmp_path: Path) -> None:
    first = opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    (file,) = cached(tmp_path)
    before = file.read_bytes()
    second = opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    used = second._session.get_session_options()
    assert used.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for ours, theirs in zip(first.run([A, B]), second.run([A, B]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [(i.name, i.shape) for i in second.inputs] == [(i.name, i.shape) for i in first.inputs]
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]  # no temporary file is left


def test_graph_cache__options_and_models_have_their_own(model: Any, tmp_path: Path) -> None:
    opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    opened(model("null.onnx"), graph_cache=tmp_path)
    opened(model("null.onnx"), graph_cache=tmp_path, extra={"graph_optimization": "basic"})
    assert len(cached(tmp_path)) == 3


@pytest.mark.parametrize("damage", [b"", b"edgesdk-graph-1\n", b"x" * 400])
def test_graph_cache__damaged_file_is_built_anew(model: Any, tmp_path: Path, damage: bytes) -> None:
    opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    (file,) = cached(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage)
    with pytest.warns(BackendFallbackWarning, match="is damaged. It is built anew; nothing needs to be done"):
        session = opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)
    assert len(file.read_bytes()) == len(whole)


def test_graph_cache__whole_file_that_the_runtime_refuses_is_built_anew(model: Any, tmp_path: Path) -> None:
    from edgesdk.backends.cache import GraphCache

    opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    (file,) = cached(tmp_path)
    GraphCache(folder=tmp_path).store(file, b"no graph, but its hash is right")
    with pytest.warns(BackendFallbackWarning, match="does not load .* It is built anew"):
        session = opened(model("arithmetic.onnx"), graph_cache=tmp_path)
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(model("arithmetic.onnx"), graph_cache=tmp_path)


def test_graph_cache__folder_that_cannot_be_written_is_a_warning(model: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    with pytest.warns(BackendFallbackWarning, match="set EDGESDK_CACHE to a folder that can be written"):
        session = opened(model("arithmetic.onnx"), graph_cache=blocked / "graphs")
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)


def test_graph_cache__wrong_model_still_gets_its_own_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="copy it again"):
        opened(model("garbage.onnx", b"garbage" * 10), graph_cache=tmp_path)
    assert cached(tmp_path) == []


def test_backend__module_imports_no_runtime() -> None:
    code = (
        "import sys, edgesdk.backends as b\n"
        "for name in ('onnxruntime', 'tflite', 'fake'): b.get_backend(name).availability()\n"
        "heavy = {'onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
