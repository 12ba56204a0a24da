"""The demo's app.yaml is an ordinary one."""

from pathlib import Path

import pytest

from edgesdk.app import App
from edgesdk.demo.plan import STREAMS, DemoModel, Prepared, app_yaml


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    names = [name for _, _, names in STREAMS for name in names]
    folder = tmp_path / "with space: and colon"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.edge").touch()
    return Prepared(
        models={name: DemoModel(name=name, wheel="w 1", bundle=folder / f"{name}.edge") for name in names},
        media={name: folder / name for name in ("photographs", "faces", "eyes", "page", "speech")},
    )


@pytest.mark.parametrize("fast", [False, True])
def test_app_yaml__is_valid_whatever_the_folder_is_called(prepared: Prepared, tmp_path: Path, fast: bool) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(app_yaml(prepared, "mqtt://127.0.0.1:1883", tmp_path / "demo.outbox", fast=fast), encoding="utf-8")
    config = App.from_yaml(path).config
    assert list(config.streams) == [name for name, _, _ in STREAMS]
    assert config.models["sign"].bundles == tuple(
        prepared.models[n].bundle for n in ("ppocr-det", "ppocr-cls", "ppocr-rec")
    )
