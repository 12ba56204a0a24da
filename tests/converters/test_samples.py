"""What is said about samples that judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.progress import Quiet
from edgesdk_converters.samples import Samples, gather, unused_labels

Fill = Callable[[str, int], Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Writes so many different arrays of four numbers into a folder."""

    def _fill(name: str, count: int) -> Path:
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(len(name))
        for number in range(count):
            np.save(tmp_path / name / f"{number:03}.npy", rng.normal(size=(1, 4)).astype(np.float32))
        return tmp_path / name

    return _fill


def contract() -> Contract:
    return Contract(
        task="raw",
        inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32", branches=(Branch(name="y", class_axis=1),)),),
        labels=("a", "b", "c"),
    )


def gathered(calibration: Path | None, evaluation: Path | None = None) -> Samples:
    def run(feed: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return feed

    return gather(contract(), run, calibration, evaluation, Quiet())


def test_gather__few_held_out_samples_are_said(fill: Fill) -> None:
    assert not gathered(fill("enough", 25)).notes
    (note,) = gathered(fill("few", 12)).notes
    assert note == "judged on 2 held-out samples only: give 50 calibration samples or more, or --evaluation"
    (shared,) = gathered(fill("one", 1)).notes
    assert shared.startswith("judged on the calibration samples themselves: 1 are too few")


def test_gather__without_calibration_noise_has_to_do(fill: Fill) -> None:
    samples = gathered(None)
    assert samples.calibration is None
    assert samples.notes == ("no calibration samples: no int8; the float variants were compared on noise",)
    assert gathered(None, fill("judged", 7)).notes == ()


def test_unused_labels__of_what_takes_several_inferences() -> None:
    one = [np.zeros((1, 4), np.float32)]
    several = CalibrationSet(units=([one], [one, one], [one] * 3), sha256="", labels=("a", "b", None))
    (note,) = unused_labels(several, contract())
    assert note.startswith("the labels of 1 of 2 samples are not used: they take several inferences each")
    assert note.endswith("Cut them to the length of one inference")
    assert unused_labels(CalibrationSet(units=([one], [one]), sha256="", labels=("a", "b")), contract()) == []
    assert unused_labels(CalibrationSet(units=([one, one],), sha256=""), contract()) == []


def test_gather__an_empty_folder_says_what_to_put_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="Put 20 or more typical inputs there"):
        gathered(tmp_path / "empty")
