from __future__ import annotations

from typing import Any

import pytest

from edgesdk import registry
from edgesdk.backends import candidates, get_backend, session_options
from edgesdk.backends import select as module
from edgesdk.backends import tflite as tflite_module
from edgesdk.errors import NoBackendError, PluginError


def chosen(selection: Any) -> list[tuple[str, str]]:
    return [(choice.variant.id, choice.backend.name) for choice in selection.choices]


@pytest.fixture(autouse=True)
def _both_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection imports nothing, so that it can be tested where the runtimes are not."""
    from edgesdk.backends.onnxruntime import OnnxRuntimeBackend

    there = get_backend("fake").availability()
    monkeypatch.setattr(OnnxRuntimeBackend, "availability", lambda self: there)
    monkeypatch.setattr(tflite_module, "_find", lambda: ("ai_edge_litert", "ai-edge-litert"))


def test_candidates__profile_order_then_manifest_order(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-int8", "tflite-int8", "onnx-fp32")
    selection = candidates(bundle, board("tflite", "onnxruntime"))
    assert chosen(selection) == [("tflite-int8", "tflite"), ("onnx-int8", "onnxruntime"), ("onnx-fp32", "onnxruntime")]
    assert selection.rejected == (
        "onnx-int8 on tflite: it is onnx, this backend takes tflite",
        "onnx-fp32 on tflite: it is onnx, this backend takes tflite",
        "tflite-int8 on onnxruntime: it is tflite, this backend takes onnx",
    )


def test_candidates__options_come_from_the_profile(board: Any, manifest: Any) -> None:
    selection = candidates(manifest("onnx-fp32"), board(("onnxruntime", {"options": {"arena": False}})))
    assert selection.choices[0].options == {"arena": False}


def test_candidates__backend_nobody_registered_falls_away_with_its_reason(board: Any, manifest: Any) -> None:
    selection = candidates(manifest("onnx-fp32"), board("hailo", "onnxruntime"))
    assert chosen(selection) == [("onnx-fp32", "onnxruntime")]
    assert selection.rejected[0].startswith(
        "hailo: no such backend is registered here (known: fake, onnxruntime, tflite"
    )
    assert selection.rejected[0].endswith("Install the distribution that brings it.")


def test_candidates__only_what_stands_before_the_choice_is_a_downgrade(board: Any, manifest: Any) -> None:
    later = ("openvino", {"note": "Later; no plug-in for it is shipped yet."})
    assert candidates(manifest("onnx-fp32"), board("onnxruntime", later)).downgrades == ()
    selection = candidates(manifest("onnx-fp32"), board(later, "tflite", "onnxruntime"))
    (reason,) = selection.downgrades  # a format that the bundle never had is no news
    assert reason.endswith("The profile says: Later; no plug-in for it is shipped yet.")
    assert candidates(manifest("onnx-fp32"), board(("hailo", {"formats": ("hef",)}), "onnxruntime")).downgrades == ()


def test_candidates__runtime_not_installed_names_the_pip_line(
    board: Any, manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_module, "_find", lambda: None)
    selection = candidates(manifest("tflite-fp32", "onnx-fp32"), board("tflite", "onnxruntime"))
    assert chosen(selection) == [("onnx-fp32", "onnxruntime")]
    assert "Fix: pip install 'edgesdk[tflite]'" in selection.rejected[0]


def test_candidates__other_boards_target_falls_away(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-int8", "onnx-fp32", onnx_int8={"target": "rock-5b"})
    selection = candidates(bundle, board("onnxruntime"))
    assert chosen(selection) == [("onnx-fp32", "onnxruntime")]
    assert "it was compiled for rock-5b, this board is test-board. Convert it again" in selection.rejected[0]


def test_candidates__own_target_stays(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-int8", onnx_int8={"target": "test-board"})
    assert chosen(candidates(bundle, board("onnxruntime"))) == [("onnx-int8", "onnxruntime")]


def test_candidates__fast_precisions_go_first_on_a_cpu(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-fp16", "onnx-fp32", "onnx-int8")
    selection = candidates(bundle, board(("onnxruntime", {"precisions": ("int8", "fp32")})))
    assert [variant for variant, _ in chosen(selection)] == ["onnx-fp32", "onnx-int8", "onnx-fp16"]
    assert selection.rejected == ()


def test_candidates__accelerator_takes_only_its_precisions(board: Any, manifest: Any) -> None:
    preference = {"precisions": ("int8",), "accelerator": "edge-tpu"}
    selection = candidates(manifest("tflite-int8", "tflite-fp32"), board(("tflite", preference)))
    assert chosen(selection) == [("tflite-int8", "tflite")]
    assert selection.rejected == (
        "tflite-fp32 on tflite: it is fp32, the accelerator edge-tpu takes int8. Convert it again",
    )


def test_candidates__profile_limits_formats(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-int8", "onnx-fp16")
    with pytest.raises(NoBackendError, match="this backend takes tflite"):
        candidates(bundle, board(("fake", {"formats": ("tflite",)})))


def test_candidates__missing_execution_provider_is_a_reason(board: Any, manifest: Any) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'edgesdk[onnx]'", exc_type=ImportError)
    wanted = {"options": {"providers": ["QNNExecutionProvider"]}}
    selection = candidates(manifest("onnx-fp32"), board(("onnxruntime", wanted), "onnxruntime"))
    assert chosen(selection) == [("onnx-fp32", "onnxruntime")]
    assert selection.choices[0].options == {}
    assert "execution provider QNNExecutionProvider is not in this" in selection.rejected[0]


def test_candidates__wrong_options_are_a_reason(board: Any, manifest: Any) -> None:
    with pytest.raises(NoBackendError, match=r"option 'provider' is unknown\. Did you mean 'providers'"):
        candidates(manifest("onnx-fp32"), board(("onnxruntime", {"options": {"provider": []}})))


def test_candidates__named_backend_that_cannot_run_is_an_error_with_reasons(board: Any, manifest: Any) -> None:
    with pytest.raises(NoBackendError) as caught:
        candidates(manifest("onnx-fp32"), board("onnxruntime", "tflite"), backend="tflite")
    assert caught.value.reasons == ("onnx-fp32 on tflite: it is onnx, this backend takes tflite",)
    assert "tiny: backend 'tflite' cannot run this bundle here." in str(caught.value)
    assert "edgesdk convert MODEL --device test-board" in str(caught.value)


def test_candidates__named_backend_need_not_be_in_the_profile(board: Any, manifest: Any) -> None:
    assert chosen(candidates(manifest("onnx-fp32"), board("tflite"), backend="fake")) == [("onnx-fp32", "fake")]


def test_candidates__auto_never_takes_what_the_profile_does_not_list(board: Any, manifest: Any) -> None:
    with pytest.raises(
        NoBackendError, match="none of the backends of profile 'test-board' cannot run this bundle here"
    ):
        candidates(manifest("onnx-fp32"), board("tflite"))


def test_candidates__unknown_backend_name(board: Any, manifest: Any) -> None:
    with pytest.raises(PluginError, match="Did you mean 'onnxruntime'"):
        candidates(manifest("onnx-fp32"), board("onnxruntime"), backend="onnxruntme")


def test_candidates__named_variant(board: Any, manifest: Any) -> None:
    bundle = manifest("onnx-int8", "onnx-fp32")
    assert chosen(candidates(bundle, board("onnxruntime"), variant="onnx-fp32")) == [("onnx-fp32", "onnxruntime")]
    with pytest.raises(NoBackendError, match=r"no variant 'onnx-fp23'.*Did you mean 'onnx-fp32'\? It has: onnx-int8"):
        candidates(bundle, board("onnxruntime"), variant="onnx-fp23")


def test_candidates__profile_without_backends(board: Any, manifest: Any) -> None:
    with pytest.raises(NoBackendError, match="names no backends: add them"):
        candidates(manifest("onnx-fp32"), board())


def test_session_options__small_model_gets_one_thread(board: Any) -> None:
    assert session_options(board(), 100_000).threads == 1


def test_session_options__large_model_leaves_a_core_of_the_quickest_cluster(
    board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setattr("edgesdk.backends.threads.usable_cores", lambda: 8)
    assert session_options(board(), 20_000_000).threads == 3
    assert session_options(board(), 20_000_000, threads=7).threads == 7


def test_session_options__never_more_than_this_process_may_use(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    monkeypatch.setattr("edgesdk.backends.threads.usable_cores", lambda: 1)
    made = session_options(board(), 20_000_000, extra={"arena": False})
    assert (made.threads, made.cores, made.extra) == (1, 1, {"arena": False})


def test_get_backend__every_registered_one_has_its_name() -> None:
    for name in registry.plugins(registry.BACKENDS):
        assert get_backend(name).name == name


def test_profiles__options_of_our_backends_are_accepted() -> None:
    from edgesdk.backends import checks
    from edgesdk.backends.onnxruntime import OnnxRuntimeOptions
    from edgesdk.backends.tflite import TfliteOptions
    from edgesdk.profiles import load_profile, profile_ids

    kinds: dict[str, Any] = {"onnxruntime": OnnxRuntimeOptions, "tflite": TfliteOptions}
    for profile in map(load_profile, profile_ids()):
        for entry in profile.backends:
            if entry.name in kinds:
                checks.parse_options(entry.name, entry.options, kinds[entry.name])


def test_candidates__take_a_real_profile(manifest: Any) -> None:
    from edgesdk.profiles import load_profile

    selection = candidates(manifest("onnx-int8", "tflite-fp32"), load_profile("raspberry-pi-4"))
    assert set(chosen(selection)) == {("onnx-int8", "onnxruntime"), ("tflite-fp32", "tflite")}
    assert session_options(load_profile("raspberry-pi-4"), 100_000).threads == 1
