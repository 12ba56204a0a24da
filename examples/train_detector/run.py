"""Converts the trained detector for a board, then finds the objects of scenes that it has never seen.

python examples/train_detector/run.py [--model FILE] [--device ID]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scenes import CLASSES, Scene, scenes, write_folder

import edgesdk
from edgesdk.samples import Picture
from edgesdk.tasks.results import Detections
from edgesdk.tasks.vision.draw import annotate
from edgesdk_converters.guard.metrics.boxes import Boxes, boxes_of, f1, match
from edgesdk_converters.pipeline import convert
from edgesdk_converters.progress import for_stream

HERE = Path(__file__).parent
CALIBRATION_SEED, TEST_SEED = 3, 11
SHOWN = 4
"""Scenes in the picture that is written."""


def main() -> int:
    """Draw, convert, predict, compare with what was drawn."""
    parser = argparse.ArgumentParser(description="Convert the example detector and try it on scenes it has never seen.")
    parser.add_argument("--model", type=Path, default=HERE / "detector.onnx", help="what train.py wrote")
    parser.add_argument("--device", default="raspberry-pi-5", help="a board: edgesdk profile list")
    parser.add_argument("--scenes", type=int, default=50, help="how many to try")
    parser.add_argument("--picture", type=Path, help="write some of them with what was found drawn in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calibration = write_folder(Path(folder) / "calibration", count=64, seed=CALIBRATION_SEED)
        bundle = Path(folder) / "detector.edge"
        conversion = convert(
            options.model, device=options.device, calibration=calibration, output=bundle, progress=for_stream()
        )
        for variant in conversion.manifest.variants:
            print(f"{variant.id}: {_quality(bundle, variant.id, options.scenes)}")
        if options.picture:
            _draw(bundle, options.picture)
    return 0


def _quality(bundle: Path, variant: str, count: int) -> str:
    """F1 at IoU 0.5 against what was drawn."""
    matched = found = there = 0
    with edgesdk.load(bundle, variant=variant) as model:
        for one in scenes(count, seed=TEST_SEED):
            mine = boxes_of(model(_picture(one)))
            truth = Boxes(xyxy=one.xyxy.astype(np.float64), scores=np.ones(len(one.xyxy)), class_ids=one.class_ids)
            matched, found, there = matched + match(truth, mine), found + len(mine), there + len(truth)
    return (
        f"{there} objects in {count} scenes, {found} found, {matched} of them right, F1 {f1(matched, there, found):.3f}"
    )


def _draw(bundle: Path, path: Path) -> None:
    import cv2

    with edgesdk.load(bundle) as model:
        drawn = []
        for one in scenes(SHOWN, seed=TEST_SEED):
            result = model(_picture(one))
            assert isinstance(result, Detections)
            drawn.append(annotate(_picture(one), result).pixels)
    cv2.imwrite(str(path), np.hstack(drawn), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{path}: {', '.join(CLASSES)} as the board sees them")


def _picture(one: Scene) -> Picture:
    return Picture(pixels=one.pixels, colour="BGR")


if __name__ == "__main__":
    raise SystemExit(main())
