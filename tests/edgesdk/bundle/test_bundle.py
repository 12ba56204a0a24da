from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgesdk.bundle import Bundle, Manifest, Measurements, write_bundle
from edgesdk.bundle.manifest import Measurement, Variant
from edgesdk.errors import BundleError, BundleIntegrityError, BundleUnsafeError, BundleVersionError

Make = Callable[..., Any]


def test_bundle__reads_what_was_written(bundle_path: Path, model_bytes: bytes) -> None:
    with Bundle.open(bundle_path) as bundle:
        assert bundle.manifest.name == "relu"
        assert bundle.read("labels.txt") == b"cat\ndog\n"
        file = bundle.model_file(bundle.manifest.variants[0])
        assert (file.content, file.format, file.inputs, file.outputs) == (model_bytes, "onnx", ("x",), ("y",))
        assert file.sha256 == hashlib.sha256(model_bytes).hexdigest()
        assert bundle.measurements is None
        bundle.verify()


def test_bundle__unpacked_has_the_same_identity(bundle_path: Path, unpacked: Path, model_bytes: bytes) -> None:
    with Bundle.open(bundle_path) as packed, Bundle.open(unpacked) as folder:
        assert packed.identity == folder.identity
        assert folder.read("model.onnx") == model_bytes
        folder.verify()


def test_bundle__deflated_by_a_user_still_reads(repack: Make) -> None:
    with Bundle.open(repack(method=zipfile.ZIP_DEFLATED)) as bundle:
        bundle.verify()


def test_write__is_deterministic_and_ignores_the_order_of_files(
    tmp_path: Path, manifest: Callable[..., Manifest], model_bytes: bytes
) -> None:
    files = {"model.onnx": model_bytes, "a.txt": b"a"}
    one = write_bundle(tmp_path / "1.edge", manifest(), files).read_bytes()
    two = write_bundle(tmp_path / "2.edge", manifest(), dict(reversed(files.items()))).read_bytes()
    assert one == two


def test_write__measurements_are_outside_the_identity(
    tmp_path: Path, manifest: Callable[..., Manifest], model_bytes: bytes
) -> None:
    measured = Measurements(variants=(Measurement(variant="onnx-fp32", kept=True, size_bytes=1, source_size_bytes=2),))
    files = {"model.onnx": model_bytes}
    with (
        Bundle.open(write_bundle(tmp_path / "1.edge", manifest(), files)) as plain,
        Bundle.open(write_bundle(tmp_path / "2.edge", manifest(), files, measured)) as with_them,
    ):
        assert plain.identity == with_them.identity
        assert with_them.measurements == measured


def test_write__the_schema_stands_in_the_file(bundle_path: Path) -> None:
    with zipfile.ZipFile(bundle_path) as archive:
        assert json.loads(archive.read("manifest.json"))["schema"] == "edgesdk.bundle/1.0"


def test_write__wrong_manifest_is_refused_with_all_problems_and_leaves_nothing(
    tmp_path: Path, manifest: Callable[..., Manifest]
) -> None:
    variant = Variant(id="Onnx", file="other.onnx", format="onnx", precision="fp32", inputs=("x", "z"), outputs=("y",))
    with pytest.raises(BundleError) as caught:
        write_bundle(tmp_path / "1.edge", manifest(name="Two Words", variants=(variant,)), {"../m.onnx": b""})
    for part in ("'Two Words'", "'Onnx'", "'other.onnx' is not listed", "names 2 inputs", "'..'"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write__numpy_in_the_options_is_refused(
    tmp_path: Path, manifest: Callable[..., Manifest], model_bytes: bytes
) -> None:
    contract = manifest().contract
    strange = type(contract)(task="raw", inputs=contract.inputs, outputs=contract.outputs, options={"x": object()})
    with pytest.raises(BundleError, match=r"Use plain numbers, text and lists"):
        write_bundle(tmp_path / "1.edge", manifest(contract=strange), {"model.onnx": model_bytes})


def test_write__missing_folder_is_an_error_of_ours(
    tmp_path: Path, manifest: Callable[..., Manifest], model_bytes: bytes
) -> None:
    with pytest.raises(BundleError, match=r"cannot be written: No such file or directory. Check the folder"):
        write_bundle(tmp_path / "none" / "1.edge", manifest(), {"model.onnx": model_bytes})


def test_open__missing_file_names_a_neighbour(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no such file.*Did you mean .*relu\.edge\?"):
        Bundle.open(bundle_path.with_name("relo.edge"))


def test_open__folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"has no manifest\.json, so it is no bundle\. Make one with: edgesdk convert"
    ):
        Bundle.open(tmp_path)


def test_open__newer_major_is_refused_with_both_versions_and_the_fix(repack: Make) -> None:
    path = repack(lambda raw: raw.update(schema="edgesdk.bundle/2.1", contract="something new"))
    with pytest.raises(BundleVersionError) as caught:
        Bundle.open(path)
    assert "schema version 2.1, this edgesdk reads up to 1.x" in str(caught.value)
    assert "pip install -U edgesdk" in str(caught.value)


def test_open__newer_minor_reads_and_ignores_what_it_does_not_know(repack: Make) -> None:
    def newer(raw: dict[str, Any]) -> None:
        raw["schema"] = "edgesdk.bundle/1.7"
        raw["mood"] = {"good": True}
        raw["contract"]["inputs"][0]["source"]["extra"] = 1
        raw["variants"].append({**raw["variants"][0], "id": "new-chip", "format": "hef"})

    with Bundle.open(repack(newer)) as bundle:
        assert [variant.id for variant in bundle.manifest.variants] == ["onnx-fp32"]


def test_open__newer_minor_with_nothing_we_can_run(repack: Make) -> None:
    def newer(raw: dict[str, Any]) -> None:
        raw["schema"] = "edgesdk.bundle/1.7"
        raw["variants"][0]["format"] = "hef"

    with pytest.raises(BundleVersionError, match=r"newer formats \(hef\).*pip install -U edgesdk"):
        Bundle.open(repack(newer))


def test_open__collects_all_type_problems(repack: Make) -> None:
    def break_it(raw: dict[str, Any]) -> None:
        raw["name"] = 7
        raw["variants"][0]["format"] = "caffe"
        raw["contract"]["inputs"][0]["shape"] = [1, "many"]
        raw["files"]["model.onnx"]["size_bytes"] = -1.5
        del raw["licence"]

    with pytest.raises(BundleError) as caught:
        Bundle.open(repack(break_it))
    for part in (
        "manifest.json: name: Expected `str`, got `int`",
        "variants[0]: format: Invalid enum value 'caffe'",
        "inputs[0]: shape[1]: Expected `int`, got `str`",
        "files['model.onnx']: size_bytes: Expected `int`",
        "'licence' is missing",
        "Convert the model again",
    ):
        assert part in str(caught.value)


def test_open__collects_all_contradictions(repack: Make) -> None:
    def break_it(raw: dict[str, Any]) -> None:
        raw["variants"][0]["file"] = "gone.onnx"
        raw["contract"]["inputs"][0]["shape"] = [1, 0]
        raw["contract"]["inputs"][0]["source"] = {"kind": "state", "from_output": "z"}
        raw["contract"]["outputs"][0]["dtype"] = "float33"
        raw["version"] = 0

    with pytest.raises(BundleError) as caught:
        Bundle.open(repack(break_it))
    for part in ("'gone.onnx' is not listed", "shape is [1, 0]", "from output 'z'", "'float33'", "version is 0"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 100_000, b'{"schema": 1}', b'{"schema": "a/b"}']
)
def test_open__manifest_that_is_none(repack: Make, content: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(repack(manifest_bytes=content))


def test_read__wrong_hash(repack: Make) -> None:
    def lie(raw: dict[str, Any]) -> None:
        raw["files"]["model.onnx"]["sha256"] = "a" * 64

    with (
        Bundle.open(repack(lie)) as bundle,
        pytest.raises(BundleIntegrityError, match=r"has sha256 .*the manifest says aaaa.*Copy the bundle again"),
    ):
        bundle.read("model.onnx")


def test_open__wrong_size_and_missing_file_are_reported_together(repack: Make) -> None:
    def lie(raw: dict[str, Any]) -> None:
        raw["files"]["labels.txt"]["size_bytes"] = 9

    with pytest.raises(BundleIntegrityError) as caught:
        Bundle.open(repack(lie, without=("model.onnx",)))
    assert "'labels.txt' has 8 bytes, the manifest says 9. Copy the bundle again." in str(caught.value)
    assert "'model.onnx' is listed in the manifest, but not there" in str(caught.value)


def test_open__unlisted_file(repack: Make) -> None:
    with pytest.raises(BundleUnsafeError, match=r"does not list: run\.sh\. Take them out"):
        Bundle.open(repack(extra=(("run.sh", b"echo"),)))


def test_verify__reports_every_damaged_file(unpacked: Path) -> None:
    (unpacked / "labels.txt").write_bytes(b"cat\ncow\n")
    model = unpacked / "model.onnx"
    model.write_bytes(bytes(reversed(model.read_bytes())))
    (unpacked / "measurements.json").write_bytes(b"{}")
    with Bundle.open(unpacked) as bundle, pytest.raises(BundleIntegrityError) as caught:
        bundle.verify()
    for part in ("'labels.txt' has sha256", "'model.onnx' has sha256", "measurements.json: schema is"):
        assert part in str(caught.value)


def test_read__unknown_name_has_the_nearest(bundle_path: Path) -> None:
    with Bundle.open(bundle_path) as bundle, pytest.raises(BundleError, match=r"Did you mean 'labels\.txt'\?"):
        bundle.read("label.txt")


def test_read__after_close(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    bundle.close()
    bundle.close()
    with pytest.raises(BundleError, match=r"cannot be read"):
        bundle.read("model.onnx")


def test_open__folder_with_symbolic_link(unpacked: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((unpacked / "model.onnx").read_bytes())
    (unpacked / "model.onnx").unlink()
    (unpacked / "model.onnx").symlink_to(secret)
    with pytest.raises(BundleUnsafeError, match=r"'model.onnx' is a symbolic link, expected a regular file. Copy the"):
        Bundle.open(unpacked)


def test_open__folder_with_linked_folder(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "more").symlink_to(tmp_path)
    with pytest.raises(BundleUnsafeError, match=r"'more' is a symbolic link"):
        Bundle.open(unpacked)


def test_open__folder_with_hard_link(unpacked: Path, tmp_path: Path) -> None:
    os.link(unpacked / "model.onnx", tmp_path / "outside.onnx")
    with pytest.raises(BundleUnsafeError, match=r"has 2 hard links.*cp -r --no-preserve=links"):
        Bundle.open(unpacked)


def test_open__folder_with_pipe(unpacked: Path) -> None:
    os.mkfifo(unpacked / "pipe")
    with pytest.raises(BundleUnsafeError, match=r"'pipe' is a device or pipe"):
        Bundle.open(unpacked)


def test_read__file_replaced_by_a_link_after_opening(unpacked: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"cat\ndog\n")
    with Bundle.open(unpacked) as bundle:
        (unpacked / "labels.txt").unlink()
        (unpacked / "labels.txt").symlink_to(secret)
        with pytest.raises(BundleError, match=r"'labels.txt' cannot be read"):
            bundle.read("labels.txt")


def test_read__file_that_grew_after_opening(unpacked: Path) -> None:
    with Bundle.open(unpacked) as bundle:
        (unpacked / "labels.txt").write_bytes(b"x" * 1000)
        with pytest.raises(BundleUnsafeError, match=r"has more than the 8 bytes allowed"):
            bundle.read("labels.txt")
