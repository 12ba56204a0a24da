"""Calibration folders for zoo models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk.errors import ZooError
from edgesdk_converters.zoo.samples import MAKERS, RECORDINGS, calibration_folder


@pytest.mark.zoo
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_calibration_folder__equal_calls_write_equal_pictures(
    name: str, tmp_path: Path, zoo: Callable[[str], Path]
) -> None:
    zoo("astronaut")
    zoo("china")
    first = calibration_folder(name, tmp_path / "a", count=7)
    second = calibration_folder(name, tmp_path / "b", count=7)
    pictures = sorted(first.iterdir())
    assert len(pictures) == 7
    assert [p.read_bytes() for p in pictures] == [(second / p.name).read_bytes() for p in pictures]


@pytest.mark.zoo
@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_calibration_folder__recording_is_copied_whole(name: str, tmp_path: Path, zoo: Callable[[str], Path]) -> None:
    source = zoo(RECORDINGS[name])
    assert (calibration_folder(name, tmp_path / "a") / source.name).read_bytes() == source.read_bytes()


def test_calibration_folder__model_without_a_set_names_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"no calibration set is defined for 'microwakeword-alexa'; .*face-landmark"):
        calibration_folder("microwakeword-alexa", tmp_path / "a")
    assert not (tmp_path / "a").exists()
