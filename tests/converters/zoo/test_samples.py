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


@pytest.mark.zoo
def test_calibration_folder__earlier_set_is_replaced(tmp_path: Path, zoo: Callable[[str], Path]) -> None:
    zoo("astronaut")
    zoo("china")
    calibration_folder("iris", tmp_path, count=5)
    assert len(list(calibration_folder("iris", tmp_path, count=3).iterdir())) == 3


def test_calibration_folder__with_files_of_its_owner_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"mine")
    (tmp_path / "000.png").write_bytes(b"mine, too, maybe")
    with pytest.raises(ZooError, match=r"holds 'holiday\.png', which is no sample of the zoo.*Name another folder"):
        calibration_folder("iris", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["000.png", "holiday.png"]
