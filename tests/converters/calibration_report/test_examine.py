"""Calibration sets with one defect each, and a good one."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import (
    AudioInput,
    Branch,
    Contract,
    ImageInput,
    InputSpec,
    OutputSpec,
    StateInput,
    TensorInput,
)
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.calibration_report import examine
from edgesdk_converters.calibration_report.coverage import kmeans
from edgesdk_converters.quantize.ranges import Observer
from edgesdk_converters.report.record import CalibrationFindings, Finding
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.zoo.samples import calibration_folder

cv2: Any = pytest.importorskip("cv2", reason="needs pip install 'edgesdk[vision]'")
Array = NDArray[Any]
SIDE = 64
IMAGE = InputSpec(name="x", shape=(1, 3, SIDE, SIDE), dtype="float32", source=ImageInput(layout="NCHW"))


def classes(count: int) -> OutputSpec:
    return OutputSpec(name="y", shape=(1, count), dtype="float32", branches=(Branch(name="y", class_axis=1),))


CONTRACT = Contract(task="raw", inputs=(IMAGE,), outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),))


def scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A ground with shapes on it and grain over all: sharp, well lit, like no other."""
    ground = cv2.resize(rng.integers(40, 200, (4, 4, 3), np.uint8), (160, 128), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        colour = tuple(int(c) for c in rng.integers(10, 245, 3))
        x, y = int(rng.integers(0, 160)), int(rng.integers(0, 128))
        cv2.circle(ground, (x, y), int(rng.integers(3, 25)), colour, -1)
    grain = rng.normal(0, 8, ground.shape)
    return np.asarray((ground + grain).clip(0, 255), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty good pictures."""
    made = tmp_path / "good"
    made.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        cv2.imwrite(str(made / f"{number:02}.png"), scene(rng))
    return made


def means(feed: Sequence[Array]) -> list[Array]:
    """Stands for a model: brightness per channel and contrast."""
    picture = feed[0]
    return [np.asarray([[*picture.mean(axis=(0, 2, 3)), picture.std()]], np.float32)]


def look(folder: Path, contract: Contract = CONTRACT, run: Any = means, **more: Any) -> CalibrationFindings:
    return examine(CalibrationSet.from_folder(folder, contract), contract=contract, run=run, **more)


def about(found: CalibrationFindings, subject: str, severity: str = "warning") -> Finding:
    (one,) = [f for f in found.findings if f.subject == subject and f.severity == severity]
    return one


def edit(folder: Path, count: int, change: Callable[[Any], Any]) -> list[str]:
    files = sorted(folder.iterdir())[:count]
    for file in files:
        cv2.imwrite(str(file), change(cv2.imread(str(file))))
    return [file.name for file in files]


def test_examine__good_set(folder: Path) -> None:
    found = look(folder)
    assert {one.severity for one in found.findings} == {"ok"}, found.findings
    assert found.enough
    assert found.verdict.startswith("yes: 60 samples fix the ranges to within ")
    assert sum(found.groups.values()) == found.samples == 60
    sizes = [size for size, _ in found.stability]
    assert sizes == [4, 8, 16, 30]
    assert found.stability[0][1] > found.stability[-1][1] > 0
    assert found.forecast is not None
    assert found.forecast[0] == 60
    assert 0 < found.forecast[1] <= found.stability[-1][1]
    assert f"{found.forecast[1]:.1%}" in found.verdict


def test_examine__same_again(folder: Path) -> None:
    assert look(folder) == look(folder)


def test_examine__all_activations_with_a_model_or_an_observer(
    folder: Path, make_conv: Callable[..., onnx.ModelProto]
) -> None:
    model = make_conv()
    small = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW"))
    contract = Contract(
        task="raw", inputs=(small,), outputs=(OutputSpec(name="y", shape=(1, 16, 16, 16), dtype="float32"),)
    )
    run = OnnxRunner(model).run
    data = CalibrationSet.from_folder(folder, contract)
    observer = Observer(model, data.feeds, ["r0", "c1", "y"])
    found = examine(data, contract=contract, run=run, observer=observer)
    with_model = examine(data, contract=contract, run=run, model=model)
    without = examine(data, contract=contract, run=run)
    assert len({found.stability, with_model.stability, without.stability}) == 3


def test_duplicates__exact_although_of_another_format(folder: Path) -> None:
    for number in (3, 4, 5, 6, 7, 8, 9):
        cv2.imwrite(str(folder / f"x{number}.bmp"), cv2.imread(str(folder / f"{number:02}.png")))
    one = about(look(folder), "duplicates")
    assert one.text.startswith("7 of 67 samples are copies of others")
    assert "Keep one of each: 03.png = x3.bmp" in one.text
    assert one.files[0] == "x3.bmp"


def test_duplicates__near(folder: Path) -> None:
    for number in range(15):
        picture = cv2.imread(str(folder / f"{number:02}.png"))
        lit = cv2.convertScaleAbs(picture, alpha=0.9, beta=8)
        cv2.imwrite(str(folder / f"x{number:02}.jpg"), cv2.resize(lit, None, fx=1.1, fy=1.1))
    one = about(look(folder), "near duplicates")
    assert one.text.startswith("15 of 75 samples are nearly the same as others (00.png ~ x00.jpg)")
    assert "and add little. Take them further apart in time" in one.text


def test_duplicates__all_equal(folder: Path) -> None:
    first = cv2.imread(str(folder / "00.png"))
    edit(folder, 60, lambda _: first)
    found = look(folder)
    assert about(found, "duplicates").text.startswith(
        "all 60 samples are equal as the model sees them. Check what wrote them"
    )
    assert about(found, "excitation").text.startswith("branch 'y' gives the same for all 60 inferences")
    assert not found.enough


def test_leakage__exact_and_near(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "evaluation"
    other.mkdir()
    for name in ("05.png", "11.png"):
        shutil.copyfile(folder / name, other / f"copy-{name}")
    cv2.imwrite(str(other / "near.jpg"), cv2.imread(str(folder / "20.png")))
    rng = np.random.default_rng(9)
    for number in range(10):
        cv2.imwrite(str(other / f"{number}.png"), scene(rng))
    found = look(folder, evaluation=CalibrationSet.from_folder(other, CONTRACT))
    exact = about(found, "leakage")
    assert exact.text.startswith("2 calibration samples are also in the evaluation set (05.png = copy-05.png)")
    assert exact.text.endswith("take them out of one of the two folders.")
    assert exact.files == ("05.png", "11.png")
    near = about(found, "leakage", "hint")
    assert near.files == ("20.png",)


@pytest.mark.parametrize(
    ("change", "subject", "text"),
    [
        (lambda p: cv2.convertScaleAbs(p, alpha=0.1), "exposure", "pictures are nearly black. Take them out, unless"),
        (
            lambda p: cv2.convertScaleAbs(p, alpha=3, beta=120),
            "exposure",
            "pictures are nearly white. Take them out, unless",
        ),
        (
            lambda p: np.where(p.mean(axis=2, keepdims=True) > np.percentile(p, 45), 255, p),
            "exposure",
            "pictures are over- or underexposed",
        ),
        (lambda p: np.full_like(p, 99), "exposure", "pictures are of one colour, without any content. Take them out"),
        (lambda p: cv2.GaussianBlur(p, (0, 0), 3), "sharpness", "pictures are blurred. Take them again"),
        (
            lambda p: p[:30, :40],
            "resolution",
            "pictures are less than half as large as the model's input (64 pixels). Use",
        ),
        (
            lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
            "resolution",
            "pictures are soft or enlarged from smaller ones: half of their pixels say all. Use the originals",
        ),
    ],
)
def test_quality__planted_defect(folder: Path, change: Callable[[Any], Any], subject: str, text: str) -> None:
    names = edit(folder, 8, change)
    found = look(folder)
    one = next(f for f in found.findings if f.subject == subject)
    assert one.severity == "warning"
    assert one.text.startswith(f"8 of 60 {text}"), one.text
    assert list(one.files) == names


def test_leakage__within_one_folder__asks_for_another(folder: Path) -> None:
    for number, file in enumerate(sorted(folder.iterdir())):
        picture = cv2.imread(str(folder / f"{number % 20:02}.png"))
        cv2.imwrite(str(file), cv2.convertScaleAbs(picture, alpha=1 - number / 300, beta=number // 8))
    used, held = CalibrationSet.from_folder(folder, CONTRACT).split()
    # Every copy of a scene is on one side, as long as there are few; here one crosses over.
    crossed = CalibrationSet(
        units=(*held.units, used.units[0]),
        sha256=held.sha256,
        names=(*held.names, "crossed"),
        prints=(*held.prints, used.prints[0]),
    )
    found = examine(used, evaluation=crossed, contract=CONTRACT, run=means)
    one = next(f for f in found.findings if f.subject == "leakage")
    assert one.text.startswith("1 calibration sample is also among those held out (")
    assert one.text.endswith("may look better than they are: give a folder of other samples, --evaluation DIR.")


def test_coverage__odd_pictures_do_not_hide_the_groups(folder: Path) -> None:
    for name, value in (("00.png", 0), ("01.png", 255)):
        cv2.imwrite(str(folder / name), np.full((128, 160, 3), value, np.uint8))
    found = look(folder)
    assert sorted(found.groups.values())[1] > 10, found.groups
    text = about(found, "coverage", "ok").text
    assert (
        text
        == f"the samples fall into {len(found.groups)} groups, the largest with {max(found.groups.values())} of 60."
    )


def test_quality__a_few_are_a_hint(folder: Path) -> None:
    edit(folder, 2, lambda p: cv2.convertScaleAbs(p, alpha=0.1))
    assert about(look(folder), "exposure", "hint").files == ("00.png", "01.png")


def test_coverage__class_that_is_never_seen(folder: Path) -> None:
    contract = Contract(task="raw", inputs=(IMAGE,), outputs=(classes(3),), labels=("dark", "light", "green"))

    def run(feed: Sequence[Array]) -> list[Array]:
        mean = float(feed[0].mean())
        return [np.asarray([[0.5, mean, 0.1]], np.float32)]

    found = look(folder, contract, run)
    one = about(found, "coverage")
    assert one.text.startswith("1 of 3 classes have no sample that the model takes for it: green. Add a few of each")
    assert set(found.groups) == {"dark", "light"}
    assert not found.enough
    assert found.verdict.startswith("no: there are enough samples, but of the wrong kind: 1 of 3 classes")


def test_coverage__labels_count_where_there_are_some(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir()
    for number, file in enumerate(sorted(folder.glob("*.png"))):
        file.rename(folder / ("dog" if number < 2 else "cat") / file.name)
    contract = Contract(task="raw", inputs=(IMAGE,), outputs=(classes(3),), labels=("cat", "dog", "hen"))
    found = look(folder, contract, lambda _: [np.asarray([[0.1, 0.2, 0.3]], np.float32)])
    assert found.groups == {"cat": 58, "dog": 2}
    assert "have no sample labelled: hen" in about(found, "coverage").text


def test_coverage__a_thousand_classes_are_not_asked_for(folder: Path) -> None:
    contract = Contract(task="raw", inputs=(IMAGE,), outputs=(classes(1000),))

    def run(feed: Sequence[Array]) -> list[Array]:
        return [np.roll(np.arange(1000, dtype=np.float32), int(feed[0].mean() * 1e4))[None]]

    assert "too few samples to expect every one" in about(look(folder, contract, run), "coverage", "ok").text


def readers(folder: Path, *texts: str) -> Contract:
    """A contract that reads lower-case letters, and the folder's first pictures labelled with texts."""
    files = sorted(folder.iterdir())
    for file in files[len(texts) :]:
        file.unlink()
    rows = [f'{file.name},"{text}"' for file, text in zip(files, texts, strict=False)]
    (folder / "labels.csv").write_text("\n".join(rows), "utf-8")
    letters = "abcdefghijklmnopqrstuvwxyz "
    line = OutputSpec(name="y", shape=(1, 8, len(letters) + 1), dtype="float32")
    return Contract(task="text-recognition", inputs=(IMAGE,), outputs=(line,), labels=tuple(letters))


def steps(feed: Sequence[Array]) -> list[Array]:
    return [np.resize(feed[0], (1, 8, 28))]


def test_labels__characters_that_the_model_cannot_read(folder: Path) -> None:
    contract = readers(folder, *["the quick brown fox"] * 18, "caf\u00e9", "na\u00efve caf\u00e9")
    one = about(look(folder, contract, steps), "labels", "hint")
    assert one.text.startswith(
        "2 of 20 texts have characters that the model cannot read, '\u00e9', '\u00ef': they count as misread"
    )
    assert one.text.endswith("Check them, or leave these lines out.")
    assert one.files == ("18.png", "19.png")


def test_coverage__of_texts_is_by_character(folder: Path) -> None:
    contract = readers(folder, *["the quick brown fox jumps over a lazy"] * 20)
    found = look(folder, contract, steps)
    assert found.groups["q"] == 20
    assert "d" not in found.groups
    text = about(found, "coverage", "hint").text
    assert text == (
        "25 of the model's 27 characters are in the texts of the 20 lines; not 'd', 'g'. Add lines with those that the board will read."
    )
    contract = readers(folder, *["the quick brown fox jumps over a lazy dog"] * 20)
    assert about(look(folder, contract, steps), "coverage", "ok").text.startswith(
        "27 of the model's 27 characters are in"
    )


def test_excitation__detector_that_never_finds_anything(folder: Path) -> None:
    boxes = OutputSpec(
        name="output0",
        shape=(1, 6, 8),
        dtype="float32",
        branches=(Branch(name="boxes", axis=1, stop=4), Branch(name="scores", axis=1, start=4)),
    )
    contract = Contract(task="object-detection", inputs=(IMAGE,), outputs=(boxes,), options={"score_threshold": 0.4})

    def run(feed: Sequence[Array]) -> list[Array]:
        return [np.concatenate([np.tile(feed[0].mean(axis=(2, 3)), (1, 1)), feed[0].std()[None, None], [[0.1, 0.2]]], axis=1)
                .astype(np.float32)[..., None].repeat(8, axis=2) + feed[0][:1, 0, 0, 0] * 0.01]  # fmt: skip

    found = look(folder, contract, run)
    one = about(found, "excitation")
    assert one.text.startswith(
        "score branch 'output0/scores' never reaches its threshold 0.4; its highest score is 0.2"
    )
    assert one.text.endswith("add samples with something to find in them.")


def test_amount__too_few(folder: Path) -> None:
    for file in sorted(folder.iterdir())[10:]:
        file.unlink()
    found = look(folder)
    assert not found.enough
    assert found.verdict.startswith("no: 10 samples are too few")
    assert "Add typical inputs." in about(found, "amount").text


def test_amount__copies_do_not_count(folder: Path) -> None:
    for number, file in enumerate(sorted(folder.iterdir())):
        if number >= 8:
            shutil.copy(folder / f"{number % 8:02}.png", file)
    found = look(folder)
    assert not found.enough
    assert found.verdict == (
        "no: 60 samples (8 different ones) are too few, nothing can be said of so few; give about 64 different ones."
    )
    assert about(found, "amount").text.endswith(
        "There are 60 samples (8 different ones), about 64 different ones are needed. Add typical inputs."
    )
    assert [size for size, _ in found.stability] == [4]


def test_amount__near_copies_do_not_count_either(folder: Path) -> None:
    for number, file in enumerate(sorted(folder.iterdir())):
        picture = cv2.imread(str(folder / f"{number % 8:02}.png"))
        cv2.imwrite(str(file), cv2.convertScaleAbs(picture, alpha=1 - number / 400, beta=number // 8))
    assert look(folder).verdict.startswith("no: 60 samples (8 different ones) are too few")


def test_amount__a_camera_that_never_moves_may_have_enough(folder: Path) -> None:
    rng = np.random.default_rng(1)
    ground = scene(rng)
    for file in sorted(folder.iterdir()):
        picture = ground.copy()
        cv2.circle(picture, (int(rng.integers(160)), int(rng.integers(128))), 3, (255, 255, 255), -1)
        cv2.imwrite(str(file), picture)
    found = look(folder)
    assert "near duplicates" in {one.subject for one in found.findings}
    assert found.enough, found.verdict


def test_amount__moments_of_a_recording_are_no_samples_each() -> None:
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0.1, 1, 8), 250)  # eight scenes of 250 inferences
    feeds = [[np.full((1, 4), value, np.float32)] for value in loudness]
    spec = InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput())
    contract = Contract(task="raw", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),))
    found = examine(CalibrationSet(units=(feeds,), sha256=""), contract=contract, run=lambda feed: [feed[0] * 2])
    # As single samples, 1,000 of the 2,000 would tell that nothing moves any more; in stretches of 32 there are 63.
    assert [size for size, _ in found.stability] == [4, 8, 16, 31]
    assert found.verdict.startswith("yes: 1 sample (2000 inferences) fixes the ranges")
    assert len(found.groups) > 2, found.groups
    assert all(name.startswith("like sample 0, inference ") for name in found.groups)
    scenes = {int(name.rpartition(" ")[2]) // 250 for name in found.groups}
    assert len(scenes) == len(found.groups)
    assert "odd samples" not in {one.subject for one in found.findings}


def test_amount__a_sample_that_the_ranges_hang_on_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (64, 1, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    spec = InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput())
    contract = Contract(task="raw", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),))
    assert "odd samples" not in {one.subject for one in look(tmp_path, contract, lambda feed: [feed[0] * 2]).findings}
    values[17, 0, 2] = 30
    np.save(tmp_path / "a.npy", values)
    one = about(look(tmp_path, contract, lambda feed: [feed[0] * 2]), "odd samples", "hint")
    assert one.text.startswith("the ranges hang on single samples, which widen them on average: a.npy[17] by 93.")
    assert one.text.endswith("makes the steps of all others coarser; of what is typical, add more.")
    assert one.files == ("a.npy[17]",)


def test_amount__ranges_that_keep_growing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_cauchy((64, 1, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    spec = InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput())
    contract = Contract(task="raw", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),))
    found = look(tmp_path, contract, lambda feed: [feed[0] * 2])
    assert not found.enough
    assert "the ranges would still move by" in found.verdict
    assert "give about " in found.verdict


def test_examine__set_in_memory_without_fingerprints() -> None:
    spec = InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput())
    contract = Contract(task="raw", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),))
    rng = np.random.default_rng(0)
    units = tuple(([rng.uniform(-1, 1, (1, 4)).astype(np.float32)],) for _ in range(40))
    found = examine(CalibrationSet(units=units, sha256=""), contract=contract, run=lambda feed: [feed[0] * 2])
    assert found.samples == 40


def test_quality__recordings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        pcm = rng.normal(0, 3000, 16000) * np.sin(np.linspace(0, 3 + number, 16000)) ** 2
        if number < 3:
            pcm = np.zeros(16000)
        elif number < 7:
            pcm = pcm * 100
        with wave.open(str(tmp_path / f"{number:02}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(pcm.clip(-32768, 32767).astype("<i2").tobytes())
    spec = InputSpec(
        name="x", shape=(1, 512), dtype="float32", source=AudioInput(sample_rate_hz=16000, chunk_samples=512)
    )
    contract = Contract(
        task="voice-activity", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 1), dtype="float32"),)
    )
    found = look(tmp_path, contract, lambda feed: [np.abs(feed[0]).max(keepdims=True).reshape(1, 1)])
    silent, clipped = (f for f in found.findings if f.subject == "level")
    assert silent.text.startswith("3 of 24 recordings are silent (below -60 dB of full scale). Take them out, unless")
    assert silent.files == ("00.wav", "01.wav", "02.wav")
    assert clipped.text.startswith("4 of 24 recordings are clipped")
    assert clipped.text.endswith("Record them with less gain.")
    assert "copies of others" in about(found, "duplicates", "hint").text


def test_kmeans__finds_separate_groups() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(at, 0.1, (20, 3)) for at in (0, 5, 9)]).astype(np.float32)
    labels, centres = kmeans(points, 3)
    assert len(centres) == 3
    assert [len(set(labels[part].tolist())) for part in (slice(0, 20), slice(20, 40), slice(40, 60))] == [1, 1, 1]


def test_kmeans__equal_points_make_one_group() -> None:
    labels, centres = kmeans(np.ones((9, 2), np.float32), 3)
    assert len(centres) == 1
    assert set(labels.tolist()) == {0}


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "side"), [("efficientnet-lite0", 224), ("ppocr-det", 320), ("ppocr-rec", 48)])
def test_examine__sets_of_the_zoo_give_no_warning(tmp_path: Path, name: str, side: int) -> None:
    folder = calibration_folder(name, tmp_path / name, count=60)
    image = InputSpec(name="x", shape=(1, 3, side, side), dtype="float32", source=ImageInput(layout="NCHW"))
    found = look(folder, Contract(task="raw", inputs=(image,), outputs=CONTRACT.outputs))
    assert not [one for one in found.findings if one.severity == "warning" and one.subject != "near duplicates"]
    # Every fourth scene is the same page in another light.
    assert ("near duplicates" in {one.subject for one in found.findings if one.severity == "warning"}) == (
        name == "ppocr-det"
    )


def test_leakage__parts_of_the_same_recording_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 1, 2)).astype(np.float32))
    contract = Contract(
        task="raw",
        inputs=(
            InputSpec(name="x", shape=(1, 2), dtype="float32", source=TensorInput()),
            InputSpec(name="h", shape=(1, 2), dtype="float32", source=StateInput(from_output="hn")),
        ),
        outputs=(OutputSpec(name="hn", shape=(1, 2), dtype="float32"),),
    )

    def run(feed: Sequence[Array]) -> list[Array]:
        return [np.tanh(feed[0] + feed[1])]

    used, held = CalibrationSet.from_folder(tmp_path, contract).rolled(contract, run).split()
    found = examine(used, evaluation=held, contract=contract, run=run)
    assert "leakage" not in {one.subject for one in found.findings}
