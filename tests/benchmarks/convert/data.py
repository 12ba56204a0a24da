"""Calibration and evaluation folders of every row, drawn from fixed seeds; nothing of one is in the other.

The seeds of this edition were drawn once recipes and limits were settled: no sample of it was looked at while tuning.

Each builder writes ``calibration/``, ``evaluation/`` and ``truth.json`` (what is known about the evaluation samples, in the
order of their file names) and is skipped where the folder is there already in the same edition.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKOUT = Path(__file__).resolve().parents[3]
KWS = CHECKOUT.parent / "shared" / "data" / "mlperf-tiny-kws"
DETECTOR = CHECKOUT / "examples" / "train_detector"
FONTS = Path("/usr/share/fonts/truetype")
HERE = Path(__file__).parent

EDITION = 4
"""Of the data; a new one is drawn anew."""
CROPS, LINES, SCENES = 520, 520, 200
SURE = 0.5
"""Probability that the float classifier must give its class for a crop to count."""
PHOTOGRAPHS = (
    "astronaut", "chelsea", "coffee", "rocket", "motorcycle-left", "motorcycle-right", "china", "flower", "camera", "coins",
    "hubble", "ihc", "retina", "page",
)  # fmt: skip
KWS_SCALE, KWS_ZERO_POINT = 0.5847029, 83
"""Of the samples' int8 features, from the data's README."""

Pixels = NDArray[np.uint8]


def folders(row: str, cache: Path) -> Path:
    """The data of a row, drawn where it is not there yet.

    Raises:
        FileNotFoundError: What it is made of is not on this machine; says what.
    """
    target = cache / f"data-{EDITION}" / row
    if (target / "truth.json").is_file():
        return target
    shutil.rmtree(target, ignore_errors=True)
    for part in ("calibration", "evaluation"):
        (target / part).mkdir(parents=True)
    truth = BUILDERS[row](target)
    (target / "truth.json").write_text(json.dumps(truth, ensure_ascii=False), "utf-8")
    return target


def _kws(target: Path) -> Any:
    if not (KWS / "kws01_half.npz").is_file():
        raise FileNotFoundError(f"the shared test data beside the checkout is absent: ../shared/data/{KWS.name}")
    with np.load(KWS / "kws01_half.npz") as data:
        features, labels = data["features"], data["label"]
    real = ((features.astype(np.float32) - KWS_ZERO_POINT) * np.float32(KWS_SCALE)).transpose(0, 3, 1, 2)
    np.save(target / "calibration" / "samples.npy", real[:100])
    np.save(target / "evaluation" / "samples.npy", real[100:])
    return [int(label) for label in labels[100:]]


def _classifier(target: Path) -> Any:
    """Crops of photographs on which the float model is sure; what it is not sure of flips at any change and tells nothing."""
    import cv2

    from edgesdk_converters.runner import OnnxRunner
    from edgesdk_converters.zoo import onnx_file

    runner = OnnxRunner(onnx_file("efficientnet-lite0").read_bytes(), threads=2)
    pictures = [_picture(name) for name in PHOTOGRAPHS]
    kept = 0
    for part, seed, count in (("calibration", 40, 200), ("evaluation", 41, CROPS)):
        rng = np.random.default_rng(seed)
        kept, share = 0, [0] * len(pictures)
        for _ in range(200 * count):
            index = int(rng.choice(len(pictures), p=_fair(share)))
            crop = _crop(rng, pictures[index])
            share[index] += 1
            resized = np.asarray(cv2.resize(crop, (224, 224), interpolation=cv2.INTER_LINEAR))
            (logits,) = runner.run([((resized[..., ::-1].astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]])
            likely = np.exp(logits[0] - logits.max())
            if likely.max() / likely.sum() < SURE:
                continue
            cv2.imwrite(str(target / part / f"{kept:04}.png"), crop)
            kept += 1
            if kept == count:
                break
    return {"crops": kept}


def _fair(share: list[int]) -> NDArray[np.float64]:
    """Every photograph is tried about as often as any other."""
    weight = 1.0 / (1.0 + np.asarray(share, float))
    return np.asarray(weight / weight.sum())


def _crop(rng: np.random.Generator, image: Pixels) -> Pixels:
    import cv2

    least = min(image.shape[:2])
    side = int(rng.integers(min(160, least), least + 1))
    y, x = (int(rng.integers(0, image.shape[axis] - side + 1)) for axis in (0, 1))
    crop = image[y : y + side, x : x + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    lit: Any = cv2.convertScaleAbs(crop, alpha=float(rng.uniform(0.8, 1.2)), beta=float(rng.uniform(-12, 18)))
    return np.ascontiguousarray(lit, np.uint8)


def _picture(name: str) -> Pixels:
    import cv2

    from edgesdk.sources.reading import read_picture
    from edgesdk_converters.zoo import media

    read = read_picture(media(name))
    pixels = np.asarray(read.pixels)
    if read.colour == "GREY":
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    return np.asarray(pixels[..., ::-1] if read.colour == "RGB" else pixels, np.uint8)


def _lines(target: Path) -> Any:
    """Lines of text in the fonts of this machine, else in OpenCV's; sizes, inks, grounds, noise and blur vary."""
    import cv2

    truth = []
    for part, seed, count in (("calibration", 51, 160), ("evaluation", 52, LINES)):
        rng = np.random.default_rng(seed)
        for number in range(count):
            text, pixels = _line(rng)
            cv2.imwrite(str(target / part / f"{number:04}.png"), pixels)
            if part == "evaluation":
                truth.append(text)
    return truth


WORDS = (HERE / "words.txt").read_text("utf-8").split()
"""Of the rendered lines."""


def _words(rng: np.random.Generator) -> str:
    kind = int(rng.integers(5))
    words = [str(rng.choice(WORDS)) for _ in range(int(rng.integers(1, 4)))]
    number = f"{int(rng.integers(10 ** int(rng.integers(1, 6))))}"
    if kind == 0:
        return " ".join(words)
    if kind == 1:
        return " ".join(words).capitalize()
    if kind == 2:
        return " ".join(words[:2]).upper()
    if kind == 3:
        return f"{words[0].capitalize()} {number}"
    return f"{chr(65 + int(rng.integers(26)))}{number}-{int(rng.integers(10, 100))}"


def _line(rng: np.random.Generator) -> tuple[str, Pixels]:
    import cv2

    fonts = [str(path) for path in sorted(FONTS.rglob("*.ttf")) if "Math" not in path.name]
    text = _words(rng)
    size = int(rng.integers(20, 44))
    margin = int(rng.integers(3, 9))
    ground, ink = float(rng.uniform(150, 250)), rng.uniform(0, 90, 3)
    if rng.random() < 0.2:
        ground, ink = 255 - ground, 255 - ink
    canvas: Any = np.full((3 * size, 40 * size, 3), ground, np.float32) + rng.uniform(-12, 12, 3).astype(np.float32)
    canvas = canvas.clip(0, 255).astype(np.uint8)
    before = canvas.copy()
    if fonts and hasattr(cv2, "FontFace"):
        face = cv2.FontFace(str(rng.choice(fonts)))
        cv2.putText(canvas, text, (margin, 2 * size), ink.tolist(), face, size)
    else:
        font = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)[int(rng.integers(3))]
        cv2.putText(canvas, text, (margin, 2 * size), font, size / 30, ink.tolist(), 2, cv2.LINE_AA)
    ys, xs = np.nonzero((canvas != before).any(axis=2))
    top, bottom = max(0, ys.min() - margin), ys.max() + margin
    line = canvas[top:bottom, max(0, xs.min() - margin) : xs.max() + margin].astype(np.float32)
    along = np.linspace(rng.uniform(0.85, 1.1), rng.uniform(0.85, 1.1), line.shape[1])
    line = line * along[None, :, None]
    if rng.random() < 0.4:
        line = cv2.GaussianBlur(line, (0, 0), float(rng.uniform(0.4, 0.9)))
    line = line + rng.normal(0, rng.uniform(0, 8), line.shape)
    if line.shape[1] > 6.6 * line.shape[0]:
        # Wider than the model's window: it would be read in several, and one inference would not be one line.
        return _line(rng)
    return text, np.asarray(line.clip(0, 255), np.uint8)


def _zoo_pictures(name: str, calibration: int, evaluation: int) -> Callable[[Path], Any]:
    def build(target: Path) -> Any:
        from edgesdk_converters.zoo.samples import calibration_folder, sample_folder

        calibration_folder(name, target / "calibration", count=calibration)
        sample_folder(name, target / "evaluation", count=evaluation)
        return [180 * (number % 2) for number in range(evaluation)] if name == "ppocr-cls" else None

    return build


def _detector(target: Path) -> Any:
    scenes = scene_module()
    for part, seed, count in (("calibration", 33, 128), ("evaluation", 32, SCENES)):
        scenes.write_folder(target / part, count=count, seed=seed)
    return json.loads((target / "evaluation" / "labels.json").read_text("utf-8"))["objects"]


def scene_module() -> ModuleType:
    """`examples/train_detector/scenes.py`: an example is no package."""
    spec = importlib.util.spec_from_file_location("train_detector_scenes", DETECTOR / "scenes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _sentences(target: Path) -> Any:
    """Documents and two questions to each; half of other sentences calibrate."""
    import yaml

    from edgesdk_converters.zoo import media
    from edgesdk_converters.zoo.wordpiece import WordPiece

    tokenizer = WordPiece.from_file(media("minilm-tokenizer"))
    content = yaml.safe_load((HERE / "sentences.yaml").read_text("utf-8"))
    documents = [entry["document"] for entry in content["retrieval"]]
    queries = [(query, index) for index, entry in enumerate(content["retrieval"]) for query in entry["queries"]]

    def write(path: Path, texts: Iterator[str]) -> None:
        rows = [tokenizer(text, 128) for text in texts]
        ids, mask = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
        np.savez(path, input_ids=ids, attention_mask=mask)

    write(target / "calibration" / "sentences.npz", iter(content["calibration"]))
    write(target / "evaluation" / "sentences.npz", iter([*documents, *(query for query, _ in queries)]))
    return {"documents": len(documents), "answers": [index for _, index in queries]}


BUILDERS: dict[str, Callable[[Path], Any]] = {
    "kws-ds-cnn": _kws,
    "efficientnet-lite0": _classifier,
    "ppocr-det": _zoo_pictures("ppocr-det", 48, 64),
    "ppocr-cls": _zoo_pictures("ppocr-cls", 100, 200),
    "ppocr-rec": _lines,
    "blazeface": _zoo_pictures("blazeface-short", 100, 150),
    "detector": _detector,
    "minilm": _sentences,
}
